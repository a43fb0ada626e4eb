"""Generation engines: vLLM in-process, transformers, and any OpenAI-compatible server, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines.base import Completion, Engine, Request, never
from undo_hpc.errors import ConfigError
from undo_hpc.system.plugins import load_object, require_call, require_methods

__all__ = ["Completion", "Engine", "Request", "load_engine", "load_own_engine", "never"]

GROUP = "undo_hpc.engines"  # of entry points
METHODS = ("describe", "generate", "close")


def load_engine(
    config: EngineConfig,
    model: ModelConfig,
    *,
    run_dir: Path | None = None,
    iteration: int | None = None,
    service_slack_s: float = 1800.0,
    prompts: Sequence[str] = (),
    max_tokens: int = 0,
    score_k: int = 0,
    server_kind: str = "",
) -> Engine:
    """The engine that the configuration names, ready to generate. Imports it only now, for that may take many seconds.

    Args:
        config: which engine, and its settings.
        model: the model; a local directory, a Hub id, or one of the tiny world.
        run_dir, iteration: where the teacher service of a run publishes its servers (OpenAI engine without `base_url`);
            without `iteration`, the latest one that has servers.
        service_slack_s: how long to wait for a server of that service to come up or back, in seconds.
        prompts: all prompts to come; vLLM's `max_model_len` is derived from the longest of them where nobody set it.
        max_tokens: max new tokens of any request to come.
        score_k: likeliest tokens to be kept, of an engine that is to score texts.
        server_kind: vllm or sglang: what an OpenAI-compatible server is that scores.

    Raises:
        ConfigError, DataError: the settings or the model cannot be used.
        EngineError: the engine cannot start.
    """
    if config.name == "openai" and score_k:
        from undo_hpc.engines.server_scoring import ServerScorer

        return ServerScorer(config, model, server_kind)
    if config.name == "openai":
        from undo_hpc.engines.openai_engine import OpenAIEngine

        return OpenAIEngine(
            config, model, run_dir=run_dir, iteration=iteration, service_slack_s=service_slack_s
        )
    if config.name == "vllm":
        from undo_hpc.engines.vllm_engine import VllmEngine

        return VllmEngine(config, model, prompts=prompts, max_tokens=max_tokens, score_k=score_k)
    if config.name == "transformers":
        from undo_hpc.engines.transformers_engine import TransformersEngine

        return TransformersEngine(config, model)
    engine: Engine = load_own_engine(config.name)(config, model)
    require_methods(engine, *METHODS, key="engine.name")
    return OwnEngine(config.name, engine)


class OwnEngine:
    """A user's engine behind the same interface; what it yields is checked, for it would be stored and trained on."""

    def __init__(self, name: str, engine: Engine) -> None:
        self._name, self._engine = name, engine
        for method in (
            "score",
            "under_way",
        ):  # a protocol does not see what __getattr__ finds, from Python 3.12 on
            if hasattr(engine, method):
                setattr(self, method, getattr(engine, method))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool] = never
    ) -> Iterator[Completion]:
        """A completion for each request. Raises ConfigError for anything else, a second one too: which is the answer?"""
        asked = {request.id for request in requests}
        for found in self._engine.generate(requests, should_stop=should_stop) or ():
            texts = isinstance(found, Completion) and isinstance(found.text, str)
            if not texts or found.id not in asked:
                what = "a completion of no request, or a second one of one" if texts else repr(found)[:200]
                raise ConfigError(
                    f"engine.name: {self._name} yields {what}",
                    hint="generate yields undo_hpc.engines.base.Completion objects with the id of their request and a text",
                )
            asked.remove(found.id)
            yield found


def load_own_engine(name: str, key: str = "engine.name") -> Callable[..., Engine]:
    """What makes an engine of the user's: a class (or function) that takes the EngineConfig and the ModelConfig.

    Raises:
        ConfigError: it cannot be imported, takes other arguments, or lacks a method.
    """
    found = load_object(name, group=GROUP, key=key)
    if isinstance(found, type):
        require_methods(found, *METHODS, key=key)
    return require_call(found, "config", "model", key=key, what=getattr(found, "__name__", name))
