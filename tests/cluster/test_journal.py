"""The journal of submissions survives a crash at any byte."""

import json
import os
from pathlib import Path

import pytest

from undo_hpc.cluster import slurm
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.cluster.names import JobName
from undo_hpc.cluster.profile import Profile
from undo_hpc.storage.events import EventLog


def fill(path: Path) -> SubmissionJournal:
    journal = SubmissionJournal(path)
    journal.intend("one", "generate", 0, 0, tuple(range(10_000)), ())
    journal.submitted("one", "17")
    journal.intend("two", "merge", 0, 0, None, ("17",))
    journal.refused("two", "no such partition")
    journal.intend("three", "merge", 0, 1, None, ("17",))
    return journal


def test_what_was_intended_submitted_and_refused(tmp_path: Path) -> None:
    one, three = fill(tmp_path / "s.jsonl").entries()
    assert (one.job_id, one.indices, one.after) == ("17", tuple(range(10_000)), ())
    assert (three.name, three.job_id, three.indices, three.after) == ("three", "", None, ("17",))
    assert (tmp_path / "s.jsonl").stat().st_size < 2000, "ten thousand indices are one short range"


def test_a_group_may_write_what_the_umask_lets_it(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        journal = fill(tmp_path / "s.jsonl")
        EventLog(tmp_path / "e.jsonl").append("created")
    finally:
        os.umask(before)
    for name in ("s.jsonl", "e.jsonl"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o664
    assert journal.users() == {os.getuid()}


def test_jobs_of_all_who_submitted_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(slurm, "require_slurm", lambda: None)
    monkeypatch.setattr(slurm, "run", lambda command, **_: asked.append(command) or "")
    slurm.SlurmCluster(Profile(), Path("/code"), [4242]).live_jobs("0" * 8)
    (option,) = [word for word in asked[0] if word.startswith("--user=")]
    assert set(option.removeprefix("--user=").split(",")) == {"4242", str(os.getuid())}


def test_jobs_of_a_copy_of_the_run_are_left_alone_and_those_of_a_moved_one_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mine", "copy|2"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    name = JobName("train", 0, "0" * 8, 0, 0, 1, "0" * 8)
    places = ("mine", "link", "copy|2", "before")
    lines = [
        f"{k}|N/A|{k}|PENDING|None|{name}|(null)|{tmp_path / place}/iter_000/logs/submitted/x.sh"
        for k, place in enumerate(places)
    ]
    lines.append(f"9|N/A|9|PENDING|None|{name}|(null)|(null)")
    monkeypatch.setattr(slurm, "require_slurm", lambda: None)
    monkeypatch.setattr(slurm, "run", lambda *_, **__: "\n".join(lines))
    jobs = slurm.SlurmCluster(Profile(), Path("/code"), run_dir=tmp_path / "mine").live_jobs("0" * 8)
    assert [(job.id, job.gone) for job in jobs] == [
        ("0", ""),
        ("1", ""),
        ("3", str(tmp_path / "before")),
        ("9", ""),
    ]


def test_a_torn_line_is_passed_over_and_the_next_line_stands_by_itself(tmp_path: Path) -> None:
    whole = fill(tmp_path / "s.jsonl").path.read_bytes()
    for cut in range(0, len(whole), 7):
        path = tmp_path / "torn.jsonl"
        path.write_bytes(whole[:cut])
        journal = SubmissionJournal(path)
        before = len(journal.entries())
        journal.intend("later", "train", 0, 0, None, ())
        names = [entry.name for entry in journal.entries()]
        assert names[-1] == "later" and len(names) == before + 1


@pytest.mark.parametrize(
    "value", [None, 7, 1.5, True, "odd", [], ["odd"], {"odd": 1}, [[0, 10**15]], [[5, 2]], [[1]]]
)
def test_a_damaged_value_of_a_row_costs_that_row_alone(value: object, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in fill(tmp_path / "whole.jsonl").path.read_text().splitlines()]
    for at, row in enumerate(rows):
        for key in row:
            changed = [*rows[:at], row | {key: value}, *rows[at + 1 :]]
            path = tmp_path / f"{at}-{key}.jsonl"
            path.write_text("".join(json.dumps(each) + "\n" for each in changed))
            journal = SubmissionJournal(path)
            assert {entry.name for entry in journal.entries()} <= {"one", "two", "three", "odd"}
            assert all(type(user) is int for user in journal.users())
            assert len(journal.entries()) >= 1 and journal.attempts(0) is not None
