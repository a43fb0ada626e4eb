"""A model alone: answers benchmarks, and every answer is graded. Or a benchmark more for all students of a run.

MODEL is a folder (such as RUN/iter_002/student) or an id on the Hub. A benchmark is one of the embedded ones, a YAML file, a data file
with a problem and an answer in each row, or a data set on the Hub.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc evaluate Qwen/Qwen2.5-Math-1.5B-Instruct --benchmarks gsm8k,math500 --limit 100
  undo-hpc evaluate checkpoints/mine/iter_002/student --benchmarks test.jsonl
  undo-hpc evaluate tiny:student --benchmarks tiny --limit 50
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    from undo_hpc.cli.parts import add_part_arguments

    parser.add_argument("model", nargs="?", help="a folder or an id on the Hub")
    parser.add_argument(
        "--benchmarks", metavar="A,B", help="names, YAML files or data files, separated by commas"
    )
    parser.add_argument("--samples", type=int, metavar="N", help="answers a problem (with --temperature)")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 is greedy, and the default")
    add_part_arguments(parser, limit="the first N problems of each benchmark")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Evaluates."""
    from undo_hpc.cli.parts import model_sets, part_config, run_part, short

    sets = model_sets("student", arguments.model) + evaluation_sets(arguments)
    name = f"evaluate-{short(arguments.model)}"
    config = part_config(arguments, "baseline", name, sets, ["evaluate.train_predictions=false"])
    return run_part(arguments, config, console)


def evaluation_sets(arguments: argparse.Namespace) -> list[str]:
    """What is asked of the benchmarks, as keys."""
    from undo_hpc.cli.parts import key

    given = {
        "evaluate.benchmarks": [
            name.strip() for name in (arguments.benchmarks or "").split(",") if name.strip()
        ]
        or None,
        "evaluate.limit": arguments.limit,
        "evaluate.samples": arguments.samples,
        "evaluate.sampling.temperature": arguments.temperature,
    }
    return [key(name, value) for name, value in given.items() if value is not None]
