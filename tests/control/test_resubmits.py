"""How often a stage submits the same work again: failures and preemptions are counted apart."""

from pathlib import Path
from typing import Any

import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc.control.position import read_state
from undo_hpc.control.resubmits import cancelled_by_preemption, count_submissions, limit_resubmits
from undo_hpc.errors import Incomplete
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.events import EventLog


def submitted(by: str, *stages: str, iteration: int = 0, time: float = 0.0) -> dict[str, Any]:
    return {
        "kind": "submitted",
        "iteration": iteration,
        "by": by,
        "stages": dict.fromkeys(stages),
        "time": time,
    }


def test_a_person_who_submits_again_gives_the_resubmitting_stages_their_tries_back() -> None:
    events = [
        submitted("launcher", "generate", "merge", time=5.0),
        submitted("merge", "generate", "merge"),
        {"kind": "start"},
        submitted("advance", "generate", iteration=1),
    ]
    assert count_submissions(events, 0) == ({"generate": 2, "merge": 2}, 5.0)
    assert count_submissions(events, 1) == ({"generate": 1}, 0.0)
    assert count_submissions([*events, submitted("launcher", "generate", time=9.0)], 0) == (
        {"generate": 1},
        9.0,
    )
    assert not count_submissions([*events, {"kind": "superseded", "iteration": 0}], 0)[0]


def test_jobs_that_saved_and_were_cancelled_are_counted_by_their_last_word() -> None:
    def start(job: str, time: float = 10.0) -> dict[str, Any]:
        return {"kind": "start", "job": job, "time": time}

    def end(status: str, reason: str = "") -> dict[str, Any]:
        return {"kind": "end", "status": status, "reason": reason}

    preempted = end("requeue", "preempted")
    assert cancelled_by_preemption([start("1"), preempted, start("2"), preempted], 10.0) == 2
    assert cancelled_by_preemption([start("1"), preempted, start("1"), preempted], 10.0) == 1, "one job"
    assert cancelled_by_preemption([start("1"), preempted, start("1")], 10.0) == 0, "then it died"
    assert cancelled_by_preemption([start("1"), end("failed")], 10.0) == 0
    assert cancelled_by_preemption([start("1"), end("requeue", "timeout")], 10.0) == 0
    assert cancelled_by_preemption([start("1", 3.0), preempted], 10.0) == 0, "before a person looked at it"


def in_training(folder: Path) -> Run:
    run = RunBuilder(folder / "run", problems=20, sets=["display.report=false"]).play(1)
    for name in ("train", "advance"):
        (run.layout.root / "iter_000" / f"{name}.manifest.json").unlink()
    return run


def resubmit(run: Run, by: str = "advance") -> None:
    """What advance does where train is missing, or a launcher that cron calls."""
    state = read_state(run)
    assert state is not None
    todo = [(s, (0,)) for s in state.stages if s.name in ("train", "evaluate", "advance")]
    limit_resubmits(run, state, todo, "" if by == "cron" else by)
    run.events.append("submitted", iteration=0, by=by, stages={s.name: {} for s, _ in todo})


def start_train(run: Run, job: int, **end: Any) -> None:
    events = EventLog(run.layout.iteration(0).events("train", 0))
    events.append("start", job=str(job))
    if end:
        events.append("end", **end)


@pytest.mark.parametrize("by", ["advance", "cron"])
@pytest.mark.parametrize("end", [{}, {"status": "failed", "code": 1, "reason": ""}], ids=["killed", "failed"])
def test_failures_end_the_run_soon(tmp_path: Path, end: dict[str, Any], by: str) -> None:
    run = in_training(tmp_path)
    run.events.append(
        "submitted", iteration=0, by="launcher", stages={"train": {}, "evaluate": {}, "advance": {}}
    )
    for job in range(run.config.cluster.max_resubmits):
        start_train(run, job, **end)
        resubmit(run, by)
    with pytest.raises(Incomplete, match="train failed in 4 submissions"):
        resubmit(run, by)


def test_preemptions_that_cancel_the_job_have_a_limit_of_their_own(tmp_path: Path) -> None:
    run = in_training(tmp_path)
    run.events.append(
        "submitted", iteration=0, by="launcher", stages={"train": {}, "evaluate": {}, "advance": {}}
    )
    saved = {"status": "requeue", "code": 75, "reason": "preempted"}
    for job in range(run.config.cluster.max_preemptions):
        start_train(run, job, **saved)
        resubmit(run)
    for job in range(run.config.cluster.max_resubmits):
        start_train(run, 1000 + job, status="failed", code=1, reason="")
        resubmit(run)
    start_train(run, 2000, status="failed", code=1, reason="")
    with pytest.raises(Incomplete, match="train failed in 4 submissions"):
        resubmit(run)


def test_a_stage_that_is_preempted_for_ever_ends_the_run(tmp_path: Path) -> None:
    run = in_training(tmp_path)
    run.events.append(
        "submitted", iteration=0, by="launcher", stages={"train": {}, "evaluate": {}, "advance": {}}
    )
    saved = {"status": "requeue", "code": 75, "reason": "preempted"}
    for job in range(run.config.cluster.max_preemptions):
        start_train(run, job, **saved)
        resubmit(run)
    start_train(run, 3000, **saved)
    with pytest.raises(Incomplete, match="preempted 101 times"):
        resubmit(run)


def test_what_was_submitted_ahead_of_its_plan_is_no_try() -> None:
    stages = {"stages": {"generate": {}}, "kind": "submitted", "iteration": 1, "by": "cron"}
    counts, _ = count_submissions([stages | {"ahead": True}, stages | {"ahead": True}, stages], 1)
    assert counts == {"generate": 1}
