"""What a cluster refuses is told in words before anything is submitted, and nothing is left behind."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.small import Campaign, limit_submissions
from tests.slurmlab import Lab
from tests.slurmlab.processes import wait_until
from undo_hpc.cluster.profile import load_profile
from undo_hpc.cluster.propose import propose_profile
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import open_run

Make = Callable[..., Campaign]


def refused(small: Campaign, *words: str, code: int = 1) -> str:
    """Launches, and expects a message with these words and no traceback."""
    done = small.launch(check=False)
    assert done.returncode == code, done.stdout + done.stderr
    for word in ("error:", "->", *words):
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr


ONE_GPU_TO_TRAIN = {"stages": {"train": {"gpus_per_node": 1}}}  # as many as it has processes


@pytest.mark.parametrize(
    ("defaults", "more", "words"),
    [
        ({"partition": "nowhere"}, {}, ("no such partition", "nowhere", "sinfo")),
        (
            {"gpus_per_node": 8},
            {"gpu_syntax": "gres"} | ONE_GPU_TO_TRAIN,
            ("stage generate", "gpus_per_node"),
        ),
        (
            {"gpus_per_node": 1},
            {"gpu_syntax": "gres", "gpu_type": "h900"},
            ("no node of the partition", "gpus_per_node"),
        ),
        ({"constraint": "unobtainium"}, {}, ("feature", "constraint")),
        ({"cpus_per_task": 500}, {}, ("no node of the partition", "cpus_per_task")),
    ],
)
def test_what_the_cluster_lacks(
    lab: Lab, campaign: Make, defaults: dict[str, object], more: dict[str, object], words: tuple[str, ...]
) -> None:
    small = campaign()
    small.profile["defaults"] |= defaults
    small.profile |= more
    refused(small, *words)
    assert lab.jobs() == []
    assert not (small.run_dir / "submissions.jsonl").exists()


def test_nodes_that_are_away_are_waited_for(
    lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`sbatch --test-only` refuses what sbatch takes while the nodes are drained, as for maintenance."""
    small = campaign()
    lab.run("scontrol", "update", "NodeName=ALL", "State=DRAIN", "Reason=maintenance")
    try:
        done = small.launch()
        assert "generate waits: no node can run it now; 4 of the 4 nodes that could are down" in done.stderr
        waits_for = collect_status(open_run(small.run_dir)).stages[0].waits_for
        assert "nodes that it needs are down" in waits_for or "no node is free" in waits_for, waits_for
        small.profile["defaults"]["cpus_per_task"] = 500
        small.config["seed"] = 4
        other = Campaign(small.folder / "other", small.config, small.profile)
        other.folder.mkdir()
        refused(other, "no node of the partition", "cpus_per_task")
        (tmp_path / "sinfo").write_text("#!/bin/sh\nexit 1\n")  # as where it is not for users
        (tmp_path / "sinfo").chmod(0o755)
        small.profile["defaults"]["cpus_per_task"] = 1
        with monkeypatch.context() as m:
            m.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
            refused(other, "no node of the partition")
    finally:
        lab.run("scontrol", "update", "NodeName=ALL", "State=RESUME")
    wait_until(lambda: small.events("generate"), 120, "the tasks to start once the nodes are back")


def test_jobs_whose_limits_were_lowered_since_have_a_next_command(lab: Lab, campaign: Make) -> None:
    small = campaign()
    small.profile["defaults"]["partition"] = "high"
    lab.run("scontrol", "update", "PartitionName=high", "State=DOWN")
    try:
        small.launch()
        lab.run("scontrol", "update", "PartitionName=high", "MaxTime=1", "State=UP")
        wait_until(lambda: any(job["reason"] == "PartitionTimeLimit" for job in lab.jobs()), 60, "the reason")
        view = collect_status(open_run(small.run_dir))
        assert "run_iteration.py" in view.next_command and "more time than the partition" in view.next_why
        small.profile["defaults"]["minutes"] = 1
        small.profile["signal_lead_s"] = 10
        assert "PartitionTimeLimit" in small.launch().stderr
        wait_until(lambda: small.events("generate"), 120, "the tasks to start")
    finally:
        lab.run("scontrol", "update", "PartitionName=high", "MaxTime=UNLIMITED", "State=UP")


def test_a_closed_partition(lab: Lab, campaign: Make) -> None:
    small = campaign()
    small.profile["defaults"]["partition"] = "high"
    lab.run("scontrol", "update", "PartitionName=high", "State=DRAIN")
    try:
        refused(small, "the partition takes no jobs now", "sinfo -s")
    finally:
        lab.run("scontrol", "update", "PartitionName=high", "State=UP")
    assert lab.jobs() == []


def test_a_refused_account(start_lab: Callable[..., Lab], campaign: Make) -> None:
    lab = start_lab(accounting="dbd")
    small = campaign()
    small.profile["defaults"]["account"] = "somebody-elses"
    refused(small, "account", "sacctmgr")
    assert lab.jobs() == []

    small.profile["defaults"]["account"] = "science"
    limit_submissions(lab, 2)
    words = "generate takes 2 places in the queue, and the stage behind it one more", "science 2"
    refused(small, "that many jobs in the queue", "max_array_size", *words)
    wait_until(lambda: not lab.jobs(), 30, "what was accepted before to be taken back")


def instead_of_sbatch(small: Campaign, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts a script in front of sbatch, which the script itself still calls by its name; `--test-only` passes it by."""
    shim = small.folder / "shim"
    shim.mkdir(parents=True)
    real = os.environ["PATH"]
    (shim / "sbatch").write_text(f'''#!/bin/bash
launcher=$PPID
PATH="{real}"
case " $* " in *" --test-only "*) exec sbatch "$@";; esac
{script}
''')
    (shim / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim}:{real}")


def test_a_stage_that_is_refused_later_takes_the_others_back(
    lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch --test-only passes, then sbatch itself says no: what was accepted before is cancelled."""
    small = campaign()
    instead_of_sbatch(
        small,
        monkeypatch,
        '''
if grep -q job-name=train "$1"; then echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2; exit 1; fi
sbatch "$@"''',
    )
    refused(small, "limit of your account")
    assert [job for job in lab.jobs() if job["state"] not in ("COMPLETING", "CANCELLED")] == []


def test_ctrl_c_while_jobs_are_submitted_takes_all_of_them_back(
    lab: Lab, campaign: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = campaign()
    instead_of_sbatch(
        small,
        monkeypatch,
        """
sbatch "$@"  # SLURM has the job by then, and the launcher never hears of it
if grep -q job-name=merge "$1"; then kill -INT "$launcher"; sleep 5; fi""",
    )
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # where tests run in the background it is ignored, and that is inherited
    try:
        assert small.launch(check=False).returncode == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert [job for job in lab.jobs() if job["state"] not in ("COMPLETING", "CANCELLED")] == []


def test_an_unknown_key_of_the_profile(lab: Lab, campaign: Make) -> None:
    small = campaign()
    small.profile["signal_led_s"] = 3
    refused(small, "signal_led_s", "signal_lead_s", "line", code=2)
    assert lab.jobs() == []


def test_no_slurm_here(campaign: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(campaign(), "no SLURM here", "--cluster local")


def test_a_controller_that_does_not_answer(
    campaign: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lab = Lab()
    lab.configure()
    monkeypatch.setenv("SLURM_CONF", str(lab.slurm_conf))
    small = campaign()
    try:
        refused(small, "cannot be reached", "nothing is lost")
    finally:
        lab.stop()
    assert not (small.run_dir / "submissions.jsonl").exists()


def test_a_run_directory_that_the_nodes_do_not_see(start_lab: Callable[..., Lab], campaign: Make) -> None:
    lab = start_lab(extra=("NodeName=far1 CPUs=4 RealMemory=1000 NodeAddr=10.255.255.1 State=DOWN",))
    small = campaign()
    refused(small, "shared file system", "cluster.check_shared=false")
    assert lab.jobs() == []
    assert small.launch("--set", "cluster.check_shared=false").returncode == 0


def test_a_proposed_profile_is_valid_and_works_here(
    start_lab: Callable[..., Lab], campaign: Make, tmp_path: Path
) -> None:
    start_lab(accounting="dbd")
    file = tmp_path / "proposed.yaml"
    file.write_text(propose_profile())
    profile = load_profile(file)
    assert profile.defaults.gpus_per_node == 1 and profile.defaults.account == "science"
    assert profile.stages["train"].gpus_per_node == 2
    small = campaign()
    small.profile = json.loads(profile.model_dump_json(exclude_defaults=True))
    assert small.launch().returncode == 0
