"""Staging: the archive of the environment's packages, and the shell that unpacks it once a node."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from undo_hpc.cluster.environment import pack_environment
from undo_hpc.cluster.profile import Profile, load_profile
from undo_hpc.cluster.render import PRELUDE
from undo_hpc.cluster.snapshot import code_digest
from undo_hpc.errors import ClusterError, ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the launcher notes what it has packed."""
    (tmp_path / "home").mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python with a few packages, of which one would hide a part of the standard library."""
    packages = tmp_path / "site-packages"
    (packages / "soup" / "deep").mkdir(parents=True)
    (packages / "soup" / "__init__.py").write_text("value = 'staged'\n")
    (packages / "soup" / "deep" / "data.bin").write_bytes(bytes(3_000_000))
    (packages / "typing.py").write_text("raise ImportError('this hides the standard library')\n")
    (packages / "a.pth").write_text("/somewhere\n")
    (packages / "link").symlink_to("soup")
    program = tmp_path / "python"
    program.write_text(
        f'#!/bin/sh\n{sys.executable} -c "import json, sys; '
        f"print(json.dumps([['{packages}'], sorted(sys.stdlib_module_names)]))\"\n"
    )
    program.chmod(0o755)
    return program


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A snapshot of a package of two files."""
    package = tmp_path / "code" / "new" / "undo_hpc"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "worker.py").write_text("ours = True\n")
    return package.parent.rename(tmp_path / "code" / code_digest(package))


def stage(to: Path, archive: Path, code: Path, more: str = "", before: str = "") -> tuple[list[str], str]:
    """What a job would import from, and what it says."""
    script = (
        f"{before}\nsource {PRELUDE}\nUNDO_STAGE_TO={to} UNDO_STAGE_ARCHIVE={archive} UNDO_CODE={code}\n"
        f'undo_stage; undo_check_code "${{undo_paths%%:*}}" || echo CHANGED; echo "PATHS=$undo_paths"\n{more}'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    said, _, paths = done.stdout.rpartition("PATHS=")
    return paths.strip().split(":"), said + done.stderr


def test_the_archive_is_made_once_for_each_state_of_the_packages(tmp_path: Path, python: Path) -> None:
    first = pack_environment(tmp_path / "code", str(python))
    before = first.stat().st_mtime_ns
    assert pack_environment(tmp_path / "code", str(python)) == first and first.stat().st_mtime_ns == before
    names = subprocess.run(["tar", "-tf", first], capture_output=True, text=True, check=True).stdout.split()
    assert names == ["link", "soup/__init__.py", "soup/deep/data.bin"], "no typing.py, no .pth"
    (tmp_path / "site-packages" / "soup" / "__init__.py").write_text("value = 'newer'\n")
    assert pack_environment(tmp_path / "code", str(python)) != first
    with pytest.raises(ClusterError, match="cannot be asked for its packages"):
        pack_environment(tmp_path / "code", str(tmp_path / "nowhere"))


def test_an_archive_that_came_with_a_run_is_not_believed(
    tmp_path: Path, python: Path, code: Path, home: Path
) -> None:
    """A colleague sees the names, sizes and times of the packages, and so made one that had the right name."""
    ours = pack_environment(tmp_path / "ours", str(python))
    gift, local = tmp_path / "gift", tmp_path / "local"
    gift.mkdir()
    theirs = gift / ours.name
    (tmp_path / "soup").mkdir()
    (tmp_path / "soup" / "__init__.py").write_text("value = 'theirs'\n")
    subprocess.run(["tar", "-C", tmp_path, "-cf", theirs, "soup"], check=True)
    digest = hashlib.sha256(theirs.read_bytes()).hexdigest()
    Path(f"{theirs}.sha256").write_text(digest + "\n")
    named = theirs.rename(gift / f"environment-{digest}.tar") if ours.name == theirs.name else theirs
    taken = pack_environment(gift, str(python))
    assert taken.name == ours.name and taken != named, "its SHA-256 is none that was noted: packed again"
    # of the name of one that we have packed: found by the nodes
    named.replace(taken)
    Path(f"{taken}.sha256").write_text(digest + "\n")
    assert pack_environment(gift, str(python)) == taken
    paths, said = stage(local, taken, code)
    assert paths == [str(code)] and "imports come from the shared file system" in said
    # a copy of our own run is taken as it is; without a note it is packed again
    copied = tmp_path / "copied" / ours.name
    copied.parent.mkdir()
    shutil.copyfile(ours, copied)
    before = copied.stat().st_ino
    assert pack_environment(copied.parent, str(python)) == copied and copied.stat().st_ino == before
    shutil.rmtree(home / ".cache")
    assert pack_environment(copied.parent, str(python)) == copied and copied.stat().st_ino != before
    (home / ".cache").chmod(0o777)  # no place of ours any more: nothing is believed, nothing fails
    assert pack_environment(copied.parent, str(python)) == copied


def test_a_node_unpacks_once_and_tasks_import_from_there(tmp_path: Path, python: Path, code: Path) -> None:
    archive = pack_environment(tmp_path / "code", str(python))
    local = tmp_path / "local"
    script = (
        f"source {PRELUDE}\nUNDO_STAGE_TO={local} UNDO_STAGE_ARCHIVE={archive} UNDO_CODE={code}\nundo_stage"
    )
    jobs = [subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = "".join(job.communicate()[0] for job in jobs)
    assert [job.returncode for job in jobs] == [0] * 4 and said.count("unpacked") == 1, said
    paths, said = stage(local, archive, code)
    assert all(path.startswith(f"{local}/undo-{os.getuid()}/") for path in paths) and not said
    where = "import soup, typing, undo_hpc; print(soup.value, soup.__file__, undo_hpc.__file__)"
    env = os.environ | {"PYTHONPATH": ":".join(paths)}
    found = subprocess.run(
        [sys.executable, "-P", "-c", where], env=env, capture_output=True, text=True, check=True, cwd="/"
    ).stdout.split()
    assert found == ["staged", f"{paths[1]}/soup/__init__.py", f"{paths[0]}/undo_hpc/__init__.py"]


def test_torn_copies_are_made_again_and_old_ones_removed(tmp_path: Path, python: Path, code: Path) -> None:
    archive = pack_environment(tmp_path / "code", str(python))
    local = tmp_path / "local"
    (place, packages), _ = stage(local, archive, code)
    (Path(packages) / ".complete").unlink()  # its task was killed
    (Path(packages) / "soup" / "__init__.py").write_text("")
    (Path(place) / "undo_hpc" / "worker.py").write_text("")
    old, young = (Path(packages).parent / name for name in ("environment-old", "environment-young"))
    for folder, days in ((old, 30), (young, 3)):
        folder.mkdir()
        (folder / ".complete").touch()
        os.utime(folder / ".complete", (time.time() - days * 86_400,) * 2)
    paths, said = stage(local, archive, code)
    assert paths == [place, packages] and "unpacked" in said and "CHANGED" not in said
    assert (Path(packages) / "soup" / "__init__.py").read_text() and not old.exists() and young.exists()


@pytest.mark.parametrize(
    "trouble",
    ["no folder", "full", "damaged archive", "no archive", "another's", "for everybody", "planted", "linked"],
)
def test_where_nothing_can_be_staged_tasks_import_as_before(
    tmp_path: Path, python: Path, code: Path, trouble: str
) -> None:
    archive = pack_environment(tmp_path / "code", str(python))
    local, before = tmp_path / "local", ""
    if trouble == "no folder":
        local = Path("/proc/nowhere")
    elif trouble == "full":
        before = "ulimit -f 1000"  # a file of a megabyte at most: tar fails as on a full disk
    elif trouble == "damaged archive":
        data = bytearray(archive.read_bytes())
        data[-20_000] ^= 1
        archive.write_bytes(data)
    elif trouble == "no archive":
        archive = tmp_path / "none.tar"
    elif (
        trouble == "for everybody"
    ):  # and without a sticky bit: whoever likes may put another folder in the place of ours
        local.mkdir()
        local.chmod(0o777)
    elif trouble in ("planted", "linked"):  # sticky, but of a user who may rename all that lies in it
        if os.geteuid() != 0:
            pytest.skip("only root can give a file to another user")
        before = "export UNDO_TRUST="
        tmp_path.chmod(0o1777)
        if trouble == "planted":
            local.mkdir()
        else:
            (tmp_path / "far").mkdir()
            local.symlink_to(tmp_path / "far")
        os.chown(local, 54321, -1, follow_symlinks=False)
        (local / ".").chmod(0o1777)
    else:
        local.mkdir()
        (local / f"undo-{os.getuid()}").symlink_to(tmp_path)
    paths, said = stage(local, archive, code, before=before)
    assert paths == [str(code)] and "imports come from the shared file system" in said
    left = local.rglob("*") if local.exists() and trouble != "another's" else ()
    assert not [path for path in left if path.is_dir() and path.name.startswith("environment")]


@pytest.mark.parametrize("where", ["itself", "above", "behind a link"])
@pytest.mark.parametrize("who", ["a group", "an access list", "everybody", "whose it is"])
def test_nothing_is_staged_where_others_may_rename_it(
    tmp_path: Path, python: Path, code: Path, who: str, where: str
) -> None:
    """The next task of a node imports what is there then."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user or group")
    archive, shared = pack_environment(tmp_path / "code", str(python)), tmp_path / "shared"
    shared.mkdir()
    local = shared if where == "itself" else shared / "local"
    local.mkdir(exist_ok=True)
    if where == "behind a link":
        (tmp_path / "link").symlink_to(local)
        (tmp_path / "far").symlink_to("link")
        local = tmp_path / "far"
    paths, _ = stage(local, archive, code, before="export UNDO_TRUST=")
    assert len(paths) == 2
    if who == "a group":
        os.chown(shared, -1, 54321)
    elif who == "an access list":
        entries = [
            (1, 7, 2**32 - 1),
            (2, 7, 54321),
            (4, 5, 2**32 - 1),
            (16, 7, 2**32 - 1),
            (32, 5, 2**32 - 1),
        ]
        listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
        try:
            os.setxattr(shared, "system.posix_acl_access", listed)
        except OSError:
            pytest.skip("the file system has no access control lists")
    elif who == "whose it is":
        os.chown(shared, 54321, -1)
    if who != "an access list":
        shared.chmod({"a group": 0o2775, "everybody": 0o777, "whose it is": 0o1777}[who])
    paths, said = stage(local, archive, code, before="export UNDO_TRUST=")
    assert paths == [str(code)] and "imports come from the shared file system" in said
    if who in ("a group", "whose it is"):
        paths, _ = stage(local, archive, code, before="export UNDO_TRUST='@54321, 54321, @UNKNOWN, UNKNOWN'")
        assert len(paths) == 2
    if who in ("a group", "an access list"):
        shared.chmod(0o3775)  # nobody but we may rename what is ours
        assert len(stage(local, archive, code, before="export UNDO_TRUST=")[0]) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_that_changes_while_it_is_looked_at_is_no_place_for_programs(
    tmp_path: Path, python: Path, code: Path
) -> None:
    """In a place for everybody another user changes a link to a folder of ours for a folder of theirs, at each look at it. Each of two questions
    ("is it ours?", "is it no link?") was answered well, and their packages were imported."""
    archive, local = pack_environment(tmp_path / "code", str(python)), tmp_path / "local"
    local.mkdir()
    local.chmod(0o1777)
    (local / f"undo-{os.getuid()}").symlink_to(tmp_path / "code")
    (local / "theirs").mkdir()
    os.chown(local / "theirs", 54321, -1)
    looks = f"""export UNDO_TRUST=
source {PRELUDE}
ours={local}/undo-$(id -u)
change() {{ mv -T $ours {local}/third; mv -T {local}/theirs $ours; mv -T {local}/third {local}/theirs; }}
looked() {{ local code=$? word; for word in "$@"; do builtin [ "$word" != "$ours" ] || change; done; return $code; }}
[() {{ builtin [ "$@"; looked "$@"; }}
stat() {{ command stat "$@"; looked "$@"; }}
undo_unpack {local} {archive} {code} && echo STAGED
"""
    done = subprocess.run(["bash", "-c", looks], capture_output=True, text=True, timeout=60)
    # It was looked at, and changed.
    assert "STAGED" not in done.stdout and (local / "theirs").is_symlink(), done


def test_an_access_list_of_the_place_gives_nobody_what_is_unpacked(
    tmp_path: Path, python: Path, code: Path
) -> None:
    """A default list counts in place of the umask: users whom it names could change the packages that tasks import."""
    archive, local = pack_environment(tmp_path / "code", str(python)), tmp_path / "local"
    local.mkdir()
    entries = [(1, 7, 2**32 - 1), (2, 7, 54321), (4, 7, 2**32 - 1), (16, 7, 2**32 - 1), (32, 5, 2**32 - 1)]
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(local, "system.posix_acl_default", listed)
    except OSError:
        pytest.skip("the file system has no access control lists")
    paths, _ = stage(local, archive, code)
    place = local / f"undo-{os.getuid()}"
    assert (
        paths[0].startswith(str(place)) and place.stat().st_mode & 0o077 == 0
    )  # the most that it gives to anybody


def test_settings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    def load(text: str) -> Profile:
        file = tmp_path / "profile.yaml"
        file.write_text(text)
        return load_profile(file)

    assert load("stage_to: /local/scratch").stage_to == "/local/scratch"
    with pytest.raises(ConfigError, match="absolute path"):
        load("stage_to: scratch")
    with pytest.raises(ConfigError, match="packages of a container are in its image"):
        load("stage_to: /local\ncontainer: {kind: apptainer, image: a.sif}")
    with pytest.raises(ConfigError, match="means nothing without stage_to"):
        load("stage_archive: /shared/a.tar")
