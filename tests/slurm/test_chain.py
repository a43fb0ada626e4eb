"""A site whose nodes may not submit: launched once, a run goes through its iterations without anybody, and ends where it converges."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.small import Campaign, continued, make_campaign
from tests.slurm.test_sites import journal, shim
from tests.slurmlab import Lab

# The shims stay in front of SLURM's commands in the jobs, too, which know themselves by this variable: ours are called without SLURM_JOB_ID.
IN_JOBS = '[ -z "$UNDO_CONTINUES_RUN" ] || {{ echo "{0}: error: not from compute nodes" >&2; exit 1; }}; '
FROM_LOGIN_NODES = (
    IN_JOBS.format("sbatch")
    + 'real=$(command -v sbatch); export PATH="$(dirname "$0"):$PATH"; exec "$real" "$@"'
)
NO_SCANCEL_IN_JOBS = IN_JOBS.format("scancel") + 'exec scancel "$@"'


CONVERGING: dict[str, Any] = {
    "iterations": 4,
    "stop": {"enabled": True, "epsilon": 0.99, "patience": 1},  # no gain is enough
}
STAGES = {"generate", "merge", "train", "evaluate", "advance"}


@pytest.fixture(scope="session")
def converged_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that may have four iterations, and ends behind its second."""
    local = make_campaign(tmp_path_factory.mktemp("converged"), **CONVERGING)
    local.run_locally()
    return local.folder


def chain(small: Campaign) -> None:
    small.profile |= {"submit_from": "login", "max_array_size": 1}  # an element does the share of two tasks


def ended_alike(small: Campaign, converged_dir: Path) -> None:
    assert small.results() == make_campaign(converged_dir).results(), small.logs()
    assert (small.run_dir / "iter_001" / "advance.manifest.json").exists()
    assert not (small.run_dir / "iter_002" / "plan.json").exists()
    assert "nothing to do" in small.launch().stdout


def test_four_iterations_are_submitted_and_the_run_ends_behind_its_second(
    lab: Lab, converged_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = continued(converged_dir, tmp_path / "chain", **CONVERGING)
    chain(small)
    shim(small, monkeypatch, "sbatch", FROM_LOGIN_NODES)
    done = small.launch()
    assert [f"submitted iteration {k} ahead" in done.stdout for k in (1, 2, 3)] == [True] * 3, done.stdout
    before = journal(small)
    assert "nothing to submit" in small.launch().stdout
    lab.wait_empty(900)
    assert journal(small) == before, "nobody has submitted anything since"
    ended_alike(small, converged_dir)


def test_where_jobs_may_not_cancel_the_rest_ends_by_itself(
    lab: Lab, converged_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the second iteration advance alone is left: it sees that the run ends, and two iterations wait behind it."""
    small = make_campaign(tmp_path / "chain", **CONVERGING)
    shutil.copytree(converged_dir / "run", small.run_dir)
    for name in ("advance.manifest.json", "metrics.json", "feedback.jsonl", "predictions.parquet"):
        (small.run_dir / "iter_001" / name).unlink()
    for path in small.run_dir.glob("iter_*/logs/*.log"):
        path.unlink()
    chain(small)
    shim(small, monkeypatch, "sbatch", FROM_LOGIN_NODES)
    shim(small, monkeypatch, "scancel", NO_SCANCEL_IN_JOBS)
    done = small.launch()
    assert "submitted advance of iteration 1" in done.stdout, done.stdout
    assert [f"submitted iteration {k} ahead" in done.stdout for k in (2, 3)] == [True] * 2, done.stdout
    lab.wait_empty(900)
    for number in (2, 3):
        paths = (small.run_dir / f"iter_{number:03d}" / "logs").glob("*.log")
        logs = {path.name.split("-")[0]: path.read_text() for path in paths}
        assert set(logs) == STAGES
        for text in logs.values():
            assert "nothing to do: the run has ended" in text and "exit code 0" in text, text
    ended_alike(small, converged_dir)
