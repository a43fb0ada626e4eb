"""The copy of the code that jobs run: the same files, once, and whole or not at all."""

import errno
import shutil
from pathlib import Path

import pytest

from undo_hpc.cluster.snapshot import code_digest, project_root, take_snapshot
from undo_hpc.errors import StorageError


def test_the_copy_is_the_code_and_is_made_once(tmp_path: Path) -> None:
    place = take_snapshot(tmp_path / "code")
    assert place.name == code_digest(place / "undo_hpc") == code_digest(project_root() / "undo_hpc")
    (place / "mark").touch()
    assert take_snapshot(tmp_path / "code") == place and (place / "mark").exists()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StorageError, match="the disk is full"):
        take_snapshot(tmp_path / "code")
    assert list((tmp_path / "code").iterdir()) == []
