"""A student alone: learns rationales that exist already. The same command again resumes it.

The data is a file, folder or Hub data set with a problem, a rationale and a ground truth in each row, or a run directory, whose
distilled set is taken. Rationales are graded and filtered as a teacher's are. The student lies in iter_000/student of the run directory.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc train Qwen/Qwen2.5-Math-1.5B-Instruct rationales.jsonl
  undo-hpc train tiny:student checkpoints/generate-teacher-train --set train.learning_rate=2e-3
  undo-hpc train my-model account/published-set --set data.rationales.rationale=generation
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    from undo_hpc.cli.parts import add_part_arguments

    parser.add_argument("model", nargs="?", help="the student: a folder or an id on the Hub")
    parser.add_argument(
        "data",
        nargs="?",
        help="problems with rationales: a file, a folder, a Hub data set, or a run directory",
    )
    add_part_arguments(parser, limit="this many problems, drawn by data.train.sample_seed")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Trains."""
    from undo_hpc.cli.parts import key, model_sets, part_config, require_named, run_part, short

    require_named(arguments, "train MODEL RATIONALES", arguments.model, arguments.data)
    sets = model_sets("student", arguments.model) + rationale_sets(arguments.data)
    if arguments.limit:
        sets.append(key("data.train.sample", arguments.limit))
    name = f"train-{short(arguments.model, arguments.data)}"
    return run_part(
        arguments, part_config(arguments, "train", name, sets, ["evaluate.baseline=false"]), console
    )


def rationale_sets(data: str | None) -> list[str]:
    """Problems and rationales of one source; of a run its own frozen problems beside its distilled set."""
    from undo_hpc.cli.parts import key, source_sets
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.system.data_files import expanded

    if not data:
        return []
    layout = Layout(expanded(data).resolve())
    if layout.config.exists():
        return [
            key("data.rationales.run", str(layout.root)),
            key("data.train.path", str(layout.split("train"))),
            key("data.train.fields", {"problem": "problem", "answer": "ground_truth"}),
            "data.train.answer_from=plain",
        ]
    return source_sets("data.train", data) + source_sets("data.rationales", data)
