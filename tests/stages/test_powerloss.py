"""Power loss at every call of whole tasks: generate and merge, from the lease to the manifest. See tests/storage/powerloss.py.

After each the launcher looks, and the same task is started again: no acknowledged row is asked for again, none is doubled, and the
results are, byte for byte, those of a run that nothing happened to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.stages.build import make_problems, make_run
from tests.storage.powerloss import Recording, check_all
from undo_hpc.cluster.signals import StopSignals
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import discard_stale
from undo_hpc.control.tidy import tidy
from undo_hpc.engines import Completion, Request
from undo_hpc.engines.base import digest
from undo_hpc.errors import ExitCode
from undo_hpc.grading import Grade
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.stages import attempts, generate
from undo_hpc.storage import lease as lease_module
from undo_hpc.storage import leftovers
from undo_hpc.worker import run_task

PROBLEMS = make_problems(6)


class Engine:
    """Answers at once; notes what it was asked."""

    asked: ClassVar[list[str]] = []

    def describe(self) -> dict[str, Any]:
        return {"engine": "test", "template_sha": "t", "system_prompt": "", "chat_template_kwargs": {}}

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool]
    ) -> Iterator[Completion]:
        for request in requests:
            Engine.asked.append(request.id)
            text = f"Add them, for {request.prompt[:20]}: \\boxed{{1}}"
            yield Completion(request.id, text, "stop", 5, 7, digest(request.prompt))

    def close(self) -> None:
        return None


class Checker:
    """Every answer is right: what is tested here is where it is kept."""

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *error: object) -> None: ...

    def grade_many(self, items: Sequence[Any]) -> list[Grade]:
        return [Grade("correct", "1", "number") for _ in items]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine and a checker that cost nothing; the owner of every lease and temporary file died with the power."""
    monkeypatch.setattr(generate, "load_engine", lambda *_, **__: Engine())
    monkeypatch.setattr(generate, "open_checker", lambda ctx: Checker())
    monkeypatch.setattr(lease_module, "alive_here", lambda pid, start: False)
    monkeypatch.setattr(
        lease_module, "WATCH_S", 0.0
    )  # a torn lease names no owner, and is watched for so long
    monkeypatch.setattr(leftovers, "process_start", lambda pid: "")
    for name in ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def work(root: Path, stage: str, index: int = 0) -> None:
    with StopSignals() as signals:
        assert run_task(root, stage, 0, index, signals) == ExitCode.COMPLETE


def results(run: Run) -> dict[str, str]:
    """Digests of what must not depend on what happened."""
    at = run.layout.iteration(0)
    files = [*at.answers("generate").glob("*.jsonl"), *at.distilled.glob("*")]
    return {run.layout.relative(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


def reopened(root: Path) -> Run:
    """What the launcher does first: it looks, and discards what is damaged."""
    run = open_run(root)
    discard_stale(run, current_state(run))
    tidy(run)
    return run


def test_generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 1, storage={"flush_rows": 2})
    keep = attempts.AttemptStore._keep
    with Recording(run.layout.root) as recording:
        with monkeypatch.context() as noted:

            def kept(store: Any, batch: list[Completion], *more: Any) -> None:
                keep(store, batch, *more)
                recording.acknowledge(" ".join(completion.id for completion in batch))

            noted.setattr(attempts.AttemptStore, "_keep", kept)
            work(run.layout.root, "generate")
        recording.acknowledge("complete")
    expected, everything = results(run), {f"{p.problem_id}/0" for p in PROBLEMS}
    assert len(expected) == 1

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        state = current_state(reopened(root))
        done = next(s.state for s in state.statuses if s.stage == "generate") == "done"
        assert done or "complete" not in acknowledged, "a complete task is lost"
        Engine.asked = []
        work(root, "generate")
        durable = set(" ".join(acknowledged).split()) & everything
        assert not durable & set(Engine.asked), "an acknowledged row was asked for again"
        assert len(Engine.asked) == len(set(Engine.asked))
        assert results(open_run(root)) == expected, "other bytes"
        open_run(root).layout.iteration(0).stage_manifest("advance").write_text(
            "{}"
        )  # the iteration has ended
        tidy(open_run(root))
        assert not list(root.rglob("*.tmp")) and not list(root.rglob("*.parts")), "files are left"

    assert check_all(recording, tmp_path / "s", check) > 100


def test_merge_and_merge_again(tmp_path: Path) -> None:
    """The second time over the first set, as where a shard was damaged and is made again."""
    run = make_run(tmp_path / "run", PROBLEMS, 1, method={"errors_from": "train", "wrong_rationales": "keep"})
    work(run.layout.root, "generate")
    at = run.layout.iteration(0)
    with Recording(run.layout.root) as recording:
        for number in range(2):
            work(run.layout.root, "merge")
            recording.acknowledge(str(number))
            if not number:
                at.stage_manifest("merge").unlink()
    expected = results(run)
    assert len(expected) == 3

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        state = current_state(reopened(root))
        done = next(s.state for s in state.statuses if s.stage == "merge") == "done"
        assert done or "1" not in acknowledged, "a complete task is lost"
        work(root, "merge")
        assert results(open_run(root)) == expected, "other bytes"
        assert not list(root.rglob("*.tmp")), "files are left"

    assert check_all(recording, tmp_path / "s", check) > 50
