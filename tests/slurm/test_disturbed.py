"""What clusters do to jobs. After each, the results equal those of a run that nothing happened to."""

import contextlib
import itertools
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from tests.slurm.conftest import STOCK, same_results
from tests.slurm.small import Campaign, continued, has_output, make_campaign
from tests.slurmlab import Lab
from tests.slurmlab.processes import command_of, job_processes, wait_until
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import open_run

Make = Callable[..., Campaign]


def running(lab: Lab, stage: str) -> list[str]:
    """Ids of the running tasks of a stage."""
    return [
        job["id"] for job in lab.jobs() if job["name"].startswith(f"{stage}-") and job["state"] == "RUNNING"
    ]


class Standstill:
    """A stage whose processes were stopped in the middle of their work.

    Attributes:
        task: id of one of its running tasks.
        pids: the stopped processes. Whoever signals a job through SLURM sends SIGCONT first, so they hear it.
    """

    def __init__(self, task: str, pids: list[int]) -> None:
        self.task, self.pids = task, pids

    def let_go(self) -> None:
        """All go on."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def let_others_go(self) -> None:
        """Once the disturbed ones have ended, the others go on."""
        wait_until(lambda: not all(command_of(pid) for pid in self.pids), 120, "a disturbed process to end")
        self.let_go()


def at_work(lab: Lab, small: Campaign, stage: str) -> Standstill:
    """Waits until a stage has done some of its work, and stops it there."""
    found: list[int] = []

    def workers() -> bool:
        program = (
            "undo_hpc.training " if stage == "train" else f"undo_hpc.worker .* {stage} "
        )  # train works in ranks of its own
        found[:] = [
            pid
            for pid in job_processes(lab.slurm_conf)
            if re.search(program, command_of(pid)) and "srun" not in command_of(pid).split()[0]
        ]
        return bool(found)

    wait_until(workers, 600, f"{stage} to start", every=0.2)
    wait_until(lambda: has_output(small, stage), 600, f"{stage} at work", every=0.005)
    stopped_pids: set[int] = set()
    for look_again in (
        True,
        False,
    ):  # at once those that are known; the tasks of an array do not all start together
        for pid in {*found} - stopped_pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                stopped_pids.add(pid)
        if look_again:
            workers()
    still = Standstill("", sorted(stopped_pids))
    tasks = running(lab, stage)
    stopped = [task for task in map(task_of, still.pids) if task in tasks]
    assert stopped, f"{stage} was done before it could be stopped ({still.pids}, {tasks})"
    still.task = stopped[0]
    return still


def task_of(pid: int) -> str:
    """SLURM's name of the task that a process belongs to, by its environment; empty where the process is gone."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    named = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    if "SLURM_ARRAY_TASK_ID" in named:
        return f"{named['SLURM_ARRAY_JOB_ID']}_{named['SLURM_ARRAY_TASK_ID']}"
    return named.get("SLURM_JOB_ID", "")


def given_up(lab: Lab) -> list[str]:
    """Ids of the tasks that SLURM holds since it could not start them."""
    return [job["id"] for job in lab.jobs() if "launch failed" in job["reason"]]


def preempt(lab: Lab, task: str, node: str = "") -> None:
    """A job of a higher priority takes the task's node for itself."""
    node = node or lab.show(task)["NodeList"]
    lab.run("sbatch", "-p", "high", "-w", node, "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")


def test_preempted_with_grace_time_in_every_stage(
    start_lab: Callable[..., Lab], campaign: Make, undisturbed: dict[str, str]
) -> None:
    lab = start_lab(**STOCK, grace=60)
    small = campaign()
    small.profile["defaults"]["partition"] = "lowg"
    small.launch()
    for stage in ("generate", "train", "evaluate"):
        still = at_work(lab, small, stage)
        preempt(lab, still.task)
        still.let_others_go()
    small.wait_ended()
    same_results(small, undisturbed)
    for stage in ("generate", "train", "evaluate"):
        ends = [e for e in small.events(stage) if e["kind"] == "end"]
        assert "preempted" in {e["reason"] for e in ends if e["status"] == "requeue"}, (stage, ends)
    delays = [_restart_delay(small, stage) for stage in ("generate", "train", "evaluate")]
    assert min(delays) < 60, f"a stock cluster holds a requeued job back for 120 s and more: {delays}"


def test_preempted_where_the_site_cancels_instead_of_requeueing(
    start_lab: Callable[..., Lab], begun: Campaign, undisturbed: dict[str, str]
) -> None:
    """Each preemption costs a submission, and is no failure: `cluster.max_resubmits` allows one, and there are three of them."""
    lab = start_lab(**STOCK, kill_wait=30)
    lab.run("scontrol", "update", "PartitionName=low", "PreemptMode=CANCEL")
    begun.launch("--set", "cluster.max_resubmits=1")
    for count in range(1, 4):
        still = at_work(lab, begun, "train")
        preempt(lab, still.task)
        still.let_others_go()
        wait_until(
            lambda: sum(e["kind"] == "end" for e in begun.events("train")) == count,  # noqa: B023
            60,
            "the training to save and end",
        )
    begun.wait_ended()
    same_results(begun, undisturbed)
    starts = {e["job"] for e in begun.events("train") if e["kind"] == "start"}
    assert len(starts) == 4, "four jobs"


def test_preempted_with_no_time_at_all(
    start_lab: Callable[..., Lab], campaign: Make, undisturbed: dict[str, str]
) -> None:
    lab = start_lab(**STOCK, kill_wait=1)
    small = campaign()
    small.launch()
    for stage in ("generate", "train", "evaluate"):
        still = at_work(lab, small, stage)
        preempt(lab, still.task)
        still.let_others_go()
    small.wait_ended()
    same_results(small, undisturbed)
    for stage in ("generate", "train", "evaluate"):
        assert len([e for e in small.events(stage) if e["kind"] == "start" and e["restart"] == "1"]) >= 1, (
            stage
        )


def test_requeued_by_hand_and_cancelled_by_hand(
    start_lab: Callable[..., Lab], campaign: Make, undisturbed: dict[str, str]
) -> None:
    lab = start_lab(**STOCK)
    small = campaign()
    small.launch()
    still = at_work(lab, small, "generate")
    lab.run("scontrol", "requeue", still.task)
    still.let_others_go()
    wait_until(
        lambda: any(e["kind"] == "start" and e["restart"] == "1" for e in small.events("generate")),
        60,
        "the restart",
    )
    still = at_work(lab, small, "train")
    lab.run("scancel", still.task)
    wait_until(lambda: still.task not in running(lab, "train"), 60, "scancel")
    small.wait_ended()  # advance sees that the student is missing, and submits the training again
    same_results(small, undisturbed)


def test_a_task_that_fails_twice_is_resubmitted_by_merge(
    start_lab: Callable[..., Lab], campaign: Make, undisturbed: dict[str, str]
) -> None:
    start_lab(**STOCK)
    small = campaign()
    marks = small.folder / "marks"
    marks.mkdir()
    small.profile["setup"] = [
        f'if [ "$SLURM_ARRAY_TASK_ID" = 1 ] && [ "$(ls {marks} | wc -l)" -lt 2 ]; then touch {marks}/$SLURM_JOB_ID; exit 1; fi'
    ]
    small.launch()
    small.wait_ended()
    same_results(small, undisturbed)
    assert len(list(marks.iterdir())) == 2
    assert [e["kind"] for e in small.events("train") if e["kind"] != "ready"] == ["start", "end"], (
        "training ran once, behind the merge that was complete"
    )


def test_a_task_that_always_fails_ends_the_run_with_a_word(
    start_lab: Callable[..., Lab], campaign: Make
) -> None:
    lab = start_lab(**STOCK)
    small = campaign(cluster__max_resubmits=1)
    small.profile["setup"] = ['if [ "$SLURM_ARRAY_TASK_ID" = 1 ]; then exit 1; fi']
    small.launch()
    wait_until(lambda: not lab.jobs(), 600, "the chain to end", every=0.5)
    assert not small.ended
    stopped = [
        line for line in (small.run_dir / "events.jsonl").read_text().splitlines() if '"stopped"' in line
    ]
    assert stopped and "2 submissions" in stopped[0]


def test_a_policy_lets_the_merge_go_on_without_a_shard(start_lab: Callable[..., Lab], campaign: Make) -> None:
    start_lab(**STOCK)
    small = campaign(cluster__policy={"generate": {"kind": "min_fraction", "value": 0.5}})
    small.profile["setup"] = ['if [ "$SLURM_ARRAY_TASK_ID" = 1 ]; then exit 1; fi']
    small.launch()
    small.wait_ended()
    manifest = json.loads((small.run_dir / "iter_000" / "merge.manifest.json").read_text())
    assert manifest["policy"]["kind"] == "min_fraction" and manifest["policy"]["missing"] == [1]
    assert len(list((small.run_dir / "iter_000" / "logs").glob("generate-*.log"))) == 2, "nobody tried again"


def test_a_zombie_of_a_dead_node_publishes_nothing(
    start_lab: Callable[..., Lab], campaign: Make, undisturbed: dict[str, str]
) -> None:
    """slurmd is killed, the node is down, its tasks start elsewhere; then the old processes wake up and want to finish."""
    lab = start_lab(cred_expire=10, slurmd_timeout=5)  # nobody is left there to ask for an early restart
    small = campaign()
    small.launch()
    still = at_work(lab, small, "generate")
    node, zombies = lab.show(still.task)["NodeList"], still.pids
    lab.kill(node)
    lab.run(
        "scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test"
    )  # what SlurmdTimeout does, at once
    wait_until(
        lambda: (small.run_dir / "iter_000" / "merge.manifest.json").exists(),
        240,
        "the merge of the new shards",
        every=0.3,
    )
    still.let_go()
    small.wait_ended()
    wait_until(lambda: not any(command_of(pid) for pid in zombies), 300, "the zombies to give up", every=0.3)
    same_results(small, undisturbed)


def test_controller_killed_and_restarted(
    start_lab: Callable[..., Lab], campaign: Make, undisturbed: dict[str, str]
) -> None:
    lab = start_lab(**STOCK)
    small = campaign()
    small.launch()
    still = at_work(lab, small, "generate")
    lab.kill("slurmctld")
    refused = small.launch(check=False)
    assert (
        refused.returncode == 1
        and "cannot be reached" in refused.stderr
        and "Traceback" not in refused.stderr
    )
    still.let_go()  # the task ends while nobody is there to hear of it
    wait_until(
        lambda: (small.run_dir / "iter_000" / "generate" / "shard-00000.manifest.json").exists(),
        300,
        "the shard",
    )
    lab.start_controller()
    # What it had not saved when it was killed is lost: it may start a task that runs already, fail, and give it up.
    wait_until(
        lambda: small.ended or not lab.jobs() or given_up(lab),
        600,
        "the run to end, or a task that is given up",
        every=0.5,
    )
    if not small.ended:
        small.launch()
    small.wait_ended()
    same_results(small, undisturbed)


def test_tasks_that_a_node_failed_to_start_are_released_by_the_same_command(
    start_lab: Callable[..., Lab], campaign: Make, tmp_path: Path
) -> None:
    """Also while the node still cleans up, or does not answer: the job is COMPLETING then, and could wait for ever."""
    broken, prolog, epilog = tmp_path / "broken", tmp_path / "prolog", tmp_path / "epilog"
    prolog.write_text(f"#!/bin/sh\ntest ! -e {broken}\n")
    epilog.write_text(f"#!/bin/sh\nwhile test -e {broken}; do sleep 0.1; done\n")
    for script in (prolog, epilog):
        script.chmod(0o755)
    broken.touch()
    lab = start_lab(**STOCK, extra=(f"Prolog={prolog}", f"Epilog={epilog}"))
    small = campaign()
    small.launch()
    wait_until(lambda: len(given_up(lab)) == 2, 120, "both tasks to fail")
    assert {job["state"] for job in lab.jobs() if job["id"] in given_up(lab)} == {"COMPLETING"}
    view = collect_status(open_run(small.run_dir))
    assert "SLURM could not start" in view.next_why and "run_iteration.py" in view.next_command
    assert "was held by SLURM" in small.launch().stdout
    assert not given_up(lab)
    broken.unlink()
    for node in lab.nodes:
        lab.run(
            "scontrol", "update", f"NodeName={node}", "State=RESUME", check=False
        )  # one that was not drained says so
    small.launch()  # others may have failed since
    wait_until(lambda: len(small.events("generate")) >= 2, 180, "both shards to start")
    assert not given_up(lab)


def test_a_forgotten_upstream_job_releases_nothing(start_lab: Callable[..., Lab], campaign: Make) -> None:
    """SLURM lets `afterok` on a job that it has forgotten run at once: the stage itself must refuse."""
    from undo_hpc.cluster.base import Submission
    from undo_hpc.config.schema import StageResources
    from undo_hpc.control.run_cluster import open_cluster

    lab = start_lab(**STOCK, min_job_age=2)
    small = campaign()
    small.profile["setup"] = ["exit 1"]  # generate fails, merge fails, the chain collapses
    small.launch("--set", "cluster.max_resubmits=0")
    wait_until(lambda: not lab.jobs(), 600, "the chain to end", every=0.5)
    (small.run_dir / "profile.resolved.json").write_text(
        (small.run_dir / "profile.resolved.json").read_text().replace('"exit 1"', '"true"')
    )
    run = open_run(small.run_dir)
    (job,) = open_cluster(run, from_launcher=False).submit(
        Submission(
            small.run_dir, 0, "train", None, StageResources(), after=("1",), tag=run.id, attempt=9, total=1
        )
    )
    log = small.run_dir / "iter_000" / "logs" / f"train-{job}.log"
    wait_until(lambda: log.exists() and "exit code" in log.read_text(), 300, "train to end")
    assert "merge 0" in log.read_text() or "merge.manifest.json is missing" in log.read_text()
    assert "exit code 3" in log.read_text()
    assert not (small.run_dir / "iter_000" / "student").exists()


def test_a_long_task_reaches_its_time_limit_again_and_again(
    start_lab: Callable[..., Lab], begun: Campaign, undisturbed: dict[str, str]
) -> None:
    lab = start_lab(**STOCK)
    begun.config["cluster"] = {"resources": {"train": {"minutes": 1}}}
    begun.profile["signal_lead_s"] = 25
    begun.launch()
    for count in (1, 2):
        at_work(lab, begun, "train")  # stands still until SLURM says that the time is nearly up
        wait_until(
            lambda n=count: len([e for e in begun.events("train") if e.get("reason") == "timeout"]) >= n,
            120,
            "the lead signal",
        )  # type: ignore[misc]
    begun.wait_ended()
    same_results(begun, undisturbed)
    assert {e["reason"] for e in begun.events("train") if e.get("status") == "requeue"} == {"timeout"}
    (log,) = (begun.run_dir / "iter_000" / "logs").glob("train-*.log")
    assert all(f", start {number}, on" in log.read_text() for number in range(3)), "no start overwrites it"


def test_training_on_two_nodes_with_two_tasks_each_is_preempted(
    start_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    """One task a GPU, four ranks that meet through the run directory; the same four ranks on one machine are the measure."""
    local = make_campaign(tmp_path / "local", train__ranks=4)
    local.run_locally()
    lab = start_lab(**STOCK, grace=60)
    small = continued(local.folder, tmp_path / "cluster", train__ranks=4)
    small.profile["defaults"]["partition"] = "lowg"
    small.profile["stages"] = {"train": {"nodes": 2, "tasks_per_node": 2}}
    small.launch()
    still = at_work(lab, small, "train")
    assert lab.show(still.task)["NumNodes"] == "2" and lab.show(still.task)["NumTasks"] == "4"
    preempt(lab, still.task, node=lab.nodes[0])
    small.wait_ended()
    assert [e["reason"] for e in small.events("train") if e.get("status") == "requeue"] == ["preempted"]
    assert small.results() == local.results()


def _restart_delay(campaign: Campaign, stage: str) -> float:
    """Seconds between the end of a requeued start and the next start, the shortest of a stage."""
    events = campaign.events(stage)
    delays = [
        b["time"] - a["time"]
        for a, b in itertools.pairwise(events)
        if a["kind"] == "end" and a["status"] == "requeue" and b["kind"] == "start"
    ]
    return min(delays)
