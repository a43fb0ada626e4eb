"""Work is not submitted again while the scheduler holds its last jobs, whatever its list says."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.control.test_dispatch import Queue
from tests.observe.synthetic import RunBuilder
from undo_hpc.cluster import identity
from undo_hpc.cluster.commands import TooLate
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.control import dispatch

NAME = "merge-i0-undo-0123abcd-a0-o0-g1-deadbeef"


def test_the_last_jobs_that_are_not_listed_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunBuilder(tmp_path / "run", problems=20, sets=["iterations=2", "display.report=false"]).play(0)
    journal = SubmissionJournal(run.layout.submissions)
    for stage, iteration, attempt, job_id in (
        ("merge", 0, 0, "5"),
        ("merge", 0, 1, "6"),
        ("train", 0, 0, "7"),
        ("merge", 1, 0, "8"),
    ):
        name = f"{stage}-{iteration}-{attempt}"
        journal.intend(name, stage, iteration, attempt, None, ())
        journal.submitted(name, job_id)
    asked: dict[str, str] = {}
    queue = Queue()
    monkeypatch.setattr(queue, "require_listed", lambda names: asked.update(names))
    dispatch.submit_missing(run, queue, own="7")
    assert asked == {"6": "merge-0-1"}, "not an earlier attempt, another iteration, or the job that asks"


@pytest.mark.parametrize(
    ("said", "states"),
    [
        (f"JobId=9 JobName={NAME} UserId=a(1) JobState=PENDING Reason=None Comment=none Command=/x/job.sh WorkDir=/", {"PENDING"}),
        (f"JobId=9 JobName=job JobState=RUNNING Command=/r/iter_000/logs/submitted/{NAME}.sh WorkDir=/ Comment=\n", {"RUNNING"}),
        (f"JobId=9 ArrayTaskId=1 JobName=a b JobState=RUNNING Comment=undo {NAME} Command=/x WorkDir=/\n"
         f"JobId=10 ArrayTaskId=0 JobName=a b JobState=COMPLETED Comment=undo {NAME} Command=/x WorkDir=/\n", {"RUNNING", "COMPLETED"}),
    ],
)  # fmt: skip
def test_the_marks_are_read_from_scontrol_too(
    said: str, states: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "run", lambda command, **_: said)
    shown = identity.shown_job("9")
    assert shown is not None and str(shown[0].name) == NAME and shown[1] == states


def test_a_job_that_is_gone_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(command: list[str], **_: Mapping[str, str]) -> str:
        raise TooLate("scontrol came too late: Invalid job id specified")

    monkeypatch.setattr(identity, "run", gone)
    assert identity.shown_job("9") is None
