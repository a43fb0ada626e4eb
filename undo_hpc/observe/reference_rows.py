"""A part's rows as one JSONL file, in the fields of the reference implementation (`display.rows_file`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undo_hpc.data.distilled import read_distilled
from undo_hpc.errors import DataError
from undo_hpc.pipeline.layout import distilled_files
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import write_bytes
from undo_hpc.storage.opening import require_file
from undo_hpc.storage.shards import encode_row, read_rows


def write_rows(run: Run, iteration: int, path: Path) -> Path:
    """Writes `problem, teacher_solution, student_solution, gt`; of a model that was only evaluated
    `idx, problem, student_solution, gt, evaluation` (whether the answer is right).

    `student_solution` is empty where no student has answered the training problems yet.

    Raises:
        DataError: there is neither a distilled set nor an answer to a benchmark.
        StorageError: the file cannot be written.
    """
    at = run.layout.iteration(iteration)
    rows = _taught if at.predictions.exists() or distilled_files(at.distilled) else _evaluated
    found = [encode_row(row) for row in rows(run, iteration)]
    if not found:
        raise DataError(f"iteration {iteration} has no rationales and no answers to write to {path}")
    write_bytes(path, found)
    return path


def _taught(run: Run, iteration: int) -> Iterator[dict[str, Any]]:
    """A row for each prediction, or for each rationale where there are no predictions."""
    at = run.layout.iteration(iteration)
    names = ("problem", "teacher_solution", "student_solution", "gt")
    if at.predictions.exists():
        import pyarrow.parquet as pq

        require_file(at.predictions)
        yield from pq.read_table(at.predictions, columns=list(names)).select(list(names)).to_pylist()
        return
    for example in read_distilled(at.distilled):
        yield dict(zip(names, (example.problem, example.teacher_solution, "", example.gt), strict=True))


def _evaluated(run: Run, iteration: int) -> Iterator[dict[str, Any]]:
    plan, at = run.plan(iteration), run.layout.iteration(iteration)
    for part in plan.slices("baseline") if plan else ():
        problems = {p.problem_id: p for p in run.problems(part.problem_set, part.start, part.stop)}
        for row in read_rows(at.shard("baseline", part.shard, part.problem_set)):
            problem = problems[row["problem_id"]]
            yield {
                "idx": row["idx"],
                "problem": problem.problem,
                "student_solution": row["text"],
                "gt": problem.ground_truth,
                "evaluation": row["verdict"] == "correct",
            }
