"""What the launcher and the verbs share: examples, verbosity, and the signal that ends them. Loads nothing heavy."""

from __future__ import annotations

import argparse
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

LAUNCHER_EXAMPLES = """examples:
  python launchers/run_iteration.py                                    the embedded tiny world, three iterations
  python launchers/run_iteration.py --config my.yaml                   your own problems and models (see the README)
  python launchers/run_iteration.py --config my.yaml --profile slurm/profiles/mycluster.yaml
  python launchers/run_iteration.py --config numina10k_qwen --dry-run  what would be done; writes nothing
  python launchers/run_iteration.py --config my.yaml --smoke 64        the whole loop on 64 problems, before the run itself
"""
VERB_EXAMPLES = """examples:
  undo-hpc run                                  the embedded tiny world
  undo-hpc run --config my.yaml --profile slurm/profiles/mycluster.yaml
  undo-hpc status checkpoints/tiny --watch
  undo-hpc logs checkpoints/tiny generate 3 --follow
  undo-hpc VERB --help                          what a verb takes, with an example
"""


def add_verbosity(parser: argparse.ArgumentParser, default: Any = 0) -> None:
    """-v and -q, for every verb and the launcher."""
    parser.add_argument(
        "-v", "--verbose", action="count", default=default, help="more messages, in task logs too"
    )
    parser.add_argument(
        "-q", "--quiet", action="count", default=default, help="warnings and errors only; -qq: errors only"
    )


def add_set(parser: argparse.ArgumentParser, text: str) -> None:
    """--set KEY=VALUE, repeatable; `text` is its help."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets", help=text)


def add_run(parser: argparse.ArgumentParser) -> None:
    """The run directory of a verb that looks; without it `choose.choose_run` takes the latest."""
    text = "the run directory (default: the latest under checkpoints/)"
    parser.add_argument("run_dir", type=path_argument, nargs="?", help=text)


def nonempty(text: str) -> str:
    """The type of an argument that an unset variable of a shell must not make empty."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def path_argument(text: str) -> Path:
    """The type of an argument that is a path: an empty one would be the current folder."""
    return Path(nonempty(text))


def whole_number(least: int, most: int = 10**9) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `least` to `most`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[-+]?[0-9]{1,20}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most:,}")
        return int(text)

    return read


def real_number(text: str) -> float:
    """The type of an argument that is a number from 0 to 10^9, such as seconds or a temperature."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10**9:  # not a number is neither
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1,000,000,000")
    return value


class Once(argparse.Action):
    """An argument that is given once: of two, the first would be ignored silently."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        given: set[str] = namespace.__dict__.setdefault("_given", set())
        if self.dest in given:
            parser.error(f"argument {option}: given twice")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


def interrupt(signum: int, frame: FrameType | None) -> None:
    """SIGTERM is handled as Ctrl-C."""
    raise KeyboardInterrupt


def run_launcher(
    arguments: argparse.Namespace,
    launch: Callable[[argparse.Namespace, Console], int],
    *,
    what: str,
    run_dir: Path | None = None,
) -> int:
    """Runs a launcher's work with its verbosity, signals and guard; returns the exit code.

    Args:
        what: "run" or "campaign": what the same command resumes after Ctrl-C.
        run_dir: see `cli.errors.guard`.
    """
    from undo_hpc.cli.errors import guard
    from undo_hpc.system.logs import level_for, log_to_terminal

    log_to_terminal(level_for(arguments.verbose, arguments.quiet))
    signal.signal(signal.SIGTERM, interrupt)

    def command() -> int:
        from undo_hpc.system.console import SafeConsole

        quiet = bool(arguments.quiet) and not arguments.dry_run
        return launch(arguments, SafeConsole(soft_wrap=False, quiet=quiet))

    stopped = f"\nstopped; all finished work is saved. The same command resumes the {what}."
    return guard(command, run_dir=run_dir, interrupted="" if arguments.dry_run else stopped)
