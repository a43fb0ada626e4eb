"""Who else may write where we read programs from: another owner, everybody, a group. A run's configuration names modules, commands and
plug-ins, so whoever can change it decides what runs under this account.

`UNDO_TRUST` in the environment names those who may: users, groups as `@NAME`, or `*` (file systems that know no users), divided by commas.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from undo_hpc.errors import ConfigError

TRUST = "UNDO_TRUST"
EVERYBODY = "*"
READ, WRITE, ENTER, OWNING = 4, 2, 1, -1  # rights; and the number that stands for a file's own group


def keep_from_everybody() -> None:
    """From here on no file or folder of this process, or of those that it starts, can be written by everybody, whatever the umask was."""
    os.umask(os.umask(0o077) | 0o002)


def require_trusted(folder: Path, what: str) -> None:
    """Refuses a folder that belongs to another user, or in which everybody can write. Nothing where there is none.

    Args:
        what: the folder in words, for messages.

    Raises:
        ConfigError: with the command that makes it safe, and the one that says that it is meant so.
    """
    if not folder.is_dir() or is_trusted(EVERYBODY):
        return
    state = folder.stat()
    if state.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"every user of this machine can write in {what} {folder}, and so run programs as you",
            hint=f"chmod -R o-w {folder}, after a look at what lies there; where the file system knows no users: export {TRUST}='*'",
        )
    if not is_ours(state.st_uid, folder):
        raise _foreign(folder, what, state.st_uid)


def require_own_way(folder: Path) -> None:
    """Refuses a run, or a place to write to, below what another user has put into a folder for everybody (`/scratch/checkpoints`, where a command is typed in
    `/scratch`), be it a folder or a link to one elsewhere: they may rename what lies in it, and put a run of theirs there while we are at
    work. Raises ConfigError, OSError."""
    for at in () if is_trusted(EVERYBODY) else steps_to(folder):
        with contextlib.suppress(OSError):  # what is still to be made
            owner = at.lstat().st_uid
            if at.parent.stat().st_mode & stat.S_IWOTH and not is_ours(owner, at.parent):
                raise ConfigError(
                    f"{at} belongs to another user, {user_name(owner)}, in a folder where everybody can write: they can put something else "
                    f"in place of {folder}",
                    hint=f"choose a place of your own; or, where {user_name(owner)} may use your account: export {TRUST}={user_name(owner)}",
                )


def require_trusted_code(folder: Path) -> None:
    """`require_trusted` for a folder of plug-ins, of which modules are imported at any time from now on: nor may everybody be able to put
    another in its place, as in, or below, a folder for everybody without a sticky bit. Raises ConfigError, OSError."""
    what = "the folder of plug-ins"
    require_trusted(folder, what)
    for at in () if is_trusted(EVERYBODY) else steps_to(folder):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            mode = at.parent.stat().st_mode
            if mode & stat.S_IWOTH and not (
                mode & stat.S_ISVTX and is_ours(owner := at.lstat().st_uid, at.parent)
            ):
                who = (
                    f"its owner, {user_name(owner)}," if mode & stat.S_ISVTX else "every user of this machine"
                )
                raise ConfigError(
                    f"{who} can put another folder in place of {at}, and so run programs as you: {what} is {folder}",
                    hint="copy it to a folder of your own, after a look at what lies there; where the file system knows no users: "
                    f"export {TRUST}='*'",
                )


def others_can_replace(folder: Path) -> bool:
    """Whether another user can put something of theirs in place of what we make in a folder: others than its owner may rename what lies there,
    or on the way to it, or another user has put that into a folder where others can write. Raises OSError."""
    if is_trusted(EVERYBODY):
        return False
    for at in steps_to(folder):
        if (
            at.is_dir()
            and others_write(at)
            and not (at.stat().st_mode & stat.S_ISVTX and is_ours(at.stat().st_uid, at))
        ):
            return True
        if others_write(at.parent) and not is_ours(at.lstat().st_uid, at.parent):
            return True
    return False


def others_own(folder: Path) -> bool:
    """Whether a folder is another user's, or one where others can write. Raises OSError."""
    return not is_ours(folder.stat().st_uid, folder) or others_write(folder)


def others_write(folder: Path) -> bool:
    """Whether others than its owner can write in a folder: everybody, a group, or a user of its access control list; not those who are
    trusted, and not the group of this user alone. Raises OSError."""
    state = folder.stat()
    users, groups = _who_writes(folder, state)
    numbers = [state.st_gid if each == OWNING else each for each in groups]
    return not is_trusted(EVERYBODY) and (
        bool(state.st_mode & stat.S_IWOTH)
        or not all(is_trusted(user_name(each)) for each in users)
        or not all(_is_private(each) or is_trusted(f"@{_group(each)}") for each in numbers)
    )


def _who_writes(folder: Path, state: os.stat_result) -> tuple[list[int], list[int]]:
    """The users and groups that can write in a folder, or in what is made there: by its own access list, and by the one that new files inherit."""
    users, groups = access_list(folder, WRITE) or ([], [OWNING] if state.st_mode & stat.S_IWGRP else [])
    later = access_list(folder, WRITE, of="default") or ([], [])
    return users + later[0], groups + later[1]


def leave_folder_for_everybody(ours: Path) -> None:
    """Goes from a folder where everybody can write (`/scratch`, in which a command was typed) to one of ours: there an id on the Hub means a
    folder as soon as another user makes one of its name, behind all checks, and their model would be loaded. Raises OSError."""
    here = 0
    with contextlib.suppress(OSError):  # a folder that was removed meanwhile
        here = Path.cwd().stat().st_mode
    if here & stat.S_IWOTH and not is_trusted(EVERYBODY):
        os.chdir(ours)


def require_own_file(file: Path, what: str) -> None:
    """Refuses a file of a run that another user has written, or that everybody can write. Nothing where there is none. Raises ConfigError."""
    if not file.is_file() or is_trusted(EVERYBODY):
        return
    require_not_for_everybody(file)
    owner = file.stat().st_uid
    if not is_ours(owner, file.parent):
        raise _foreign(file, what, owner)


def require_no_planted_links(folders: Iterable[Path]) -> None:
    """Refuses links of other users in these folders: what is written or removed behind them would be written or removed elsewhere, as you.
    Links of your own are yours to make. Nothing where there is no such folder. Raises ConfigError."""
    for path in () if is_trusted(EVERYBODY) else map(Path, _links(folders)):
        if not is_ours(owner := path.lstat().st_uid, path.parent):
            raise ConfigError(
                f"{path} is a link of another user, {user_name(owner)}, to {path.readlink()}: what is written there would be written as you",
                hint=f"remove the link; or, where {user_name(owner)} may use your account: export {TRUST}={user_name(owner)}",
            )


def steps_to(path: Path) -> Iterator[Path]:
    """All folders and links on the way to a file, and the file. Raises OSError where they go round."""
    waiting, at, most = list(reversed(path.absolute().parts)), Path(), 40  # as the kernel follows
    while waiting:
        at = at.parent if (part := waiting.pop()) == ".." else at / part
        yield at
        with contextlib.suppress(OSError):  # no link, or not there
            waiting.extend(reversed(at.readlink().parts))
            at, most = at.parent, most - 1
        if not most:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _links(folders: Iterable[Path]) -> Iterator[str]:
    for folder in folders:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError),
            os.scandir(folder) as found,
        ):
            yield from (entry.path for entry in found if entry.is_symlink())


def require_not_for_everybody(file: Path) -> None:
    """Refuses a file that everybody can write or replace, or that another user has put into a folder for everybody (/tmp), where one of ours may have
    been: it names programs that run under this account. A colleague's file in a place of theirs is the user's to choose. Raises ConfigError."""
    if not file.is_file() or is_trusted(EVERYBODY):
        return
    if file.stat().st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"every user of this machine can write {file}, which names programs that run as you",
            hint=f"chmod o-w {file}, after a look at it; where the file system knows no users: export {TRUST}='*'",
        )
    if (
        file.parent.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH
    ):  # between a look and the reading, too
        raise ConfigError(
            f"every user of this machine can put another file in place of {file}, which names programs that run as you: its folder has no "
            "sticky bit",
            hint=f"copy it to a folder of your own, after a look at it; where the file system knows no users: export {TRUST}='*'",
        )
    if len(file.parts) > 1 and not file.is_absolute():
        require_not_planted(Path.cwd(), str(file), "the path")
    for at in steps_to(file):  # anybody may have put this there, in place of what the user laid
        open_to_all = at.parent.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH
        if open_to_all and not is_ours(at.lstat().st_uid, at.parent):
            raise ConfigError(
                f"{at} is another user's, {user_name(at.lstat().st_uid)}, in a folder where everybody can rename what lies there, and {file} "
                "names programs that run as you",
                hint=f"copy it to a folder of your own, after a look at it; where the file system knows no users: export {TRUST}='*'",
            )
    owner = file.lstat().st_uid
    if file.parent.stat().st_mode & stat.S_IWOTH and not is_ours(owner, file.parent):
        raise ConfigError(
            f"{file} is another user's, {user_name(owner)}, in a folder where everybody can write, and names programs that run as you",
            hint=f"copy it to a folder of your own, after a look at it; or, where {user_name(owner)} may use your account: "
            f"export {TRUST}={user_name(owner)}",
        )


def require_not_planted(folder: Path, name: str, key: str) -> None:
    """Refuses a relative name that leads to another user's files because the folder it is meant from is one for everybody, such as /tmp:
    there a model's id on the Hub may be a folder, too. Raises ConfigError."""
    parts = Path(name).parts
    if not parts or name in (".", "..") or name.startswith(("./", "../")):
        return
    first = folder / parts[0]
    if not (first.exists() or first.is_symlink()) or not folder.stat().st_mode & stat.S_IWOTH:
        return
    if not is_trusted(EVERYBODY) and not is_ours(owner := first.lstat().st_uid, folder):
        raise ConfigError(
            f"{key}: '{name}' leads to files of another user, {user_name(owner)}, in {folder}, where everybody can write",
            hint=f"start from a folder of your own; or write ./{name} if these files are meant",
        )


def require_no_planted_files(within: Path, files: Iterable[Path]) -> None:
    """Refuses files that were found below a folder, by a pattern or as all of it, and that another user may have added: they, or what they lie
    in, are in a folder for everybody. Raises ConfigError, OSError."""
    found = dict.fromkeys(
        at for file in files for at in (file, *file.parents) if at != within and within in at.parents
    )
    for at in () if is_trusted(EVERYBODY) else found:
        if at.parent.stat().st_mode & stat.S_IWOTH and not is_ours(owner := at.lstat().st_uid, at.parent):
            raise ConfigError(
                f"{at} is another user's, {user_name(owner)}, in a folder where everybody can write, and would be read with the others",
                hint=f"copy those that are meant to a folder of your own; or, where {user_name(owner)}'s are: export {TRUST}={user_name(owner)}",
            )


def others_who_write(folder: Path) -> list[str]:
    """A sentence for each group, or everybody, that can change a folder or put another in its place; the folder may be still to be made."""
    above = folder.parent
    while not above.is_dir() and above != above.parent:
        above = above.parent
    state, found = above.stat(), []
    if state.st_mode & stat.S_IWOTH and not state.st_mode & stat.S_ISVTX and not is_trusted(EVERYBODY):
        found.append(
            f"every user of this machine can rename {folder}, and put another in its place: {above} has no sticky bit"
        )
    if folder.is_dir():
        group, writes = folder.stat().st_gid, False
    else:  # as it will be made
        group = state.st_gid if state.st_mode & stat.S_ISGID else os.getegid()
        writes = not _umask() & stat.S_IWGRP
    if folder.is_dir():
        users, groups = _who_writes(folder, folder.stat())
    else:
        users, groups = access_list(above, WRITE, of="default") or ([], [OWNING] if writes else [])
    for number in dict.fromkeys(group if each == OWNING else each for each in groups):
        if not _is_private(number) and not is_trusted(f"@{_group(number)}"):
            found.append(
                f"the members of group {_group(number)} can write in {folder}: what they change there runs as you, and is believed. "
                f"Is it meant so, export {TRUST}=@{_group(number)}; else chmod -R g-w {folder} (and umask 022; where it has access lists: setfacl -R -b -k)"
            )
    for name in dict.fromkeys(map(user_name, users)):
        if not is_trusted(name):
            found.append(
                f"an access control list lets the user {name} write in {folder}: what they change there runs as you, and is believed. "
                f"Is it meant so, export {TRUST}={name}; else setfacl -R -b -k {folder if folder.is_dir() else above}"
            )
    return found


def readable_by_others(file: Path) -> str:
    """A sentence where others than its owner can read a file that holds a secret, else empty. A trusted group may."""
    try:
        state = file.stat()
    except OSError:
        return ""
    users, groups = access_list(file, READ) or ([], [OWNING] if state.st_mode & 0o040 else [])
    numbers = [state.st_gid if each == OWNING else each for each in groups]
    who = [
        f"the members of group {_group(each)}"
        for each in numbers
        if not _is_private(each) and not is_trusted(f"@{_group(each)}")
    ]
    who += [f"the user {name}" for name in map(user_name, users) if not is_trusted(name)]
    if state.st_mode & 0o004:
        who.append("all users of this machine")
    return f"{file} holds a secret, and {who[0]} may read it: chmod 600 {file}" if who else ""


_USER, _OWNING_GROUP, _GROUP, _MASK = 2, 4, 8, 16


class ListEntry(NamedTuple):
    """Of an access control list: a user or a group (`OWNING`: the owning one), and the rights that are left of theirs by the mask."""

    is_user: bool
    number: int
    rights: int


def list_entries(path: Path, *, of: str = "access") -> list[ListEntry] | None:
    """The users and groups of an access control list; None where there is none. The group's bits of a mode are the most that the list gives
    to anybody, and say nothing of the group itself (acl(5), posix_acl_xattr.h)."""
    try:
        entries = list(struct.iter_unpack("<HHI", os.getxattr(path, f"system.posix_acl_{of}")[4:]))
    except (OSError, AttributeError, struct.error):  # no list, or a system that has none
        return None
    most = next((rights for tag, rights, _ in entries if tag == _MASK), 7)
    return [
        ListEntry(tag == _USER, OWNING if tag == _OWNING_GROUP else number, rights & most)
        for tag, rights, number in entries
        if tag in (_USER, _OWNING_GROUP, _GROUP)
    ]


def access_list(path: Path, right: int, *, of: str = "access") -> tuple[list[int], list[int]] | None:
    """The users but us, and the groups, to which an access control list gives a right; None where there is none."""
    if (entries := list_entries(path, of=of)) is None:
        return None
    given = [each for each in entries if each.rights & right]
    users = [each.number for each in given if each.is_user and each.number not in (0, os.geteuid())]
    return users, [each.number for each in given if not each.is_user]


def _foreign(path: Path, what: str, owner: int) -> ConfigError:
    name = user_name(owner)
    return ConfigError(
        f"{what} {path} belongs to another user, {name}: its configuration names programs, which would run as you",
        hint=f"where {name} may use your account: export {TRUST}={name} (several divided by commas), and the same command again",
    )


def is_ours(owner: int, folder: Path) -> bool:
    if owner in (0, os.geteuid()) or is_trusted(user_name(owner)):
        return True
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_uid == owner  # a file system that gives all files to one user
    return False


def is_trusted(name: str) -> bool:
    return name in {word.strip() for word in os.environ.get(TRUST, "").split(",")}


def _umask() -> int:
    """Of this process. (Other threads make files meanwhile, so it is not changed to be seen where the kernel tells it.)"""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    found = os.umask(0o077)
    os.umask(found)
    return found


def _is_private(group: int) -> bool:
    """Whether a group is that of this user alone, as many systems make one for each."""
    try:
        found, me = grp.getgrgid(group), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group == me.pw_gid and found.gr_name == me.pw_name and set(found.gr_mem) <= {me.pw_name}


def user_name(number: int) -> str:
    """The name of a user id; the number where the system has none for it (a container)."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
