"""The error tree and the exit codes: every error a user can cause says what is wrong, where, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum


class ExitCode(IntEnum):
    """What a process of ours tells its caller. SLURM sees COMPLETED for 0 only, so nothing unfinished may return 0."""

    COMPLETE = 0
    FAILED = 1  # a bug or an outside failure
    WRONG_INPUT = 2  # configuration, data or command line: running again changes nothing
    INCOMPLETE = 3  # stopped with work left; the same command goes on
    NO_SUCH_TASK = (
        4  # of an array that was submitted before its iteration was planned: the plan has fewer tasks
    )
    REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: state is saved, start me again
    INTERRUPTED = 130  # 128 + SIGINT


class UndoError(Exception):
    """Base of all errors that we raise on purpose.

    Args:
        message: what is wrong and where (file, line, key).
        hint: what the user can do about it.
        blocked: running the same command again changes nothing, whatever the class says: a person has to do what the hint says before.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "", blocked: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if blocked:
            self.exit_code = ExitCode.WRONG_INPUT

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class ConfigError(UndoError):
    """The configuration or the command line is wrong."""

    exit_code = ExitCode.WRONG_INPUT


class DataError(UndoError):
    """A data file, a model directory or a benchmark cannot be used as it is."""

    exit_code = ExitCode.WRONG_INPUT


class StorageError(UndoError):
    """Reading or writing the run directory failed (read-only, full, torn)."""

    exit_code = ExitCode.INCOMPLETE


class EvidenceError(UndoError):
    """An input is missing, or does not match its manifest."""

    exit_code = ExitCode.INCOMPLETE


class LeaseError(UndoError):
    """Another process owns this run or this task."""

    exit_code = ExitCode.INCOMPLETE


class ClusterError(UndoError):
    """The cluster refused a request or cannot be reached."""

    exit_code = ExitCode.FAILED


class EngineError(UndoError):
    """A generation engine cannot start or cannot go on."""


class TrainingError(UndoError):
    """Training cannot start or cannot go on (empty data, NaN loss, another world size)."""


class Incomplete(UndoError):
    """A stage ended with work left over that it could not do itself."""

    exit_code = ExitCode.INCOMPLETE


class Requeue(UndoError):
    """State is saved after a signal or near the time limit; start the same task again."""

    exit_code = ExitCode.REQUEUE


@contextlib.contextmanager
def loading(what: str, *, hint: str) -> Iterator[None]:
    """Within it a library reads files of others, whose odd values end in whatever its first line that meets them raises: all of that, but for
    a lack of memory, is a DataError."""
    try:
        yield
    except (UndoError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's
            raise
        words = " ".join(str(error).split())[:600]
        plain = words and isinstance(error, OSError | ValueError | RuntimeError)
        raise DataError(
            f"{what}: {words if plain else f'{type(error).__name__}: {words}'}", hint=hint
        ) from error
