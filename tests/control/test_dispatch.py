"""PURE part of the dispatch: which tasks are submitted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc.cluster.base import JobState, LiveJob, Submission
from undo_hpc.cluster.commands import QueueFull, TooLate, Unclear, Unreachable, refusal_error
from undo_hpc.cluster.states import state_of
from undo_hpc.config.schema import RunConfig
from undo_hpc.control import continue_run, dispatch, patience, run_cluster
from undo_hpc.control.dependencies import connected_stages, dependencies
from undo_hpc.control.dispatch import missing_tasks
from undo_hpc.control.position import RunState
from undo_hpc.errors import ClusterError, ConfigError, LeaseError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.plan import Stage, build_graph, plan_iteration
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import TaskStatus

CONFIG = RunConfig.model_validate({"generate": {"shards": 3}})
PLAN = plan_iteration(CONFIG, 0, problems=30, sets={"validation": 10, "train": 30})
STAGES = build_graph(CONFIG, Layout(Path("/r")), PLAN)


def state(done: set[tuple[str, int]]) -> RunState:
    statuses = [
        TaskStatus(s.name, t.index, "done" if (s.name, t.index) in done else "ready")
        for s in STAGES
        for t in s.tasks
    ]
    return with_statuses(STAGES, statuses)


def with_statuses(stages: tuple[Stage, ...], statuses: list[TaskStatus]) -> RunState:
    return RunState(0, PLAN, stages, {}, statuses)


def job(stage: str, index: int | None) -> LiveJob:
    return LiveJob("1", index, "", JobState.PENDING, "", stage, 0)


def test_everything_at_first_and_nothing_that_somebody_works_on() -> None:
    todo = {
        stage.name: indices
        for stage, indices in missing_tasks(state(set()), [job("generate", 1), job("merge", None)])
    }
    assert todo == {"generate": (0, 2), "baseline": (0,), "train": (0,), "evaluate": (0,), "advance": (0,)}


def test_shards_that_a_policy_left_out_are_not_made_after_the_merge() -> None:
    done = {("generate", 0), ("generate", 1), ("merge", 0)}
    assert "generate" not in {stage.name for stage, _ in missing_tasks(state(done), [])}
    assert "generate" in {stage.name for stage, _ in missing_tasks(state(done - {("merge", 0)}), [])}


def test_no_server_is_submitted_for_shards_that_a_policy_left_out() -> None:
    plan = replace(PLAN, servers=1)
    stages = build_graph(CONFIG, Layout(Path("/r")), plan)
    left = {("serve", 0), ("generate", 1), ("advance", 0)}
    statuses = [
        TaskStatus(s.name, t.index, "ready" if (s.name, t.index) in left else "done")
        for s in stages
        for t in s.tasks
    ]
    assert [stage.name for stage, _ in missing_tasks(with_statuses(stages, statuses), [])] == ["advance"]
    again = [replace(s, state="ready" if s.stage != "generate" or s.index else "done") for s in statuses]
    todo = {stage.name for stage, _ in missing_tasks(with_statuses(stages, again), [])}
    assert todo >= {"serve", "generate", "merge"}


def test_a_complete_iteration_wants_nothing() -> None:
    assert missing_tasks(state({(s.name, t.index) for s in STAGES for t in s.tasks}), []) == []


def test_a_task_damaged_after_the_end_is_done_again_with_advance_behind_it() -> None:
    finished = state({(s.name, t.index) for s in STAGES for t in s.tasks})
    statuses = [
        TaskStatus(s.stage, s.index, "stale" if s.stage == "train" else s.state) for s in finished.statuses
    ]
    finished = with_statuses(STAGES, statuses)
    todo = missing_tasks(finished, [])
    assert {stage.name: indices for stage, indices in todo} == {"train": (0,), "advance": (0,)}
    by_name = {stage.name: stage for stage in STAGES}
    assert dependencies(by_name["advance"], by_name, {"train": ["77"]}) == ("77",)
    without = state({(s.name, t.index) for s in STAGES for t in s.tasks} - {("train", 0), ("evaluate", 0)})
    assert {stage.name: indices for stage, indices in missing_tasks(without, [])} == {
        "train": (0,),
        "advance": (0,),
    }, "a student was deleted"


def test_merge_submits_what_it_depends_on_and_what_depends_on_it() -> None:
    assert connected_stages(STAGES, "merge") == {"generate", "merge", "train", "evaluate", "advance"}
    assert "baseline" in connected_stages(STAGES, "advance")


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("launch failed requeued held", JobState.ABANDONED),
        ("user env retrieval failed requeued held", JobState.ABANDONED),
        ("JobHoldMaxRequeue", JobState.ABANDONED),
        ("JobHeldUser", JobState.HELD),
        ("JobHeldAdmin", JobState.HELD),
        ("job requeued in held state", JobState.HELD),
        ("Priority", JobState.PENDING),
        ("QOSUsageThreshold", JobState.PENDING),
        ("DependencyNeverSatisfied", JobState.STUCK),
    ],
)
def test_what_somebody_held_is_told_from_what_slurm_gave_up(reason: str, state: JobState) -> None:
    assert state_of("PENDING", reason) is state


def test_what_slurm_gave_up_can_be_released_while_its_node_still_cleans_up() -> None:
    assert state_of("COMPLETING", "launch failed requeued held") is JobState.ABANDONED
    assert state_of("COMPLETING", "JobHeldUser") is JobState.HELD
    assert state_of("COMPLETING", "None") is JobState.STOPPING


@pytest.mark.parametrize(
    ("reason", "beyond"),
    [
        ("PartitionConfig", True),
        ("PartitionTimeLimit", True),
        ("InvalidQOS", True),
        ("QOSMaxGRESPerJob", True),
        ("QOSMaxWallDurationPerJobLimit", True),
        ("AssocMaxCpuPerJobLimit", True),
        ("QOSMinCpuNotSatisfied", True),
        ("QOSMaxJobsPerUserLimit", False),
        ("AssocGrpGRES", False),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-4]", False),
        ("PartitionDown", False),
        ("PartitionNodeLimit", False),  # nodes that are down, too
        ("Dependency", False),
    ],
)
def test_which_jobs_ask_for_what_they_never_get(reason: str, beyond: bool) -> None:
    assert state_of("PENDING", reason) is (JobState.BEYOND if beyond else JobState.PENDING)
    assert state_of("RUNNING", reason) is JobState.RUNNING


class Queue:
    """A scheduler whose queue is given; notes what is submitted. See cluster.base.Cluster."""

    def __init__(self, *jobs: LiveJob) -> None:
        self.jobs = list(jobs)
        self.submitted: list[Submission] = []
        self.cancelled: list[str] = []

    def recover(self, run_dir: Path, tag: str) -> None: ...
    def check(self, submissions: Sequence[Submission]) -> None: ...
    def release(self, task_ids: Iterable[str]) -> None: ...
    def redirect(self, ids: Iterable[str], after: Sequence[str]) -> None: ...

    def require_listed(self, names: Mapping[str, str]) -> None: ...

    def cancel(self, ids: Iterable[str]) -> None:
        self.cancelled += ids

    def places(self, submission: Submission) -> int:
        return len(submission.indices or (0,))

    def submit_limit(self) -> str:
        return ""

    def pause(self, tag: str) -> int:
        return len(self.jobs)

    def live_jobs(self, tag: str) -> list[LiveJob]:
        return self.jobs

    def submit(self, submission: Submission) -> tuple[str, ...]:
        self.submitted.append(submission)
        return (str(100 + len(self.submitted)),)


def test_an_advance_that_is_just_ending_gets_a_successor_behind_it(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", problems=20, sets=["display.report=false"]).play(1)
    (run.layout.root / "iter_000" / "advance.manifest.json").unlink()

    def last(state: JobState) -> LiveJob:
        return LiveJob("77", None, "", state, "None", "advance", 0, task_id="77")

    cancelled = Queue(last(JobState.STOPPING))  # it may have been: nobody else would go on with the run
    dispatch.submit_missing(run, cancelled)
    assert [(s.stage, s.after) for s in cancelled.submitted] == [("advance", ("77",))]
    running = Queue(last(JobState.RUNNING))
    dispatch.submit_missing(run, running)
    assert running.submitted == []


def test_what_asks_for_too_much_is_submitted_again_by_a_person_alone(tmp_path: Path) -> None:
    """Elements of an array that run are left alone; a stage inside a job waits, for the reason may pass."""
    run = RunBuilder(tmp_path / "run", problems=20, sets=["generate.shards=3", "display.report=false"])
    run.plan(0)

    def array() -> Queue:
        states = (JobState.RUNNING, JobState.BEYOND, JobState.BEYOND)
        return Queue(
            *(
                LiveJob("7", k, "", state, "InvalidAccount", "generate", 0, task_id=f"7_{k}")
                for k, state in enumerate(states)
            )
        )

    inside, by_cron, by_hand = array(), array(), array()
    dispatch.submit_missing(run.run, inside, resubmitter="merge")
    dispatch.submit_missing(run.run, by_cron, unattended=True)
    for queue in (inside, by_cron):
        assert queue.cancelled == [] and "generate" not in {s.stage for s in queue.submitted}
    dispatch.submit_missing(run.run, by_hand)
    assert by_hand.cancelled == ["7_1", "7_2"]
    assert [s.indices for s in by_hand.submitted if s.stage == "generate"] == [(1, 2)]


def test_a_state_that_we_do_not_know_is_alive() -> None:
    assert state_of("POWER_UP_NODE", "None") is JobState.RUNNING


SUBMIT_LIMIT = (
    "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: "
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)


@pytest.mark.parametrize(
    ("said", "kind", "word"),
    [
        (SUBMIT_LIMIT, QueueFull, "max_array_size"),
        ("sbatch: error: You must specify an account. (--account)", ClusterError, "set `account`"),
        (
            "sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.",
            ClusterError,
            "memory_gb",
        ),
        ("sbatch: unrecognized option '--no-such'", ClusterError, "extra"),
        ("sbatch: error: Something that nobody has seen", Unclear, "the same command again"),
        (
            SUBMIT_LIMIT.replace("QOSMaxSubmitJobPerUserLimit", "AssocMaxWallDurationPerJobLimit"),
            ClusterError,
            "lower `minutes`",
        ),
        (
            SUBMIT_LIMIT.replace("QOSMaxSubmitJobPerUserLimit", "QOSMaxGRESPerUser"),
            ClusterError,
            "a limit of your account is reached",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
            ClusterError,
            "sinfo -o '%P %l'",
        ),
        ("Job is no longer pending execution for job 3", TooLate, "too late"),
        (
            "scancel: error: Kill job error on job id 4: Access/permission denied",
            ClusterError,
            "somebody else",
        ),
        (
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
            Unreachable,
            "scontrol ping",
        ),
    ],
)
def test_what_slurm_says_is_told_apart(said: str, kind: type[ClusterError], word: str) -> None:
    error = refusal_error(said, "sbatch")
    assert type(error) is kind and word in str(error)


def test_a_resubmitting_stage_waits_for_room_in_the_queue_but_not_in_a_paused_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Layout(tmp_path), CONFIG)
    refusals: list[Exception] = [
        QueueFull("full"),
        Unreachable("down"),
        LeaseError("a launcher is slow"),
        Unclear("words that nobody knows"),
    ]

    def submit(*_: Any, **__: Any) -> str:
        if refusals:
            raise refusals.pop()
        return "submitted"

    monkeypatch.setattr(continue_run, "open_cluster", lambda *_, **__: None)
    monkeypatch.setattr(continue_run, "submit_missing", submit)
    monkeypatch.setattr(patience.time, "sleep", lambda _: None)
    assert continue_run._submit_when_possible(run, "advance") == "submitted"
    run.layout.paused.touch()
    assert continue_run._submit_when_possible(run, "advance") is None


def test_what_is_unclear_for_long_is_taken_for_final_and_a_person_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", waits.append)

    def refuse() -> None:
        raise Unclear("no")

    with pytest.raises(Unclear):
        patience.keep_trying(refuse, (Unclear, Unreachable))
    assert len(waits) == patience.MOST_UNCLEAR - 1 and 120 < sum(waits) <= 300
    waits.clear()
    with pytest.raises(Unclear):
        patience.on_login_node(refuse)
    assert waits == [1.0, 2.0]


PASSING = """
Slurm backup controller in standby mode
Unexpected message received
Resource temporarily unavailable
Transport endpoint is not connected
Requested operation is presently disabled
I/O error writing script/environment to file
Socket timed out on send/recv operation
Rate limit exceeded, please retry later
"""


@pytest.mark.parametrize("said", PASSING.strip().splitlines())
def test_passing_troubles_are_told_from_refusals(said: str) -> None:
    assert type(refusal_error(f"sbatch: error: Batch job submission failed: {said}", "sbatch")) is Unreachable


def test_only_lines_that_are_errors_are_read_for_the_reason() -> None:
    notice = "sbatch: By default shared jobs get 1792 MiB of memory per CPU core, limit of account X: 3"
    error = refusal_error(
        f"{notice}\nsbatch: error: Batch job submission failed: Unspecified error", "sbatch"
    )
    assert type(error) is Unclear and "1792" not in str(error)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("12:30", "PYTHONPATH"),
        ("a\nrm -rf x", "does not print"),
        ("a\x1bb", "does not print"),
        ("a\\b", "backslash"),
    ],
)
def test_a_path_that_no_batch_file_can_name_is_refused(tmp_path: Path, name: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        run_cluster.open_cluster(Run(Layout(tmp_path / name), CONFIG), from_launcher=True)


def test_a_path_that_a_container_cannot_mount_is_refused(tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("container: {kind: apptainer, image: x.sif}\n")
    config = RunConfig.model_validate({"cluster": {"kind": "slurm", "profile": str(profile)}})
    (tmp_path / "a,b").mkdir()
    with pytest.raises(ConfigError, match="separate the mounts"):
        run_cluster.open_cluster(Run(Layout(tmp_path / "a,b"), config), from_launcher=True)
