"""A model alone: answers benchmarks, and every answer is graded. Or a benchmark more for all students of a run.

MODEL is a folder (such as RUN/iter_002/student) or an id on the Hub. A benchmark is one of the embedded ones, a YAML file, a data file
with a problem and an answer in each row, or a data set on the Hub.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import real_number, whole_number

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.config.schema import RunConfig

EXAMPLE = """examples:
  undo-hpc evaluate Qwen/Qwen2.5-Math-1.5B-Instruct --benchmarks gsm8k,math500 --limit 100
  undo-hpc evaluate checkpoints/mine/iter_002/student --benchmarks test.jsonl
  undo-hpc evaluate checkpoints/mine --benchmarks svamp          a benchmark more for all students of the run
  undo-hpc evaluate checkpoints/mine --benchmarks gsm8k --samples 8 --temperature 0.7
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    from undo_hpc.cli.parts import add_part_arguments

    parser.add_argument("model", nargs="?", help="a folder or an id on the Hub")
    parser.add_argument(
        "--benchmarks", metavar="A,B", help="names, YAML files or data files, separated by commas"
    )
    parser.add_argument(
        "--samples", type=whole_number(1), metavar="N", help="answers a problem (with --temperature)"
    )
    parser.add_argument("--temperature", type=real_number, metavar="T", help="0 is greedy, and the default")
    add_part_arguments(parser, limit="the first N problems of each benchmark")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Evaluates."""
    from undo_hpc.cli.parts import model_sets, part_config, require_named, run_part, short
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.system.data_files import expanded

    for folder in (arguments.model and Path(arguments.model), arguments.run_dir):
        if folder and Layout(expanded(folder).resolve()).prepared.exists():
            arguments.run_dir = expanded(folder)
            return run_part(arguments, with_more(arguments), console)
    require_named(arguments, "evaluate MODEL --benchmarks A,B", arguments.model, _names(arguments))
    sets = model_sets("student", arguments.model) + evaluation_sets(arguments)
    name = f"evaluate-{short(arguments.model)}"
    config = part_config(arguments, "baseline", name, sets, ["evaluate.train_predictions=false"])
    return run_part(arguments, config, console)


def with_more(arguments: argparse.Namespace) -> RunConfig:
    """The configuration of an existing run with the evaluations that are asked for; the run's own where none is."""
    from undo_hpc.cli.parts import place_sets
    from undo_hpc.config.load import override
    from undo_hpc.config.schema import AddedEvaluation
    from undo_hpc.control.added import added_sets
    from undo_hpc.pipeline.run import open_run

    run = open_run(arguments.run_dir)
    config = override(run.config, [*place_sets(arguments), *arguments.sets])
    asked = {"limit": arguments.limit, "samples": arguments.samples, "temperature": arguments.temperature}
    given = {name: value for name, value in asked.items() if value is not None}
    benchmarks = _names(arguments)
    wanted = [AddedEvaluation(benchmark=name, **given) for name in resolved(benchmarks)]
    return override(config, added_sets(run, wanted)) if wanted else config


def resolved(names: list[str]) -> list[str]:
    """Benchmarks that are files, by their absolute path: tasks have another working directory."""
    return [str(Path(name).resolve()) if Path(name).is_file() else name for name in names]


def _names(arguments: argparse.Namespace) -> list[str]:
    names = [name.strip() for name in (arguments.benchmarks or "").split(",") if name.strip()]
    if arguments.benchmarks is not None and not names:
        from undo_hpc.errors import ConfigError

        raise ConfigError("--benchmarks: no name is given", hint="for example --benchmarks gsm8k,math500")
    return names


def evaluation_sets(arguments: argparse.Namespace) -> list[str]:
    """What is asked of the benchmarks, as keys."""
    from undo_hpc.cli.parts import key

    given = {
        "evaluate.benchmarks": _names(arguments) or None,
        "evaluate.limit": arguments.limit,
        "evaluate.samples": arguments.samples,
        "evaluate.sampling.temperature": arguments.temperature,
    }
    return [key(name, value) for name, value in given.items() if value is not None]
