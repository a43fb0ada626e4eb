"""The copy of the code that jobs run: the same files, once, and whole or not at all."""

import errno
import shutil
import subprocess
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


def check_in_shell(code: Path) -> int:
    prelude = project_root() / "slurm" / "prelude.sh"
    return subprocess.run(
        ["bash", "-c", f"source {prelude}; undo_check_code {code}"], check=False, capture_output=True
    ).returncode


def test_a_job_compares_the_copy_before_it_runs_any_of_it(tmp_path: Path) -> None:
    place = take_snapshot(tmp_path / "code")
    assert check_in_shell(place) == 0
    assert check_in_shell(project_root()) == 0, "a checkout has no digest to be held to"
    cache = place / "undo_hpc" / "__pycache__"
    cache.mkdir()
    (cache / "worker.cpython-311.pyc").touch()
    assert check_in_shell(place) == 0, "Python's own files are no part of it"
    for change in ("changed", "added", "removed"):
        file = (
            place / "undo_hpc" / {"changed": "worker.py", "added": "extra.py", "removed": "errors.py"}[change]
        )
        if change == "removed":
            file.unlink()
        else:
            with file.open("a") as sink:
                sink.write("\nimport os\n")
        assert check_in_shell(place) == 1, change
        assert take_snapshot(tmp_path / "code") == place
        assert check_in_shell(place) == 0, "the launcher copied it again"
