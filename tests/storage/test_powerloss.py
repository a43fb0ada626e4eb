"""Power loss at every call, in every way that a file system may answer it: nothing acknowledged is lost, doubled, or torn and believed.

The model and the ways are in powerloss.py. Each scenario is recorded once; then every state that a power loss can leave is opened by the
real code, and the same work is done again in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.powerloss import Recording, check_all
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.storage import lease as lease_module
from undo_hpc.storage import leftovers
from undo_hpc.storage.atomic import make_folder, publish_dir, read_json, write_bytes, write_json
from undo_hpc.storage.events import EventLog, read_events
from undo_hpc.storage.lease import Lease, read_lease
from undo_hpc.storage.leftovers import remove_leftovers
from undo_hpc.storage.manifest import (
    Manifest,
    describe_output,
    read_manifest,
    verify_outputs,
    withdraw_manifest,
    write_manifest,
)
from undo_hpc.storage.shards import ShardWriter, read_rows


def test_the_model_knows_what_was_not_made_durable(tmp_path: Path) -> None:
    """The layer itself: without an fsync it finds what a power loss takes, and with one it does not."""

    def careless(root: Path, recording: Recording) -> None:
        (root / ".a.tmp").write_bytes(b"content")
        (root / ".a.tmp").rename(root / "a")
        recording.acknowledge("a")

    def careful(root: Path, recording: Recording) -> None:
        write_bytes(root / "a", b"content")
        recording.acknowledge("a")

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        for name in acknowledged:
            assert (root / name).read_bytes() == b"content", "lost"

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with Recording(tmp_path / "one") as recording:
        careless(tmp_path / "one", recording)
    with pytest.raises(AssertionError, match="4 of"):
        check_all(recording, tmp_path / "s", check, ("kill", "strict", "cut", "zeroed", "half"))
    with Recording(tmp_path / "two") as recording:
        careful(tmp_path / "two", recording)
    assert check_all(recording, tmp_path / "s", check) > 5


def recorded(tmp_path: Path, work: Callable[[Path, Recording], None]) -> Recording:
    """The work done once, in a folder of its own."""
    root = tmp_path / "root"
    root.mkdir()
    with Recording(root) as recording:
        work(root, recording)
    return recording


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    def work(root: Path, recording: Recording) -> None:
        for number in range(3):
            write_json(root / "iter" / "deep" / "a.json", {"n": number, "pad": "x" * 100 * number})
            recording.acknowledge(str(number))

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        path = root / "iter" / "deep" / "a.json"
        if acknowledged or path.exists():
            assert int(read_json(path)["n"]) >= int(acknowledged[-1] if acknowledged else 0), (
                "older than acknowledged"
            )
        write_json(path, {"n": 9})
        assert read_json(path) == {"n": 9}

    check_all(recorded(tmp_path, work), tmp_path / "s", check)


def test_rows_of_a_shard(tmp_path: Path) -> None:
    """Groups of rows with a restart in between; each group is acknowledged by `flush`."""

    def work(root: Path, recording: Recording) -> None:
        path = root / "iter_000" / "generate" / "shard.parts" / "0.jsonl"
        for first in (0, 6):
            with ShardWriter(path, flush_rows=100, flush_seconds=3600) as writer:
                for number in range(first, first + 6):
                    writer.append({"n": number, "text": "line " * (number + 1)})
                    if number % 2:
                        writer.flush()
                        recording.acknowledge(str(number))

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        path = root / "iter_000" / "generate" / "shard.parts" / "0.jsonl"
        with ShardWriter(path) as writer:  # repairs the tail
            found = [row["n"] for row in rows_of(path)]
            assert found == list(range(len(found))), f"torn, doubled or out of order: {found}"
            assert len(found) > int(acknowledged[-1]) if acknowledged else True, "an acknowledged row is lost"
            for number in range(len(found), 12):
                writer.append({"n": number, "text": "line " * (number + 1)})
        assert [row["n"] for row in rows_of(path)] == list(range(12))

    check_all(recorded(tmp_path, work), tmp_path / "s", check)


def rows_of(path: Path) -> list[dict[str, int]]:
    """The rows that a stage takes: a damaged line costs itself alone."""
    from undo_hpc.storage.reading import read_rows_tolerant

    return list(read_rows_tolerant(path))


def test_the_journal_knows_every_submission_that_sbatch_was_called_for(tmp_path: Path) -> None:
    def work(root: Path, recording: Recording) -> None:
        journal = SubmissionJournal(root / "run" / "submissions.jsonl")
        for number in range(3):
            journal.intend(f"job-{number}", "generate", 0, number, (0, 1, 2), ())
            recording.acknowledge(f"job-{number}=")
            journal.submitted(f"job-{number}", str(100 + number))
            recording.acknowledge(f"job-{number}={100 + number}")

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        journal = SubmissionJournal(root / "run" / "submissions.jsonl")
        found = {entry.name: entry.job_id for entry in journal.entries()}
        for name, _, job_id in (item.partition("=") for item in acknowledged):
            assert name in found and (not job_id or found[name] == job_id), f"{name}={job_id} is lost"
        journal.intend("later", "merge", 0, 0, None, ())
        journal.submitted("later", "999")
        assert {e.name: e.job_id for e in journal.entries()} == found | {"later": "999"}, (
            "glued to a torn line"
        )

    check_all(recorded(tmp_path, work), tmp_path / "s", check)


def test_events_are_read_whatever_is_left_of_them(tmp_path: Path) -> None:
    """Events are no evidence and not durable; a torn one spoils no other."""

    def work(root: Path, recording: Recording) -> None:
        for number in range(3):
            EventLog(root / "events" / "x.jsonl").append("start", number=number)

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        log = EventLog(root / "events" / "x.jsonl")
        found = [event["number"] for event in read_events(log.path)]
        assert found == list(range(len(found)))
        log.append("end", number=7)
        assert [event["number"] for event in read_events(log.path)] == [*found, 7]

    check_all(recorded(tmp_path, work), tmp_path / "s", check)


def test_a_lease_is_free_again_after_a_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner is dead: a start on the same host takes it at once, whatever the file holds."""
    monkeypatch.setattr(lease_module, "WATCH_S", 0.0)
    monkeypatch.setattr(lease_module, "STALE_S", 0.0)
    monkeypatch.setattr(lease_module, "alive_here", lambda pid, start: False)

    def work(root: Path, recording: Recording) -> None:
        for _ in range(2):
            with Lease(root / "leases" / "train-0.lease", "train") as held:
                lease_module._beat(held.path, held.token, held._content())

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        path = root / "leases" / "train-0.lease"
        with Lease(path, "train") as mine:
            mine.check()
            assert (read_lease(path) or {})["token"] == mine.token
        assert read_lease(path) is None
        left = [p.name for p in path.parent.iterdir()] if path.parent.exists() else []
        assert len(left) <= 1, f"files are left: {left}"  # what the dead one had in hand

    check_all(recorded(tmp_path, work), tmp_path / "s", check)


def make_student(root: Path, recording: Recording | None, weights: bytes) -> None:
    """What train does: withdraw the word of the old student, publish the new one, give the word for it."""
    at = root / "iter_000"
    withdraw_manifest(at / "train.manifest.json")
    temporary = at / ".student.tmp"
    with contextlib.suppress(FileNotFoundError):
        for old in temporary.iterdir():
            old.unlink()
    make_folder(at)
    temporary.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (temporary / name).write_bytes(weights)
    publish_dir(temporary, at / "student")
    outputs = {f"iter_000/student/{p.name}": describe_output(p) for p in sorted((at / "student").iterdir())}
    write_manifest(at / "train.manifest.json", Manifest("train", 0, 0, {}, outputs))
    if recording:
        recording.acknowledge(weights.decode())


def test_a_student_is_published_whole_and_an_older_word_never_stands_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two students of the same size, one after the other: the look that compares sizes alone takes neither for the other."""
    monkeypatch.setattr(leftovers, "process_start", lambda pid: "")  # the writers are dead
    first, second = b"weights of the first", b"weights of the other"
    assert len(first) == len(second)

    def work(root: Path, recording: Recording) -> None:
        make_student(root, recording, first)
        make_student(root, recording, second)

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        path = root / "iter_000" / "train.manifest.json"
        found: Manifest | None = None
        with contextlib.suppress(EvidenceError, StorageError):
            found = read_manifest(path)
        if found is not None and not verify_outputs(root, found, deep=False):
            assert not verify_outputs(root, found, deep=True), (
                "a manifest stands for files that are not its own"
            )
        if acknowledged and acknowledged[-1] == second.decode():
            assert found is not None and not verify_outputs(root, found, deep=True), "the student is lost"
            assert (root / "iter_000" / "student" / "config.json").read_bytes() == second
        make_student(root, None, second)
        remove_leftovers(root)
        found = read_manifest(path)
        assert found is not None and not verify_outputs(root, found, deep=True)
        left = sorted(p.name for p in (root / "iter_000").iterdir())
        assert left == ["student", "train.manifest.json"], left

    check_all(recorded(tmp_path, work), tmp_path / "s", check)


def test_a_folder_that_replaces_another_leaves_no_moment_without_either(tmp_path: Path) -> None:
    def work(root: Path, recording: Recording) -> None:
        for text in (b"one", b"two"):
            temporary = root / ".set.tmp"
            temporary.mkdir()
            (temporary / "f").write_bytes(text)
            publish_dir(temporary, root / "set")
            recording.acknowledge(text.decode())

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        if acknowledged:
            assert (root / "set" / "f").read_bytes() in {b"one": (b"one", b"two"), b"two": (b"two",)}[
                acknowledged[-1].encode()
            ]

    check_all(recorded(tmp_path, work), tmp_path / "s", check)


def test_strict_rows_name_the_damaged_line(tmp_path: Path) -> None:
    """A published shard is read strictly: after a power loss it is whole, or the reader says which line is not."""

    def work(root: Path, recording: Recording) -> None:
        write_bytes(root / "shard.jsonl", b'{"n": 0}\n{"n": 1}\n')
        recording.acknowledge("shard")

    def check(root: Path, acknowledged: tuple[str, ...]) -> None:
        if acknowledged or (root / "shard.jsonl").exists():
            assert [row["n"] for row in read_rows(root / "shard.jsonl")] == [0, 1]

    check_all(recorded(tmp_path, work), tmp_path / "s", check)
