"""One logger tree, `undo_hpc`: messages of every module go through `logging.getLogger(__name__)`.

A command's result is printed (rich); what happens on the way is logged. In a task's log each line has time and level; the command
line shows messages on standard error without them.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO

from undo_hpc.system.credentials import hub_token, redacted
from undo_hpc.system.wording import printable

TREE = "undo_hpc"
LEVEL = "UNDO_LOG_LEVEL"  # in the environment: the level of the command that started this process


class _Handler(logging.StreamHandler[Any]):
    """Writes to the stream that `sys` names at that moment."""

    def __init__(self, name: str) -> None:
        logging.Handler.__init__(self)
        self._name = name

    @property
    def stream(self) -> TextIO:
        """sys.stdout or sys.stderr as it is now."""
        stream: TextIO = getattr(sys, self._name)
        return stream


class _Formatter(logging.Formatter):
    """Messages quote servers, models and the Hub: what a terminal would act on is shown as text, and no key."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        return printable(redacted(super().format(record), hub_token()))


def level_for(verbose: int, quiet: int) -> int:
    """The level for -v (debug) and -q (warnings; twice: errors)."""
    if quiet:
        return logging.WARNING if quiet == 1 else logging.ERROR
    return logging.DEBUG if verbose else logging.INFO


def log_to_terminal(level: int) -> None:
    """For commands: messages on standard error. Processes that are started from here inherit the level."""
    os.environ[LEVEL] = logging.getLevelName(level)
    _install("stderr", "%(message)s", level)


def log_to_task_log() -> None:
    """For tasks: messages on standard output, which is the task's log, with time and level."""
    level = logging.getLevelName(os.environ.get(LEVEL, "INFO"))
    _install(
        "stdout", "%(asctime)s %(levelname)s %(message)s", level if isinstance(level, int) else logging.INFO
    )
    log_libraries()


def log_libraries() -> None:
    """Warnings of libraries on standard error, with time, level and name; those of Python's `warnings` too."""
    logging.captureWarnings(True)
    root = logging.getLogger()
    if not any(isinstance(handler, _Handler) for handler in root.handlers):
        handler = _Handler("stderr")
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
        )
        handler.addFilter(
            lambda record: record.name.split(".")[0] != TREE
        )  # ours have a handler of their own
        root.addHandler(handler)


def adopt(library: str) -> None:
    """Takes from a library's logger the handler that it has given itself: its lines then come as `log_libraries` writes them."""
    logger = logging.getLogger(library)
    if any(isinstance(handler, _Handler) for handler in logging.getLogger().handlers):
        logger.handlers.clear()
        logger.propagate = True


def _install(stream: str, form: str, level: int) -> None:
    tree = logging.getLogger(TREE)
    for old in [handler for handler in tree.handlers if isinstance(handler, _Handler)]:
        tree.removeHandler(old)
    handler = _Handler(stream)
    handler.setFormatter(_Formatter(form, datefmt="%H:%M:%S"))
    tree.addHandler(handler)
    tree.setLevel(level)
