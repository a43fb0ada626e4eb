"""How an error reaches the user: what is wrong, where, what to do; never a traceback."""

from __future__ import annotations

import errno
import sys

from undo_hpc.errors import StorageError, UndoError

# What a place may do to anybody who reads or writes there: no permission, read-only, full, a server that is gone.
_OUTSIDE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


def report_error(error: UndoError) -> int:
    """Prints the error and returns its exit code."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    return int(error.exit_code)


def report_os_error(error: OSError) -> int:
    """The same for what the file system says of a path; any other is a fault of ours, and raised again."""
    if error.errno not in _OUTSIDE or error.filename is None:
        raise error
    hint = "look at the file system (full? quota? read-only?), then run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "whose is it? To share a run with a group, its owner types: chmod -R g+rwX RUN_DIR (and umask 002 before the next launch)"
    return report_error(StorageError(f"{error.filename}: {error.strerror}", hint=hint))
