"""How an error reaches the user: what is wrong, where, what to do; never a traceback. One guard stands at all entry points."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from undo_hpc.errors import ConfigError, ExitCode, StorageError, UndoError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.storage.manifest import read_manifest, verify_outputs
from undo_hpc.system.credentials import redacted
from undo_hpc.system.wording import printable

_SMALL = 2**26  # bytes of a file that is read whole in search of damage; weights are not
# What is wrong with the path that was given, rather than with the place where it leads.
_WRONG_PATH = {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}


def guard(command: Callable[[], int], *, run_dir: Path | None = None, interrupted: str = "") -> int:
    """Runs a command and turns whatever it raises into a message and an exit code.

    Args:
        run_dir: the run that the command is about: the traceback of an unexpected error goes into its logs.
        interrupted: what to say after Ctrl-C or SIGTERM; only for a command that has work left then.
    """
    try:
        code = int(command())
        sys.stdout.flush()
        return code
    except UndoError as error:
        return report_error(error)
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    except SystemExit:  # rich ends a program whose reader is gone
        return int(ExitCode.INCOMPLETE if interrupted else ExitCode.COMPLETE)
    except BrokenPipeError:
        # `undo-hpc logs ... | head` ends quietly; what is still to be flushed goes nowhere
        _discard_output()
        return int(ExitCode.INCOMPLETE if interrupted else ExitCode.COMPLETE)
    except OSError as error:
        if error.filename is None:  # the output itself: full, or gone
            _discard_output()
        return report_os_error(error)
    except Exception as error:  # noqa: BLE001 -- whatever it is, the user gets a message and a file
        if "embedded null" in str(error):
            return report_error(
                ConfigError("a path holds a zero byte", hint="check the paths that were given")
            )
        if damage := _find_damage(run_dir):
            return report_error(damage)
        return report_unexpected(error, run_dir)


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
    print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)
    return int(error.exit_code)


def report_os_error(error: OSError) -> int:
    """The same for what the operating system says of a path, or of the output."""
    where, words = error.filename or "the output cannot be written", error.strerror or str(error)
    if error.errno in _WRONG_PATH:
        return report_error(ConfigError(f"{where}: {words}", hint="check the path"))
    hint = "look at the file system (full? quota? read-only?), then run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "whose is it? To share a run with a group, its owner types: chmod -R g+rwX RUN_DIR (and umask 002 before the next launch)"
    return report_error(StorageError(f"{where}: {words}", hint=hint))


def report_unexpected(error: Exception, run_dir: Path | None) -> int:
    """Writes the traceback of an error that nobody foresaw to a file, and says so in one line."""
    words = " ".join(str(error).split())[:300]
    file = _write_traceback(run_dir)
    where = f"the traceback is in {file}" if file else "its traceback could not be written"
    print(
        f"error: unexpected {type(error).__name__}: {printable(words)} (a fault of undo-hpc, please report it; {where})",
        file=sys.stderr,
        flush=True,
    )
    return int(ExitCode.FAILED)


def _find_damage(run_dir: Path | None) -> StorageError | None:
    """The first file of a run that is not what its manifest says, which explains most of what else is unexpected."""
    if run_dir is None:
        return None
    for path in sorted(run_dir.rglob("*manifest.json")) if run_dir.is_dir() else []:
        try:
            manifest = read_manifest(path)
            small = {n: out for n, out in manifest.outputs.items() if out.bytes < _SMALL} if manifest else {}
            problem = (
                verify_outputs(run_dir, replace(manifest, outputs=small), deep=True, pruned=True)
                if manifest
                else ""
            )
        except UndoError as error:
            return StorageError(error.message, hint=error.hint)
        except OSError as error:
            problem = str(error)
        if problem:
            return StorageError(
                f"the run is damaged: {problem} ({path})",
                hint="put the file back; or run the launcher again, which makes again what is missing or damaged",
            )
    return None


def _write_traceback(run_dir: Path | None) -> Path | None:
    """In the logs of the run, where there is one that can be written; else in the temporary folder."""
    name = f"undo-hpc-error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    text = f"{redacted(' '.join(sys.argv))}\n{redacted(traceback.format_exc())}"
    folders = [Path(tempfile.gettempdir())]
    with contextlib.suppress(OSError, ValueError):  # whatever is wrong with the run directory
        if run_dir is not None and Layout(run_dir).config.is_file():
            folders.insert(0, Layout(run_dir.resolve()).logs)
    for folder in folders:
        try:
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return folder / name
    return None


def _discard_output() -> None:
    """What is still to be flushed at the end of the process goes nowhere."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
