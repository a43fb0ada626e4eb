"""Every write of every stage fails once: a message and an exit code, and the same command with room again gives the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.observe.synthetic import RunBuilder
from tests.storage.faults import fail_everywhere
from undo_hpc.cluster.signals import StopSignals
from undo_hpc.control.planning import current_state
from undo_hpc.control.tidy import tidy
from undo_hpc.engines import Completion, Request
from undo_hpc.engines.base import digest
from undo_hpc.errors import ExitCode
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import create_or_open, open_run
from undo_hpc.records import Grade
from undo_hpc.stages import evaluate, generate, train
from undo_hpc.stages.prepare import prepare, read_inputs
from undo_hpc.storage import lease as lease_module
from undo_hpc.storage import leftovers
from undo_hpc.storage.atomic import publish_dir, write_json
from undo_hpc.storage.manifest import read_manifest, verify_outputs
from undo_hpc.training.spec import RECORD
from undo_hpc.worker import run_task


class Engine:
    """Answers at once."""

    def describe(self) -> dict[str, Any]:
        return {"engine": "test", "template_sha": "t", "system_prompt": "", "chat_template_kwargs": {}}

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool]
    ) -> Iterator[Completion]:
        for request in requests:
            text = f"Add them, for {request.prompt[-30:]}: \\boxed{{{len(request.prompt)}}}"
            yield Completion(request.id, text, "stop", 5, 7, digest(request.prompt))

    def close(self) -> None:
        return None


class Checker:
    """Every answer is right."""

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *error: object) -> None: ...

    def grade_many(self, items: Sequence[Any]) -> list[Grade]:
        return [Grade("correct", "1", "number") for _ in items]


def ranks(ctx: Any, spec: Path, number: int) -> int:
    """What a training leaves. (Its own writes: tests/training/test_every_write.py.)"""
    temporary = ctx.at.student.with_name(".student.tmp")
    for name in ("config.json", RECORD):
        write_json(temporary / name, {"model_type": "synthetic", "steps": 2, "final_loss": 0.5, "tokens": 20})
    publish_dir(temporary, ctx.at.student)
    return int(ExitCode.COMPLETE)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines, a checker and a training that cost nothing; nobody waits for a lease that a failing disk has kept."""
    for stage in (generate, evaluate):
        monkeypatch.setattr(stage, "load_engine", lambda *_, **__: Engine())
        monkeypatch.setattr(stage, "open_checker", lambda ctx: Checker())
    monkeypatch.setattr(train, "_run", ranks)
    monkeypatch.setattr(train, "check_models", lambda *_: None)
    monkeypatch.setattr(lease_module, "alive_here", lambda pid, start: False)
    monkeypatch.setattr(lease_module, "WATCH_S", 0.0)
    monkeypatch.setattr(leftovers, "process_start", lambda pid: "")
    for name in ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


STAGES = ("generate", "merge", "train", "evaluate", "advance")


def work(root: Path, stage: str) -> None:
    with StopSignals() as signals:
        assert run_task(root, stage, 0, 0, signals) == ExitCode.COMPLETE


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planned run of three problems and one shard."""
    sets = ["generate.shards=1", "evaluate.baseline=false", "display.report=false", "storage.flush_rows=2"]
    builder = RunBuilder(
        tmp_path_factory.mktemp("faults") / "run", problems=3, validation=2, benchmarks={}, sets=sets
    )
    builder.plan(0)
    return builder.root


@pytest.mark.parametrize("stage", STAGES)
def test_stages(built: Path, stage: str) -> None:
    for name in STAGES[: STAGES.index(stage)]:  # complete already, where the tests before were not left out
        work(built, name)
    expected: dict[str, str] = {}

    def check(root: Path) -> None:
        run = open_run(root)
        plan = run.plan(0)
        assert plan is not None
        task = next(s for s in build_graph(run.config, run.layout, plan) if s.name == stage).tasks[0]
        manifest = read_manifest(root / task.manifest)
        assert manifest is not None and not verify_outputs(root, manifest, deep=True)
        digests = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in manifest.outputs}
        assert not expected or digests == expected, "other bytes"
        expected.update(digests)
        tidy(run)
        assert not list(root.rglob("*.tmp")), "files are left"

    calls, starts = fail_everywhere(built, lambda root: work(root, stage), check)
    assert calls > 10 and starts > calls


def test_prepare_and_plan(tmp_path: Path) -> None:
    """What the launcher writes before anything is submitted."""
    from undo_hpc.config.load import override
    from undo_hpc.config.schema import RunConfig

    config = override(
        RunConfig(),
        ["name=x", "data.train.tiny=train", "data.train.sample=4", "data.validation=1", "data.diagnosis=1",
         "teacher.model=tiny:teacher", "student.model=tiny:student", "generate.shards=2", "evaluate.benchmarks=[]"],
    )  # fmt: skip
    inputs = read_inputs(config)
    expected: dict[str, str] = {}

    def start(root: Path) -> None:
        run = create_or_open(config, root, command=["test"])
        prepare(run, inputs)
        current_state(run)

    def check(root: Path) -> None:
        files = [*(root / "splits").glob("*.jsonl"), *(root / "iter_000" / "targets").glob("*")]
        digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
        assert not expected or digests == expected, "other bytes"
        expected.update(digests)
        tidy(open_run(root))
        assert len(digests) >= 5 and not list(root.rglob("*.tmp")), "files are left"

    (tmp_path / "empty").mkdir()
    calls, starts = fail_everywhere(tmp_path / "empty", start, check)
    assert calls > 10 and starts > calls
