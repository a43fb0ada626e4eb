"""The copy of the code that jobs run: the same files, once, and whole or not at all."""

import errno
import marshal
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from undo_hpc.cluster.snapshot import code_digest, project_root, take_snapshot
from undo_hpc.errors import StorageError


def test_the_copy_is_the_code_and_is_made_once(tmp_path: Path) -> None:
    place = take_snapshot(tmp_path / "code")
    assert place.name == code_digest(place / "undo_hpc") == code_digest(project_root() / "undo_hpc")
    made = place.stat().st_ino
    assert take_snapshot(tmp_path / "code") == place and place.stat().st_ino == made


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StorageError, match="the disk is full"):
        take_snapshot(tmp_path / "code")
    assert list((tmp_path / "code").iterdir()) == []


def imported(place: Path) -> subprocess.CompletedProcess[str]:
    """What Python says of a job's imports: which bytecode it takes and writes."""
    code = "import undo_hpc.worker, undo_hpc.control.continue_run, undo_hpc.stages.merge"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, "-v", "-c", code], cwd=place, capture_output=True, text=True, check=False,
                          env=env | {"PYTHONPATH": str(place)})  # fmt: skip


def test_jobs_write_no_bytecode_and_what_a_full_disk_cut_short_is_made_again(tmp_path: Path) -> None:
    """Python takes bytecode of the right head for whole: cut short, each later job would end in an EOFError."""
    place = take_snapshot(tmp_path / "code")
    before = {path: path.read_bytes() for path in place.rglob("*.pyc")}
    assert len(before) == len([*place.rglob("*.py")])
    found = imported(place)
    assert found.returncode == 0 and "# wrote '" + str(place) not in found.stderr
    assert {path: path.read_bytes() for path in place.rglob("*.pyc")} == before
    cut, gone = sorted(path for path in before if path.name.startswith(("worker.", "merge.")))[:2]
    cut.write_bytes(before[cut][:200])
    gone.unlink()
    broken = imported(place)
    assert broken.returncode == 1 and "EOFError" in broken.stderr
    assert take_snapshot(tmp_path / "code") == place
    assert imported(place).returncode == 0 and before.keys() == set(place.rglob("*.pyc"))


def test_bytecode_of_others_is_made_again(tmp_path: Path) -> None:
    """Python asks for its head only, and that of a run directory that somebody gave us can be theirs."""
    place = take_snapshot(tmp_path / "code")
    file = next((place / "undo_hpc" / "__pycache__").glob("worker.*.pyc"))
    before = file.read_bytes()
    file.write_bytes(before[:16] + marshal.dumps(compile("raise SystemExit(9)", "worker.py", "exec")))
    assert imported(place).returncode == 9
    assert take_snapshot(tmp_path / "code") == place
    # of one code marshal writes other bytes from time to time (which objects it takes for shared)
    assert marshal.loads(file.read_bytes()[16:]) == marshal.loads(before[16:])
    assert imported(place).returncode == 0


def test_a_site_that_keeps_bytecode_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "cache"))
    place = take_snapshot(tmp_path / "code")
    assert len([*place.rglob("*.pyc")]) == len([*place.rglob("*.py")])
    assert take_snapshot(tmp_path / "code") == place


def check_in_shell(code: Path, before: str = "") -> int:
    prelude = project_root() / "slurm" / "prelude.sh"
    return subprocess.run(
        ["bash", "-c", f"source {prelude}; {before} undo_check_code {code}"], check=False, capture_output=True
    ).returncode


def test_a_job_compares_the_copy_before_it_runs_any_of_it(tmp_path: Path) -> None:
    place = take_snapshot(tmp_path / "code")
    assert check_in_shell(place) == 0
    assert check_in_shell(project_root()) == 0, "a checkout has no digest to be held to"
    unlisted = 'find() { command find "$@"; return 1; };'  # a folder of mode 0311: Python imports from it
    assert check_in_shell(place, unlisted) == 1
    cache = place / "undo_hpc" / "__pycache__"
    (cache / "worker.cpython-399.pyc").touch()
    assert check_in_shell(place) == 0, "Python's own files are no part of it"
    names = {
        "changed": "undo_hpc/worker.py",
        "added": "undo_hpc/extra.py",
        "removed": "undo_hpc/errors.py",
        "beside": "torch.py",
    }
    for change, name in names.items():
        file = place / name
        if change == "removed":
            file.unlink()
        else:
            with file.open("a") as sink:
                sink.write("\nimport os\n")
        assert check_in_shell(place) == 1, change
        assert take_snapshot(tmp_path / "code") == place
        assert check_in_shell(place) == 0, "the launcher copied it again"


def behind_a_link(place: Path, far: Path) -> None:
    """A package goes before a module of its name, and a search for files does not enter it."""
    (far / "__init__.py").write_text("raise SystemExit(9)")
    (place / "undo_hpc" / "worker").symlink_to(far)


def the_package_is_a_link(place: Path, far: Path) -> None:
    (place / "undo_hpc").rename(far / "undo_hpc")
    (place / "undo_hpc").symlink_to(far / "undo_hpc")


def the_copy_is_a_link(place: Path, far: Path) -> None:
    place.rename(far / place.name)
    place.symlink_to(far / place.name)


def all_copies_are_behind_a_link(place: Path, far: Path) -> None:
    place.parent.rename(far / "code")
    place.parent.symlink_to(far / "code")


def bytecode_is_behind_a_link(place: Path, far: Path) -> None:
    (place / "undo_hpc" / "__pycache__").rename(far / "cache")
    (place / "undo_hpc" / "__pycache__").symlink_to(far / "cache")


def an_extension_is_a_link(place: Path, far: Path) -> None:
    (place / "undo_hpc" / "worker.so").symlink_to(far)


def a_file_is_a_link(place: Path, far: Path) -> None:
    (place / "undo_hpc" / "worker.py").rename(far / "worker.py")
    (place / "undo_hpc" / "worker.py").symlink_to(far / "worker.py")


def a_pipe(place: Path, far: Path) -> None:
    os.mkfifo(place / "undo_hpc" / "__pycache__" / "worker.pyc")


def a_package_before_a_module(place: Path, far: Path) -> None:
    (place / "undo_hpc" / "worker").mkdir()
    (place / "undo_hpc" / "worker" / "__init__.py").touch()


CHANGES = (
    behind_a_link,
    the_package_is_a_link,
    the_copy_is_a_link,
    all_copies_are_behind_a_link,
    bytecode_is_behind_a_link,
    an_extension_is_a_link,
    a_file_is_a_link,
    a_pipe,
    a_package_before_a_module,
)


def test_what_is_no_file_or_folder_of_the_copy_itself_is_refused(tmp_path: Path) -> None:
    """In a copy of a colleague's run: it leads to what was never looked at, or can be changed later."""
    place = take_snapshot(tmp_path / "code")
    for change in CHANGES:
        far = tmp_path / change.__name__
        far.mkdir()
        change(place, far)
        assert check_in_shell(place) == 1, change
        before = sorted(far.rglob("*"))
        assert take_snapshot(tmp_path / "code") == place
        assert check_in_shell(place) == 0, change
        assert sorted(far.rglob("*")) == before, f"{change}: nothing behind the link is removed"
        assert not [path for path in (place.parent, *place.parent.rglob("*")) if path.is_symlink()], change


def test_bytecode_of_another_python_is_removed(tmp_path: Path) -> None:
    """A job's Python may be another than the launcher's, and takes such bytecode whatever its source is."""
    place = take_snapshot(tmp_path / "code")
    names = ("worker.cpython-399.pyc", f"worker.{sys.implementation.cache_tag}.opt-1.pyc")
    for name in names:
        (place / "undo_hpc" / "__pycache__" / name).write_bytes(b"theirs")
    assert take_snapshot(tmp_path / "code") == place
    assert not [path for path in place.rglob("*") if path.name in names]


def test_a_copy_that_everybody_can_write_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such modes come with a run that is copied with them, and what was looked at could be changed by any user."""
    place = take_snapshot(tmp_path / "code")
    for name in ("undo_hpc/__pycache__", "undo_hpc/worker.py"):
        for at in (place.parent, place / name):
            at.chmod(0o777)
        assert take_snapshot(tmp_path / "code") == place
        assert not [at for at in (place.parent, *place.parent.rglob("*")) if at.stat().st_mode & 0o002]
    monkeypatch.setenv("UNDO_TRUST", "*")  # a file system that gives all files one mode
    (place / name).chmod(0o777)
    made = place.stat().st_ino
    assert take_snapshot(tmp_path / "code").stat().st_ino == made
