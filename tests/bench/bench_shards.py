"""The way of answers to the disk: rows a second with group fsync, alone and with grading; and what a restart asks again."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.frame import Measure

ROWS = 10_000
REPEATS = 5
CHARACTERS = 1200  # of a rationale: about 350 tokens


class Instant:
    """An engine that answers at once, so that what is left is our own work; it may break off after a number of answers."""

    def __init__(self, most: int = 10**9) -> None:
        self.answered: list[str] = []
        self._most = most

    def describe(self) -> dict[str, Any]:
        return {"engine": "instant"}

    def generate(self, requests: Sequence[Any], *, should_stop: Callable[[], bool]) -> Iterator[Any]:
        from undo_hpc.engines.base import Completion, digest
        from undo_hpc.errors import EngineError

        for request in requests:
            if len(self.answered) >= self._most:
                raise EngineError("broken off")
            should_stop()
            self.answered.append(request.id)
            text = "First we add what was bought. " * (CHARACTERS // 30) + "\\boxed{7}"
            yield Completion(request.id, text, "stop", 100, 350, digest(request.prompt))

    def close(self) -> None:
        return None


def measures() -> Iterator[Measure]:
    """Wall time, for an fsync costs no CPU time."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        root = Path(folder)
        yield Measure(
            "shards.writer",
            "rows appended a second, fsync each 64",
            writer(root),
            None,
            ">=5000",
            "rows/s",
            f"{CHARACTERS} characters a row",
        )
        engine = Instant()
        whole = statistics.median(answered(root / f"whole-{k}", engine) for k in range(REPEATS))
        what = "answers graded, judged and appended a second (an engine makes some hundreds)"
        yield Measure(
            "shards.answers", what, whole, None, ">=1000", "rows/s", "an engine that answers at once"
        )
        yield restart(root)


def writer(root: Path) -> float:
    """Rows a second of ShardWriter alone."""
    from tests.stages.build import make_attempt, make_problems
    from undo_hpc.storage.shards import ShardWriter

    row = make_attempt(make_problems(1)[0], 0, chars=CHARACTERS).to_dict()
    speeds = []
    for number in range(REPEATS):
        began = time.perf_counter()
        with ShardWriter(root / f"alone-{number}.jsonl", flush_rows=64) as sink:
            for _ in range(ROWS):
                sink.append(row)
        speeds.append(ROWS / (time.perf_counter() - began))
    return statistics.median(speeds)


def answered(root: Path, engine: Instant) -> float:
    """Rows a second from the engine to the disk, in a run directory of its own or one that was begun."""
    from tests.stages.build import context, make_problems, make_run
    from undo_hpc.config.schema import QualityConfig, SamplingConfig
    from undo_hpc.errors import EngineError
    from undo_hpc.pipeline.run import open_run
    from undo_hpc.stages.attempts import AttemptStore, make_requests, open_checker
    from undo_hpc.storage.lease import Lease

    problems = make_problems(ROWS)
    run = open_run(root) if root.exists() else make_run(root, problems, 1)
    at = run.layout.iteration(0)
    with Lease(at.lease("generate", 0), "the benchmark") as lease:
        ctx = context(run, "generate", lease)
        store = AttemptStore(
            ctx,
            at.shard("generate", 0),
            role="teacher",
            sampling=SamplingConfig(),
            quality=QualityConfig(),
            inputs={},
        )
        with open_checker(ctx) as checker:
            requests = make_requests(problems, range(1), lambda p: p.problem, 0.7)
            began = time.perf_counter()
            with contextlib.suppress(EngineError):
                store.answer(engine, checker, requests, len(requests))
            seconds = time.perf_counter() - began
        store.close()
    return ROWS / seconds


def restart(root: Path) -> Measure:
    """Requests that were finished and are asked again after a restart."""
    first, second = Instant(most=ROWS // 2), Instant()
    answered(root / "restarted", first)
    answered(root / "restarted", second)
    again = len(set(first.answered) & set(second.answered))
    assert len(set(first.answered) | set(second.answered)) == ROWS
    return Measure(
        "shards.restart",
        "finished requests that a restart asks again",
        again,
        None,
        "<=0",
        "requests",
        f"broken off after {ROWS // 2} of {ROWS}",
    )
