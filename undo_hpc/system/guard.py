"""How an error reaches the user: what is wrong, where, what to do; never a traceback. One guard stands at all entry points."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from undo_hpc.errors import ConfigError, ExitCode, StorageError, UndoError
from undo_hpc.system.credentials import hub_token, redacted
from undo_hpc.system.own_places import use_own_places
from undo_hpc.system.ownership import keep_from_everybody
from undo_hpc.system.wording import printable

# What is wrong with the path that was given, rather than with the place where it leads.
_WRONG_PATH = {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}


class UnexpectedError(UndoError):
    """An error that nobody foresaw; its traceback is in a file."""


def guard(
    command: Callable[[], int],
    *,
    interrupted: str = "",
    explain: Callable[[Exception], UndoError] | None = None,
) -> int:
    """Runs a command and turns whatever it raises into a message and an exit code.

    Args:
        interrupted: what to say after Ctrl-C or SIGTERM; only for a command that has work left then.
        explain: what an error comes to, where more is known than `explained` knows.
    """
    keep_from_everybody()
    use_own_places()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see `launcher.ending_silently`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = int(command())
        sys.stdout.flush()
        return code
    except UndoError as error:
        return report_error(error)
    except KeyboardInterrupt:
        if interrupted:
            _say(interrupted)
        return int(ExitCode.INTERRUPTED)
    except SystemExit:  # rich ends a program whose reader is gone
        return int(ExitCode.INCOMPLETE if interrupted else ExitCode.COMPLETE)
    except BrokenPipeError:
        # `undo-hpc logs ... | head` ends quietly; what is still to be flushed goes nowhere
        _discard(sys.stdout)
        return int(ExitCode.INCOMPLETE if interrupted else ExitCode.COMPLETE)
    except Exception as error:  # noqa: BLE001 -- whatever it is, the user gets a message and a file
        if isinstance(error, OSError) and error.filename is None:  # the output itself: full, or gone
            _discard(sys.stdout)
        return report_error(_in_words(error, explain))


def _in_words(error: Exception, explain: Callable[[Exception], UndoError] | None) -> UndoError:
    """What the error comes to; a search for its cause must not end in another one."""
    if isinstance(error, MemoryError):
        traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
        return explained(error)
    try:
        return (explain or explained)(error)
    except Exception:  # noqa: BLE001 -- the first error is the one to tell
        return explained(error)


def prepare_streams() -> None:
    """Makes printing safe: a character that the terminal's encoding lacks is shown as '?', and a closed stream swallows what it gets."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # started with `>&-`
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 -- for the rest of the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def report_error(error: UndoError) -> int:
    """Prints the error and returns its exit code."""
    _say(f"error: {printable(redacted(str(error), hub_token()))}")  # it may quote a Hub, through any library
    return int(error.exit_code)


def _say(text: str) -> None:
    """Prints to stderr; where that is full or gone, the exit code still says what happened."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _discard(sys.stderr)


def explained(error: Exception, folder: Path | None = None) -> UndoError:
    """What any error comes to: ours as it is, one of the operating system in words, any other as an UnexpectedError with a file.

    Args:
        folder: where the traceback goes if it can be written there; else into the temporary folder.
    """
    if isinstance(error, UndoError):
        return error
    if isinstance(error, OSError):
        return of_system(error)
    if "embedded null" in str(error):
        return ConfigError("a path holds a zero byte", hint="check the paths that were given")
    if "Symlink loop" in str(error):  # pathlib of Python 3.11 and 3.12
        return ConfigError(str(error), hint="check the path: it is a link that leads to itself")
    file = _write_traceback(error, folder)
    where = f"the traceback is in {file}" if file else "its traceback could not be written"
    if isinstance(error, MemoryError):
        return UndoError(
            f"there is not enough memory ({where})",
            hint="is a file of the run far larger than others of its kind? Else run it where more memory is free",
        )
    words = " ".join(str(error).split())[:300]
    from undo_hpc.system.plugins import place_in_plugins

    whose = place_in_plugins(error) or "a fault of undo-hpc, please report it"
    return UnexpectedError(f"unexpected {type(error).__name__}: {words} ({whose}; {where})")


def of_system(error: OSError) -> UndoError:
    """What the operating system says of a path, or of the output."""
    if error.errno == errno.ENOENT and error.filename is None:  # os.getcwd
        return ConfigError(
            "the current folder does not exist any more", hint="cd into one that does (after a move: cd .)"
        )
    where, words = error.filename or "the output cannot be written", error.strerror or str(error)
    if error.errno in _WRONG_PATH:
        return ConfigError(f"{where}: {words}", hint="check the path")
    hint = "look at the file system (full? quota? read-only?), then run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "whose is it? To share a run with a group, its owner types: chmod -R g+rwX RUN_DIR (and umask 002 before the next launch)"
    return StorageError(f"{where}: {words}", hint=hint)


def _write_traceback(error: Exception, folder: Path | None) -> Path | None:
    name = f"undo-hpc-error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(4)}.txt"
    text = f"{redacted(' '.join(sys.argv))}\n{redacted(''.join(traceback.format_exception(error)))}"
    for place in (folder, Path(tempfile.gettempdir())):
        if place is None:
            continue
        try:
            place.mkdir(exist_ok=True)
            # A new file: in a folder for everybody a link may wait under the name.
            handle = os.open(place / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as sink:
                sink.write(text)
        except (OSError, ValueError):
            continue
        return place / name
    return None


def _discard(stream: TextIO) -> None:
    """What is still to be flushed at the end of the process goes nowhere; Python would end with an exit code of its own (120)."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
