"""Durable files: temporary name, fsync, rename, fsync of the folder. After a crash there is the old file or the new one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.errors import StorageError
from undo_hpc.storage.opening import open_binary, open_file, read_bytes

_DAMAGED = "the file was damaged or changed from outside; put it back, or start a new run"
_JSON = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE


@contextmanager
def translate_os_error(path: Path) -> Iterator[None]:
    """Turns the operating system's word on a full, read-only or missing place into a StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"the disk is full: cannot write {path}",
                hint="free some space (or the quota) and run the same command again; nothing is lost",
            ) from error
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}",
            hint="choose a writable place with --run-dir, or fix the permissions",
        ) from error


def own_host() -> str:
    """This host as it stands in the names of temporary files."""
    return socket.gethostname().partition(".")[0][:32].replace("-", "_")


def temporary_name(path: Path) -> Path:
    """A name beside a file for its next content. Host and random digits: nodes that share a file system may have equal pids."""
    return path.with_name(f".{path.name[:120]}.{own_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def make_folder(path: Path) -> None:
    """Makes a folder and what lacks above it, names durable. Raises OSError as `mkdir` does; no error where it is there."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    path.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):  # a place where we may make folders, but not list them
        fsync_dir(path.parent)


def fsync_dir(path: Path) -> None:
    """Makes the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_bytes(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Writes a whole file durably, from one piece or from many, which need not be in memory together.

    Raises StorageError where the disk is full or the place cannot be written.
    """
    temporary = temporary_name(path)
    with translate_os_error(path):
        make_folder(path.parent)
        try:
            with temporary.open("xb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_dir(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a text file durably, as UTF-8."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, data: Any) -> None:
    """Writes a JSON file durably."""
    write_bytes(path, encode_json(data))


def encode_json(data: Any) -> bytes:
    """The bytes of a JSON file."""
    return orjson.dumps(data, option=_JSON)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object. Raises StorageError where it is missing, torn, or holds something else."""
    try:
        found = read_bytes(path)
        if found is None:
            raise StorageError(f"{path} is missing", hint="is this the right run directory?")
        data = orjson.loads(found)
    except orjson.JSONDecodeError as error:
        raise StorageError(f"{path} is not valid JSON: {error}", hint=_DAMAGED) from error
    if not isinstance(data, dict):
        raise StorageError(f"{path} holds no JSON object", hint=_DAMAGED)
    return data


@contextmanager
def expect_fields(path: Path) -> Iterator[None]:
    """Turns what a reader meets in a file with other contents than this program writes there into a StorageError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(
            f"{path} does not hold what this program writes there ({type(error).__name__}: {error})",
            hint=_DAMAGED,
        ) from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with open_binary(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_tree(folder: Path) -> None:
    """Makes all files and names below a folder durable."""
    for parent, _, names in os.walk(folder):
        for name in names:
            fd = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        fsync_dir(Path(parent))


def publish_dir(temporary: Path, final: Path) -> None:
    """Gives a finished folder its final name durably. An older one of that name goes only after the new one stands.

    The two change places in one step. Where a file system cannot do that (NFS), there is a moment with neither of them.
    """
    with translate_os_error(final):
        fsync_tree(temporary)
        make_folder(final.parent)
        if not final.exists():
            temporary.rename(final)
            fsync_dir(final.parent)
            return
        if not _exchange(temporary, final):
            old = temporary_name(final)
            final.rename(old)
            temporary.rename(final)
            old.rename(temporary)
        fsync_dir(final.parent)
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Lets two names change places (Linux, renameat2). False where the system or the file system cannot."""
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    return bool(call(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0)


def link_file(source: Path, target: Path) -> None:
    """A second name of the same file, or a copy on another file system. Published files are never written in place.

    Raises StorageError.
    """
    with translate_os_error(target):
        make_folder(target.parent)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
            fsync_dir(target.parent)
        except OSError:
            copy_file(source, target)


def copy_file(source: Path, target: Path) -> None:
    """A durable copy of a regular file, which a link is not: it may lead out of a run, to a key. Nothing where there is no source. Raises
    StorageError."""
    if os.path.lexists(source):
        with translate_os_error(source):
            file = os.fdopen(open_file(source, os.O_RDONLY | os.O_NOFOLLOW), "rb")
        with file:
            write_bytes(target, iter(lambda: file.read(1 << 20), b""))
