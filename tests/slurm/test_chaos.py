"""A short fixed round of `make chaos` (docs/reliability.md): one run, seven faults, and what must hold after it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import figures
from tests.chaos.campaign import REPO, SHIM, own_disk, small_run
from tests.chaos.checks import Wanted, check, compare
from tests.chaos.plan import KINDS, plan
from tests.chaos.slot import SETTINGS
from tests.chaos.trial import Outcome, Planned, Trial
from tests.slurm.small import Campaign
from tests.slurmlab import Lab
from tests.slurmlab.fixtures import require_slurm

ROUND = (
    Planned("launch", "launcher killed", 0.0),
    Planned("generate", "kill: all of a task", 1.0),
    Planned("generate", "flipped: before it is read", 0.0),
    Planned("train", "torn: in the making", 1.0),
    Planned("evaluate", "scancel", 0.5),
    Planned("evaluate", "full disk", 0.0),
    Planned("end", "torn: at rest", 0.0),
)


@pytest.fixture(scope="module")
def undisturbed_run(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The run of the trials, with nothing in its way."""
    require_slurm()
    campaign = small_run(tmp_path_factory.mktemp("chaos") / "undisturbed")
    campaign.run_locally()
    return campaign


def test_a_disturbed_run_ends_like_an_undisturbed_one(
    undisturbed_run: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lab(SETTINGS) as lab:
        for name, value in lab.env().items():
            monkeypatch.setenv(name, value)
        campaign, out = small_run(tmp_path / "trial"), Outcome(0, 0)
        with own_disk(campaign.run_dir) as disk:
            trial = Trial(lab, campaign, random.Random(5), out, {}, disk)
            trial.run(list(ROUND), KINDS)
            check(trial, Wanted.of(undisturbed_run))
            figures.count("chaos", faults=len(out.faults), rows_lost=out.lost, rows_doubled=out.doubled)
            assert not out.violations, f"{out.violations}\n{campaign.logs()}"
    assert len(out.faults) + len(out.missed) == len(ROUND) and len(out.faults) >= 4, out


def test_the_checks_can_fail(undisturbed_run: Campaign, tmp_path: Path) -> None:
    """A row lost and one doubled, other weights, a file left: each is said."""
    wanted, campaign = Wanted.of(undisturbed_run), small_run(tmp_path / "copy")
    shutil.copytree(undisturbed_run.run_dir, campaign.run_dir)
    at = campaign.run_dir / "iter_000"
    lines = (at / "generate" / "shard-00000.jsonl").read_text().splitlines(keepends=True)
    (at / "generate" / "shard-00000.jsonl").write_text("".join([*lines[1:], lines[-1]]))
    (at / "student" / "model.safetensors").write_bytes(b"other")
    (at / "train" / "checkpoints" / ".state.vm-1-0123abcd.tmp").touch()
    out = Outcome(0, 0)
    compare(campaign, wanted, out)
    assert (out.lost, out.doubled) == (1, 1)
    said = " ".join(out.violations)
    assert "shard-00000.jsonl" in said and "student/model.safetensors" in said and ".tmp" in said


def test_a_seed_is_a_plan() -> None:
    assert plan(3, 4, 20) == plan(3, 4, 20) != plan(3, 5, 20)
    assert {fault.kind for number in range(60) for fault in plan(0, number, 20).faults} == set(KINDS)


def test_a_process_sees_what_it_has_put_in_the_place_of_another(tmp_path: Path) -> None:
    """Where names show late, as on NFS, those of the process itself do not."""
    code = """if True:
        import sys
        from pathlib import Path
        from undo_hpc.storage.atomic import publish_dir, write_text
        made = Path(sys.argv[1], "made")
        made.mkdir()
        write_text(made / "file", sys.argv[2])
        publish_dir(made, made.with_name("final"))
        print(made.with_name("final").joinpath("file").read_text())
        """
    env = os.environ | {"PYTHONPATH": f"{SHIM}:{REPO}", "CHAOS_ROOT": str(tmp_path), "CHAOS_LATE_S": "1"}
    for turn in ("first", "again"):  # the folder that is replaced is another process's
        command = [sys.executable, "-c", code, str(tmp_path), turn]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.stdout.split() == [turn], done.stderr
        time.sleep(1.2)  # its names show by now
