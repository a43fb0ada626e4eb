"""The engine of these runs: an answer is a matter of its prompt and seed alone, and takes a moment. No model is loaded, so a start costs a second."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines.base import Completion, Request, digest, never


class Answers:
    """Writes a few lines and a number that follow from (prompt, seed)."""

    def __init__(self, config: EngineConfig, model: ModelConfig) -> None:
        self._seconds = float(config.options.get("seconds", 0.1))

    def describe(self) -> dict[str, Any]:
        """What the answers depend on."""
        return {"engine": "answers"}

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool] = never
    ) -> Iterator[Completion]:
        """One answer after the other."""
        for request in requests:
            if should_stop():
                return
            time.sleep(self._seconds)
            numbers = hashlib.sha256(f"{request.seed} {request.prompt}".encode()).digest()
            steps = [f"{a} + {b} = {a + b}" for a, b in zip(numbers[:3], numbers[3:6], strict=True)]
            text = "\n".join([*steps, f"#### {numbers[6] % 30}"])
            yield Completion(
                request.id, text, "stop", len(request.prompt.split()), 20, digest(request.prompt)
            )

    def close(self) -> None:
        """Nothing is held."""
