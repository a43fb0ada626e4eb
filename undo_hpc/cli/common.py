"""What the launcher and the verbs share: examples, verbosity, and the signal that ends them. Loads nothing heavy."""

from __future__ import annotations

import argparse
from types import FrameType

LAUNCHER_EXAMPLES = """examples:
  python launchers/run_iteration.py                                    the embedded tiny world, three iterations
  python launchers/run_iteration.py --config my.yaml                   your own problems and models (see the README)
  python launchers/run_iteration.py --config my.yaml --profile slurm/profiles/mycluster.yaml
  python launchers/run_iteration.py --config numina10k_qwen --dry-run  what would be done; writes nothing
"""
VERB_EXAMPLES = """examples:
  undo-hpc run                                  the embedded tiny world
  undo-hpc run --config my.yaml --profile slurm/profiles/mycluster.yaml
  undo-hpc status checkpoints/tiny --watch
  undo-hpc logs checkpoints/tiny generate 3 --follow
  undo-hpc VERB --help                          what a verb takes, with an example
"""


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """-v and -q, for every verb and the launcher."""
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more messages, in task logs too")
    parser.add_argument(
        "-q", "--quiet", action="count", default=0, help="warnings and errors only; -qq: errors only"
    )


def interrupt(signum: int, frame: FrameType | None) -> None:
    """SIGTERM is handled as Ctrl-C."""
    raise KeyboardInterrupt
