r"""A benchmark in boxed form: parquet with `problem`, `answer` and `solution` ending in `\boxed{answer}`, and a card."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.benchmarks import load_benchmark
from undo_hpc.data.cards import benchmark_card
from undo_hpc.errors import DataError
from undo_hpc.grading.extract import last_boxed
from undo_hpc.records import Problem
from undo_hpc.storage.atomic import make_folder, publish_dir, temporary_name, translate_os_error, write_text
from undo_hpc.system.ownership import require_own_way

DATA_FILE = "data/test-00000-of-00001.parquet"
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")


def boxed_solution(problem: Problem) -> str:
    r"""The problem's own solution in the form that students learn: no calculator notes, the answer in a box at its end.

    GSM8K's `<<48/2=24>>` goes, its last line `#### 24` becomes a box; without a solution there is the box alone.
    """
    text = _without_result(_CALCULATOR.sub("", problem.solution)).rstrip()
    if last_boxed(text) is not None:
        return text
    box = f"\\boxed{{{problem.ground_truth}}}"
    return f"{text}\n{box}" if text else box


def _without_result(text: str) -> str:
    """A solution without a last line that says `#### 24`, or what such a mark begins in it."""
    last = text.rstrip().rpartition("\n")[2]
    return text.rstrip().removesuffix(last) + last.partition("####")[0]


def export_benchmark(name: str, out: Path, override: SourceConfig | None = None) -> tuple[Path, int]:
    """Writes a benchmark that `datasets.load_dataset(out)` reads.

    Args:
        name: an embedded benchmark or a YAML file.
        out: the folder to make; an empty one may be there.
        override: another source of the problems.

    Returns:
        `out`, and the number of problems.

    Raises:
        DataError: `out` is there and not empty, or the benchmark cannot be read.
        ConfigError: no such benchmark, or another user can put something in place of `out`.
        StorageError: `out` cannot be written.
    """
    require_own_way(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"{out} is there already", hint="give a folder that does not exist, or remove this one"
        )
    benchmark = load_benchmark(name, override)
    import pyarrow
    import pyarrow.parquet

    columns = {
        "id": [p.problem_id for p in benchmark.problems],
        "problem": [p.problem for p in benchmark.problems],
        "answer": [p.ground_truth for p in benchmark.problems],
        "solution": [boxed_solution(p) for p in benchmark.problems],
        "idx": [p.idx for p in benchmark.problems],
    }
    temporary = temporary_name(out)
    with translate_os_error(out):
        make_folder(out.parent)
        temporary.mkdir()  # new: what lies there may be another user's link
        try:
            (temporary / DATA_FILE).parent.mkdir()
            pyarrow.parquet.write_table(pyarrow.table(columns), temporary / DATA_FILE, compression="zstd")
            write_text(temporary / "README.md", benchmark_card(benchmark))
            if out.is_dir():
                out.rmdir()
            publish_dir(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return out, len(benchmark.problems)
