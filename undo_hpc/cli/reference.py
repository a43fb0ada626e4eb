"""`launchers/teacher.py` and `launchers/student.py`: the flags of the reference implementation, each a key of ours.

docs/reference-implementation.md has the table. Nothing here runs anything by itself: the flags make a configuration, and an ordinary
run of a part does the work (`cli.parts`).
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import add_set, add_verbosity, nonempty, path_argument, run_launcher
from undo_hpc.cli.parts import add_place_arguments, key, model_sets, place_sets, short, source_sets

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.config.schema import RunConfig

ROW_TOKENS = 2048  # the length that a row is padded to there
DEBUG_ROWS = 32
PRESETS = {"10k": "numina10k_qwen", "100k": "numina100k_qwen"}
STUDENT = "Qwen/Qwen2.5-Math-1.5B-Instruct"


def teacher(argv: Sequence[str] | None = None) -> int:
    """The teacher's launcher: rationales for a sample of NuminaMath-CoT, or of any data."""
    return _launch(teacher_parser(), argv, teacher_config)


def teacher_parser() -> argparse.ArgumentParser:
    """The teacher's flags."""
    parser = _parser("teacher.py", "Writes the teacher's rationales. The same command again continues.")
    parser.add_argument(
        "--dataset", type=nonempty, default="10k", help="10k, 100k, or your own file or Hub data set"
    )
    parser.add_argument(
        "--iter", type=int, default=1, metavar="N", help="up to the teacher's N-th turn: 1 is the first rationales, N > 1 the loop to there"
    )  # fmt: skip
    parser.add_argument(
        "--cont", nargs="?", metavar="N", help="ignored: the same command finds what is missing"
    )
    _add_hub(parser)
    return parser


def student(argv: Sequence[str] | None = None) -> int:
    """The student's launcher: trains on a teacher's file, or tests a model."""
    return _launch(student_parser(), argv, student_config)


def student_parser() -> argparse.ArgumentParser:
    """The student's flags."""
    parser = _parser(
        "student.py", "Trains the student on rationales, or tests a model. The same command again continues."
    )
    parser.add_argument("--mode", choices=("train", "test"), required=True)
    parser.add_argument(
        "--dataset", type=nonempty, required=True, help="train: a file with problem, teacher_solution, gt; test: a benchmark, file or Hub data set"
    )  # fmt: skip
    _add_hub(parser)
    parser.add_argument(
        "--hf_path_in_repo", metavar="PATH", help="ignored: the paths in our repositories are fixed"
    )
    parser.add_argument("--train_epochs", type=float, metavar="N", help="train.epochs")
    parser.add_argument(
        "--per_device_train_batch_size", type=int, metavar="B", help="train.micro_batch_tokens = B x 2,048"
    )
    parser.add_argument(
        "--gradient_accumulation_steps", type=int, metavar="G", help="train.tokens_per_batch = B x G x 2,048"
    )
    parser.add_argument("--lr", type=float, metavar="LR", help="train.learning_rate")
    parser.add_argument(
        "--save_dir",
        type=nonempty,
        metavar="DIR",
        help="the run directory; the student is in DIR/iter_000/student",
    )
    parser.add_argument(
        "--model_path",
        type=nonempty,
        default=STUDENT,
        metavar="MODEL",
        help=f"student.model (default: {STUDENT})",
    )
    parser.add_argument("--hf_save", action="store_true", help="hub.push_at_end")
    parser.add_argument("--hf_model_repo", type=nonempty, metavar="NAME", help="hub.model_repo")
    parser.add_argument("--hf_model_private", action="store_true", help="hub.private")
    parser.add_argument("--debug_mode", action="store_true", help=f"{DEBUG_ROWS} problems only")
    return parser


def teacher_config(given: argparse.Namespace) -> RunConfig:
    """The configuration that the teacher's flags mean."""
    from undo_hpc.config.data import FieldsConfig
    from undo_hpc.config.load import load_config

    sets = [
        key("name", f"teacher-{short(given.dataset)}"),
        f"iterations={max(1, given.iter)}",
        "until=merge",
        "data.diagnosis=0",
        "data.validation=0",
        "data.train.draw=datasets",
    ]
    if (
        given.dataset not in PRESETS
    ):  # its own columns, all of its rows, and no benchmark that they must be kept apart from
        sets.append("evaluate.benchmarks=[]")
        sets += [key("data.train.fields", FieldsConfig().model_dump()), "data.train.answer_from=auto"]
        sets += ["data.train.sample=null", 'data.train.licence=""', *source_sets("data.train", given.dataset)]
    return load_config(PRESETS.get(given.dataset, PRESETS["10k"]), [*sets, *_common_sets(given)])


def student_config(given: argparse.Namespace) -> RunConfig:
    """The configuration that the student's flags mean."""
    from undo_hpc.cli.verbs.train import rationale_sets
    from undo_hpc.config.load import from_sets

    sets = ["iterations=1", "data.diagnosis=0", "data.validation=0", *model_sets("student", given.model_path)]
    sets.append(key("name", f"student-{given.mode}-{short(given.model_path, given.dataset)}"))
    if given.mode == "test":
        limit = [f"evaluate.limit={DEBUG_ROWS}"] if given.debug_mode else []
        sets += ["until=baseline", key("evaluate.benchmarks", [given.dataset]), *limit]
    else:
        sets += ["evaluate.baseline=false", *rationale_sets(given.dataset)]
        sets += [f"data.train.sample={DEBUG_ROWS}"] if given.debug_mode else []
        rows, steps = given.per_device_train_batch_size, given.gradient_accumulation_steps
        if rows:
            sets.append(f"train.micro_batch_tokens={rows * ROW_TOKENS}")
        if rows or steps:
            sets.append(f"train.tokens_per_batch={(rows or 1) * (steps or 1) * ROW_TOKENS}")
    named = {
        "train.epochs": given.train_epochs,
        "train.learning_rate": given.lr,
        "hub.model_repo": given.hf_model_repo,
    }
    sets += [key(name, value) for name, value in named.items() if value is not None]
    sets += ["hub.push_at_end=true"] * given.hf_save + ["hub.private=true"] * given.hf_model_private
    return from_sets([*sets, *_common_sets(given)])


def _common_sets(given: argparse.Namespace) -> list[str]:
    sets = [key("display.rows_file", str(Path(given.output).resolve()))] if given.output else []
    if given.hf_repo:
        sets += [key("hub.dataset_repo", given.hf_repo), "hub.push_at_end=true"]
    sets += ["hub.private=true"] * given.hf_private
    sets += [f"hub.push_every_min={given.push_every_min}"] if given.push_every_min else []
    return [*sets, *place_sets(given), *given.sets]


def _parser(prog: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=description, allow_abbrev=False, epilog="Each flag is a key of ours; docs/reference-implementation.md has the table."
    )  # fmt: skip
    parser.add_argument(
        "--output",
        type=nonempty,
        metavar="FILE",
        help="also write the rows to this JSONL file (display.rows_file)",
    )
    parser.add_argument(
        "--run-dir", type=path_argument, metavar="DIR", help="the run directory (default: checkpoints/NAME)"
    )
    add_set(parser, "any key of ours; repeatable")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; write nothing")
    add_place_arguments(parser)
    add_verbosity(parser)
    return parser


def _add_hub(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hf_repo", type=nonempty, metavar="NAME", help="hub.dataset_repo, pushed at the end"
    )
    parser.add_argument("--hf_private", action="store_true", help="hub.private")
    parser.add_argument("--push_every_min", type=float, metavar="M", help="hub.push_every_min")


def _launch(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    config_of: Callable[[argparse.Namespace], RunConfig],
) -> int:
    """Reads the flags (an unknown one ends with exit code 2 and the nearest), and runs the part."""
    from undo_hpc.system.guard import prepare_streams

    prepare_streams()
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], flags, n=1)
        parser.error(
            f"unrecognized arguments: {' '.join(unknown)}{f'; did you mean {near[0]}?' if near else ''}"
        )

    def launch(arguments: argparse.Namespace, console: Console) -> int:
        from undo_hpc.cli.parts import run_part

        arguments.run_dir = arguments.run_dir or (
            Path(arguments.save_dir) if getattr(arguments, "save_dir", None) else None
        )
        return run_part(arguments, config_of(arguments), console)

    return run_launcher(given, launch, what="run", run_dir=given.run_dir)
