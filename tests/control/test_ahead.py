"""Iterations that are submitted before they are planned: what waits for what, what fits into the queue, and what a share is."""

from pathlib import Path
from typing import Any

import pytest

from tests.control.test_dispatch import Queue
from tests.control.test_limits import SmallQueue
from tests.observe.synthetic import RunBuilder
from undo_hpc.cluster import limits
from undo_hpc.cluster.base import JobState, LiveJob
from undo_hpc.cluster.names import ArrayPart, JobName, array_ahead
from undo_hpc.cluster.profile import Profile
from undo_hpc.control import continue_run, dispatch
from undo_hpc.control.ahead import wait_for_plan
from undo_hpc.errors import EvidenceError, ExitCode
from undo_hpc.observe import dry_run
from undo_hpc.pipeline.run import Run

SETS = ["iterations=3", "stop.enabled=false", "generate.shards=2", "display.report=false"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of three iterations, of which none has begun."""
    return RunBuilder(tmp_path / "run", problems=20, sets=SETS).play(0)


def test_each_iteration_waits_for_the_advance_of_the_one_before(run: Run) -> None:
    queue = Queue()
    done = dispatch.submit_missing(run, queue, ahead=True)
    ids = {(s.iteration, s.stage): str(101 + n) for n, s in enumerate(queue.submitted)}
    after = {(s.iteration, s.stage): s.after for s in queue.submitted}
    assert {number for number, _ in ids} == {0, 1, 2}
    for number in (1, 2):
        assert after[number, "generate"] == (ids[number - 1, "advance"],)
        assert after[number, "merge"] == (ids[number, "generate"],)
        assert (number, "baseline") not in ids
    assert [s.ahead for s in queue.submitted] == [s.iteration > 0 for s in queue.submitted]
    assert {number for number, *_ in done.ahead} == {1, 2}
    assert not dispatch.submit_missing(run, Queue(), ahead=False).ahead


def test_as_many_whole_iterations_as_the_queue_takes(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    whole = Queue()
    dispatch.submit_missing(run, whole, ahead=True)
    places = [sum(whole.places(s) for s in whole.submitted if s.iteration == n) for n in range(3)]
    queue = SmallQueue(sum(places[:2]) + 3)
    done = dispatch.submit_missing(run, queue, ahead=True)
    assert {held.iteration for held in queue.held.values()} == {0, 1}, "the third is taken back whole"
    assert {number for number, *_ in done.ahead} == {1}
    assert "1 iteration of 3 not submitted yet" in caplog.text


def test_what_is_queued_ahead_is_not_submitted_again(run: Run) -> None:
    first = Queue()
    dispatch.submit_missing(run, first, ahead=True)
    jobs = []
    for number, s in enumerate(first.submitted):
        common: dict[str, Any] = {
            "id": str(101 + number),
            "task_id": str(101 + number),
            "name": "",
            "state": JobState.PENDING,
            "reason": "Dependency",
        }
        common |= {"stage": s.stage, "iteration": s.iteration}
        indices: tuple[int | None, ...] = s.indices or (None,)
        stride = len(indices) if s.ahead and s.indices else 0
        jobs += [LiveJob(index=index, stride=stride, **common) for index in indices]
    again = Queue(*jobs)
    assert not dispatch.submit_missing(run, again, ahead=True).ahead and not again.submitted
    # The chain behind iteration 0 has broken and left the queue; its advance is there.
    broken = Queue(*(job for job in jobs if job.iteration == 0))
    done = dispatch.submit_missing(run, broken, ahead=True)
    assert not done.submitted and {number for number, *_ in done.ahead} == {1, 2}


def test_a_share_covers_every_task_of_a_plan_that_is_larger_or_smaller() -> None:
    for tasks, largest, planned in ((4, 1000, 4), (4, 1000, 9), (4, 1000, 2), (9, 3, 10), (1, 1, 5)):
        part = array_ahead(tasks, largest)
        shares = [range(first, planned, part.offset) for first in part.indices(planned)]
        assert sorted(index for share in shares for index in share) == list(range(planned))
        name = JobName("generate", 1, "0" * 8, 0, part.offset, part.group, "0" * 8)
        assert all(index in range(name.element_of(index), planned, part.offset) for index in range(planned))
        assert len(part.elements) <= largest and part == ArrayPart(part.elements, len(part.elements), 0)


def test_a_job_without_a_plan_ends_at_once_where_the_run_has_ended_and_says_so_where_not(
    tmp_path: Path,
) -> None:
    ended = RunBuilder(tmp_path / "ended", problems=20, sets=["iterations=1", "display.report=false"]).play(1)
    assert wait_for_plan(ended, 1, wait_s=0) is None
    open_yet = RunBuilder(tmp_path / "open", problems=20, sets=SETS).play(0)
    with pytest.raises(EvidenceError, match="iteration 1 has no plan"):
        wait_for_plan(open_yet, 1, wait_s=0)


def test_advance_plans_the_next_iteration_and_cancels_the_rest_where_the_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on = RunBuilder(tmp_path / "run", problems=20, sets=SETS).play(1)
    assert continue_run.plan_next(going_on.layout.root, "advance", 0, 0) == ExitCode.COMPLETE
    assert going_on.plan(1) is not None
    assert continue_run.plan_next(going_on.layout.root, "advance", 0, 0) == ExitCode.COMPLETE, (
        "a second start"
    )
    assert continue_run.plan_next(going_on.layout.root, "advance", 1, 0) == ExitCode.INCOMPLETE
    ended = RunBuilder(tmp_path / "ended", problems=20, sets=["iterations=1", "display.report=false"]).play(1)
    queue, cancelled = Queue(), []
    queue.jobs = [
        LiveJob(str(k), None, "", JobState.PENDING, "", "generate", iteration, task_id=str(k))
        for k, iteration in ((7, 0), (8, 1), (9, 2))
    ]
    monkeypatch.setattr(queue, "cancel", lambda ids: cancelled.extend(sorted(ids)))
    monkeypatch.setattr(continue_run, "open_cluster", lambda *_, **__: queue)
    assert continue_run.plan_next(ended.layout.root, "advance", 0, 0) == ExitCode.COMPLETE
    assert cancelled == ["8", "9"]


def test_the_limit_of_the_account_and_quality_of_service_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"assoc": "science|40\nother|7\n", "qos": "normal|\nlong|12\n"}
    monkeypatch.setattr(limits, "run", lambda command, **_: said[command[3]])
    assert limits.most_jobs("science", None) == 40 and limits.most_jobs(None, None) == 7
    assert limits.most_jobs("science", "long") == 12
    assert "other 7" in limits.submit_limits_of_user()


@pytest.mark.parametrize(
    ("limit", "words"), [(None, "as many whole iterations as fit"), (1000, "they fit"), (12, "1 of them fit")]
)
def test_a_dry_run_tells_how_many_iterations_fit(
    run: Run, monkeypatch: pytest.MonkeyPatch, limit: int | None, words: str
) -> None:
    monkeypatch.setattr(dry_run, "most_jobs", lambda *_: limit)
    plan, _ = dry_run.guess_plan(run.config, None)
    text = dry_run._ahead(run, plan, Profile(submit_from="login", max_array_size=2), 3)
    assert "all 3 iterations are submitted at once" in text and words in text, text
