"""A teacher alone: writes rationales for any problems, grades and filters them. The same command again resumes it.

The result is an ordinary run directory that ends behind `merge`: every attempt in iter_000/generate, the kept ones in
iter_000/distilled, for `datasets.load_dataset` and `undo-hpc train`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc generate Qwen/Qwen3-30B-A3B-Instruct-2507 problems.jsonl --set generate.engine.name=vllm
  undo-hpc generate tiny:teacher tiny:train --limit 40
  undo-hpc generate --config numina10k_qwen --profile slurm/profiles/mycluster.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    from undo_hpc.cli.parts import add_part_arguments

    parser.add_argument("model", nargs="?", help="the teacher: a folder or an id on the Hub")
    parser.add_argument(
        "data", nargs="?", help="problems with ground truths: a file, a folder, or a data set on the Hub"
    )
    add_part_arguments(parser, limit="this many problems, drawn by data.train.sample_seed")
    parser.add_argument(
        "--keep-shards", action="store_true", help="end behind the shards, without a distilled set"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Generates."""
    from undo_hpc.cli.parts import key, model_sets, part_config, require_named, run_part, short, source_sets

    require_named(arguments, "generate MODEL PROBLEMS", arguments.model, arguments.data)
    sets = model_sets("teacher", arguments.model) + source_sets("data.train", arguments.data)
    if arguments.limit:
        sets.append(key("data.train.sample", arguments.limit))
    name = f"generate-{short(arguments.model, arguments.data)}"
    until = "generate" if arguments.keep_shards else "merge"
    config = part_config(arguments, until, name, sets, ["evaluate.baseline=false"])
    return run_part(arguments, config, console)
