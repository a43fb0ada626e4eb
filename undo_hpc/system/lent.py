"""What lies in a place of another user's, or of a group: they can lay a link there to a file of ours that we would read for them, and change
it for another while we look."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from undo_hpc.errors import ConfigError, StorageError
from undo_hpc.system.ownership import (
    ENTER,
    EVERYBODY,
    OWNING,
    READ,
    TRUST,
    is_ours,
    is_trusted,
    list_entries,
    steps_to,
    user_name,
)

# Of the stores of the Hub's cache, git-annex and DVC: a name that is a digest leads to no file that somebody would know.
_DIGEST = re.compile(r"[0-9a-f]{30,64}|[A-Z0-9_]+(-[smSC]\d+)*--[0-9a-f]{32,}.*")
_TICK_S = 0.02  # in which the times of a file system move on
_COARSE_TICK_S = 1.1  # where they are whole seconds, as those of Lustre


class Look(NamedTuple):
    """What lies at a place: device and number, times of change and of writing, and its folder's time of change."""

    place: tuple[int, int]
    changed: int
    written: int
    above: int
    is_ours: bool


Standing = dict[Path, Look]


def folders_below(folder: Path) -> list[Path]:
    """A folder and all folders in it, empty ones too, in which a file may appear; also those that links lead to."""
    found, seen = list[Path](), set[Path]()
    for at, folders, _ in os.walk(folder.resolve(), followlinks=True):
        if (real := Path(at).resolve()) in seen:  # links that go round
            folders.clear()
            continue
        seen.add(real)
        found += [Path(at), real]
    return found


@contextlib.contextmanager
def undisturbed(files: Iterable[Path]) -> Iterator[None]:
    """For looks at files, and at folders in which none may appear, and for the reading of them. Another user who owns a folder on the way can
    put a link in place of what lies there between a look and the reading, and take it away before the next look; but not without a mark in its
    time of change. Nothing where there is no such folder (a group's own folders are busy with its work, and it is trusted with more:
    docs/security.md). Raises StorageError, behind the reading or where they never stand still; OSError."""
    files = list(files)
    for _ in range(20):
        before = _standing(files)
        if not before:
            break
        coarse = any(look.changed % 10**9 == 0 for look in before.values())
        time.sleep(
            _COARSE_TICK_S if coarse else _TICK_S
        )  # what changes from here on is later than these times
        if not (changed := _changed(before, _standing(files), files)):
            break
    else:
        raise _disturbed(changed)
    yield
    if before and (changed := _changed(before, _standing(files), files)):
        raise _disturbed(changed)


def _standing(files: Iterable[Path]) -> Standing:
    """What lies on the way to files where another user can put something else. No name is made to look: that would be a change, too."""
    found: Standing = {}
    folders: dict[Path, os.stat_result] = {}  # thousands of files lie in one
    for at in dict.fromkeys(at for file in files for at in steps_to(file)):
        with contextlib.suppress(FileNotFoundError):
            state = at.lstat()
            above = folders[at.parent] = folders.get(at.parent) or at.parent.stat()
            if _can_be_swapped(state, above):
                place, ours = (state.st_dev, state.st_ino), _is_known(state.st_uid)
                found[at] = Look(place, state.st_ctime_ns, state.st_mtime_ns, above.st_ctime_ns, ours)
    return found


def _can_be_swapped(state: os.stat_result, above: os.stat_result) -> bool:
    """In a folder of theirs; in one of ours for everybody where all may rename, or where it is theirs."""
    if is_trusted(EVERYBODY):
        return False
    for_all = above.st_mode & stat.S_IWOTH and not (above.st_mode & stat.S_ISVTX and _is_known(state.st_uid))
    return bool(not _is_known(above.st_uid) or for_all)


def _is_known(owner: int) -> bool:
    return owner in (0, os.geteuid()) or is_trusted(user_name(owner))


def _changed(before: Standing, now: Standing, files: Iterable[Path]) -> list[Path]:
    """What another user has renamed, made or removed. Folders farther up may get new entries meanwhile (a colleague downloads a model, our
    own run goes on). One that is renamed changes the folder above it, too, whatever is done to hide it; and one of ours is not written."""
    near = {file.parent for file in files} | set(files)

    def same(at: Path) -> bool:
        old, new = before.get(at), now.get(at)
        if old is None or new is None or old.place != new.place:
            return False
        entries = old.above == new.above or (old.is_ours and new.is_ours and old.written != new.written)
        return old.changed == new.changed or (entries and at.is_dir() and at not in near)

    return [at for at in before | now if not same(at)]


def _disturbed(changed: list[Path]) -> StorageError:
    return StorageError(
        f"{changed[0]} was changed, or something else put in its place, while it was read: it lies where other users can write",
        hint="run the command again; or put a copy where you alone can write",
    )


def require_not_lent(path: Path) -> None:
    """Refuses a link of another user, wherever it stands on the way to a file that we are to read, if they may not read that file
    themselves: they would in what comes of it (the copy of a prompt, the settings of a student, the problems of a run). Links to what
    they may read, such as those of a model cache that several people share, are as good as files. Raises ConfigError, OSError."""
    for link in _links_to(path):
        owner = link.lstat().st_uid
        if not (_may_read(owner, path) or is_trusted(EVERYBODY) or is_ours(owner, link.parent)):
            name, file = user_name(owner), path.resolve()
            known = "" if _groups_of(owner) else " (as far as this system knows: not their groups)"
            raise ConfigError(
                f"{link} is a link of another user, {name}, to a file that they may not read themselves{known}, {file}: they could read it "
                "in what comes of it",
                hint=f"put a copy of the folder where you alone can write; or, if it is meant so: export {TRUST}={name}",
            )


def require_no_stray_link(file: Path, folder: Path, what: str = "the model") -> None:
    """Refuses a link in a folder of a model, or of prompts, that leads out of it to a file of another name. In a folder that was cloned or
    unpacked it is ours, whoever chose its end: `generation_config.json -> ../../.docker/config.json` would stand beside the student, and
    private weights in it. Raises ConfigError, OSError."""
    if found := stray_link(file, folder):
        link, end = found
        raise ConfigError(
            f"{link} is a link to a file outside of {what}, {end}, which would stand in what comes of it",
            hint=f"ask who made {what}; or, if it is meant so, put a copy of that file in place of the link",
        )


def stray_link(file: Path, folder: Path) -> tuple[Path, Path] | None:
    """A link in a folder that leads out of it to a file of another name, and its end. Links that people lay lead to another folder's file of
    that name, those of the Hub's cache, of git-annex and DVC to their stores: these are none. Raises OSError."""
    top, names = folder.resolve(), file.relative_to(folder).parts
    path = top.joinpath(*names)
    end = path.resolve()  # of the whole chain: each link of one may look harmless by itself
    inside = next(
        (k for k in range(len(names)) if not _lies_in(top.joinpath(*names[: k + 1]), top)), len(names)
    )
    named_alike = end.parts[inside - len(names) :] == names[inside:]  # from the link that leads out
    store, of = end.parent, end.parents[1]
    cached = store.name == "blobs" and (
        of.name.startswith(("models--", "datasets--")) or of in path.parents[1:3]
    )
    annexed = store.name == end.name and "--" in end.name
    if inside == len(names) or named_alike or cached or annexed or _DIGEST.fullmatch(end.name):
        return None
    return top.joinpath(*names[: inside + 1]), end


def _lies_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder)


def _links_to(path: Path) -> Iterator[Path]:
    """The links on the way to a file, in their order. Raises OSError where they go round."""
    if os.path.realpath(path) != str(path.absolute()):
        yield from (at for at in steps_to(path) if at.is_symlink())


def _may_read(user: int, path: Path) -> bool:
    """Whether a user may read a file, by the modes and access control lists of it and of the folders that it lies in."""
    file, groups = path.resolve(), _groups_of(user)
    if file.stat().st_uid == user:
        return True
    return _grants(file, READ, user, groups) and all(
        _grants(each, ENTER, user, groups) for each in file.parents
    )


def _groups_of(user: int) -> list[int]:
    with contextlib.suppress(KeyError, OSError):  # a user without a name is in no group that we know
        return os.getgrouplist(pwd.getpwuid(user).pw_name, pwd.getpwuid(user).pw_gid)
    return []


def _grants(path: Path, right: int, user: int, groups: list[int]) -> bool:
    """As the kernel decides: by the first that names the user of owner, list, groups, and by what holds for others only where none does."""
    state = path.stat()
    if state.st_uid == user:
        return bool(state.st_mode >> 6 & right)
    entries = list_entries(path)
    if entries is None:
        in_group = state.st_gid in groups
        return bool((state.st_mode >> 3 if in_group else state.st_mode) & right)
    own = [each.rights for each in entries if each.is_user and each.number == user]
    mine = [
        each.rights
        for each in entries
        if not each.is_user and (state.st_gid if each.number == OWNING else each.number) in groups
    ]
    found = own or mine
    return any(rights & right for rights in found) if found else bool(state.st_mode & right)
