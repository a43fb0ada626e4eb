"""After a crash there is the old file or the new one; a full or read-only place gives a clear error."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from undo_hpc.errors import ExitCode, StorageError
from undo_hpc.storage import atomic
from undo_hpc.storage.atomic import copy_file, publish_dir, read_json, write_bytes, write_json


def test_a_written_file_is_whole_and_leaves_no_temporary(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"x": 1})
    assert read_json(tmp_path / "deep" / "a.json") == {"x": 1}
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.json"]


def test_a_full_disk_keeps_the_old_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": True})

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"the disk is full: cannot write .*a\.json") as caught:
        write_json(path, {"old": False})
    monkeypatch.undo()
    assert caught.value.exit_code == ExitCode.INCOMPLETE
    assert read_json(path) == {"old": True}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_real_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    from undo_hpc.storage.shards import ShardWriter

    writer = ShardWriter(tmp_path / "shard.jsonl", flush_rows=1)
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), writer._file.fileno())
    with pytest.raises(StorageError, match="disk is full"):
        writer.append({"row": 1})


def test_a_killed_writer_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"n": -1, "pad": ""})
    code = (
        "import sys\nfrom pathlib import Path\nfrom undo_hpc.storage.atomic import write_json\n"
        "print('go', flush=True)\nn = 0\n"
        "while True:\n    write_json(Path(sys.argv[1]), {'n': n, 'pad': 'x' * 200_000}); n += 1\n"
    )
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        before = path.stat().st_mtime_ns
        while path.stat().st_mtime_ns == before:
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
        data = read_json(path)
        assert len(data["pad"]) in (0, 200_000)


def test_a_folder_is_published_whole_and_replaces_the_old(tmp_path: Path) -> None:
    final = tmp_path / "final"
    for text in ("one", "two"):
        temporary = tmp_path / "tmp"
        temporary.mkdir()
        write_bytes(temporary / "f", text.encode())
        publish_dir(temporary, final)
    assert (final / "f").read_text() == "two"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["final"]


def test_torn_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(StorageError, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json")


def test_a_link_under_a_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that a group shares anybody of it may plant one."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "planted").symlink_to(tmp_path / "mine")
    monkeypatch.setattr(atomic, "temporary_name", lambda path: tmp_path / "planted")
    with pytest.raises(StorageError, match="cannot write"):
        atomic.write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "mine").read_text() == "mine" and not (tmp_path / "file").exists()


def test_neither_a_link_nor_a_pipe_is_copied(tmp_path: Path) -> None:
    """Of a run that somebody gave us: a fork copies the log of a training, which no manifest lists. At a pipe it waited for ever."""
    (tmp_path / "key").write_text("ours")
    (tmp_path / "link").symlink_to("key")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(StorageError, match=name):
            copy_file(tmp_path / name, tmp_path / "copy")
    copy_file(tmp_path / "nothing", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    copy_file(tmp_path / "key", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "ours"
