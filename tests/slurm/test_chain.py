"""A site whose nodes may not submit: launched once, a run goes through its iterations without anybody, and ends where it converges."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.small import Campaign, continued, make_campaign
from tests.slurm.test_sites import journal, shim
from tests.slurmlab import Lab

Make = Callable[..., Campaign]
# The shims stay in front of SLURM's commands in the jobs, too, which know themselves by this variable: ours are called without SLURM_JOB_ID.
IN_JOBS = '[ -z "$UNDO_CONTINUES_RUN" ] || {{ echo "{0}: error: not from compute nodes" >&2; exit 1; }}; '
FROM_LOGIN_NODES = (
    IN_JOBS.format("sbatch")
    + 'real=$(command -v sbatch); export PATH="$(dirname "$0"):$PATH"; exec "$real" "$@"'
)
NO_SCANCEL_IN_JOBS = IN_JOBS.format("scancel") + 'exec scancel "$@"'


@pytest.fixture(scope="session")
def converged_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that may have four iterations, and ends behind its second: no gain is enough for it."""
    local = make_campaign(
        tmp_path_factory.mktemp("converged"),
        iterations=4,
        stop={"enabled": True, "epsilon": 0.99, "patience": 1},
    )
    local.run_locally()
    return local.folder


@pytest.mark.parametrize("may_cancel", [True, False])
def test_four_iterations_are_submitted_and_the_run_ends_behind_its_second(
    lab: Lab, converged_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_cancel: bool
) -> None:
    local = make_campaign(converged_dir)
    small = continued(
        converged_dir,
        tmp_path / "chain",
        iterations=4,
        stop={"enabled": True, "epsilon": 0.99, "patience": 1},
    )
    small.profile |= {"submit_from": "login", "max_array_size": 1}  # an element does the share of two tasks
    shim(small, monkeypatch, "sbatch", FROM_LOGIN_NODES)
    if not may_cancel:
        shim(small, monkeypatch, "scancel", NO_SCANCEL_IN_JOBS)
    done = small.launch()
    assert [f"submitted iteration {k} ahead" in done.stdout for k in (1, 2, 3)] == [True] * 3, done.stdout
    before = journal(small)
    assert "nothing to submit" in small.launch().stdout
    lab.wait_empty(900)
    assert journal(small) == before, "nobody has submitted anything since"
    assert small.results() == local.results(), small.logs()
    assert (small.run_dir / "iter_001" / "advance.manifest.json").exists()
    assert not (small.run_dir / "iter_002" / "plan.json").exists()
    if not may_cancel:
        logs = {
            path.name.split("-")[0]: path.read_text()
            for path in (small.run_dir / "iter_003" / "logs").glob("*.log")
        }
        assert set(logs) == {"generate", "merge", "train", "evaluate", "advance"}
        for text in logs.values():
            assert "nothing to do: the run has ended" in text and "exit code 0" in text, text
    assert "nothing to do" in small.launch().stdout
