"""How files of a run are opened: as regular files only. Who else may write there may have put a pipe in place of one, at which a reader waits
for ever, a device that never ends, or a link to another file of ours."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path

_CHUNK = 1 << 16
LARGEST = (
    1 << 30
)  # bytes of a manifest, a plan, a log of events: the largest of a real run have some millions
ANY_SIZE = 1 << 62


def open_file(path: Path | str, flags: int = os.O_RDONLY) -> int:
    """The descriptor of a regular file. Raises OSError: as `os.open`, and EINVAL for a pipe, a device or a socket."""
    return _opened(path, flags)[0]


def _opened(path: Path | str, flags: int) -> tuple[int, int]:
    """The descriptor, and the file's bytes."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)  # less the umask: a group may share a run
    state = os.fstat(fd)
    if stat.S_ISREG(state.st_mode):
        return fd, state.st_size
    os.close(fd)
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(
        errno.EINVAL, "it is a pipe or a device, and no file (who put it there? remove it)", str(path)
    )


def open_binary(path: Path | str) -> BufferedReader:
    """A regular file for reading. Raises OSError as `open_file`."""
    return os.fdopen(open_file(path), "rb")


def require_file(path: Path | str) -> None:
    """For what a library opens by its name. Raises OSError as `open_file`."""
    os.close(open_file(path))


def open_append(path: Path | str) -> FileIO:
    """A regular file to be appended to, made where it is not there; never the one that a link leads to. Raises OSError as `open_file`."""
    return FileIO(open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW), "ab")


def read_bytes(path: Path | str, largest: int = LARGEST) -> bytes | None:
    """A file's bytes by bare system calls (pathlib costs ten times as much, which counts for ten thousand files); None if absent.

    Raises OSError: as `open_file`, and EFBIG for a file above `largest` bytes.
    """
    try:
        fd, size = _opened(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if size > largest:
            raise OSError(
                errno.EFBIG, f"it has {size:,} bytes, which no file of its kind has (remove it)", str(path)
            )
        data = os.read(fd, _CHUNK)
        if len(data) == _CHUNK:
            pieces = [data]
            while piece := os.read(fd, _CHUNK):
                pieces.append(piece)
            data = b"".join(pieces)
    finally:
        os.close(fd)
    return data
