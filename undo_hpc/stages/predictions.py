"""predictions.parquet: the student's answers to the training problems beside the teacher's, written as a stream.

The columns are the reference implementation's (problem, teacher_solution, student_solution, gt, idx) and ours.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from undo_hpc.data.distilled import arrow_array
from undo_hpc.stages.answered_problems import AnsweredProblem
from undo_hpc.storage.atomic import fsync_dir, make_folder, temporary_name, translate_os_error
from undo_hpc.storage.hashing import HashingFile
from undo_hpc.storage.manifest import Output

ROWS_PER_GROUP = 4096
_INTEGERS = ("idx", "attempt")
COLUMNS = (
    "problem", "teacher_solution", "student_solution", "gt", "idx", "id", "attempt", "verdict", "answer", "finish_reason",
)  # fmt: skip


class Predictions:
    """The file in the making: under another name until the `with` block ends without an error.

    Attributes:
        rows: rows so far.
        output: what a manifest says of the file, once the block has ended; None where there was no row, and so no file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self.output: Output | None = None
        self._temporary = temporary_name(path)
        self._group: list[tuple[Any, ...]] = []
        self._writer: Any = None
        self._sink: HashingFile | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, answered: AnsweredProblem) -> None:
        """Adds all answers to a problem."""
        problem, rationale = answered.problem, answered.rationale or ""
        for row in answered.rows:
            self._group.append(
                (problem["problem"], rationale, row.text, problem["ground_truth"], row.idx, row.problem_id,
                 row.attempt, row.verdict, row.answer, row.finish_reason)
            )  # fmt: skip
        self.rows += len(answered.rows)
        if len(self._group) >= ROWS_PER_GROUP:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(name, pa.int64() if name in _INTEGERS else pa.string()) for name in COLUMNS])
        columns = [
            arrow_array(column, field.type)
            for column, field in zip(zip(*self._group, strict=True), schema, strict=True)
        ]
        with translate_os_error(self.path):
            if self._sink is None:
                make_folder(self.path.parent)
                self._sink = HashingFile(self._temporary)
                self._writer = pq.ParquetWriter(
                    self._sink,
                    schema,
                    compression="lz4",
                    use_dictionary=["verdict", "finish_reason"],
                    write_statistics=["idx"],
                )
            self._writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        self._group = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with translate_os_error(self.path):
            try:
                if kind is None and self._group:
                    self._write()
                if self._sink is not None:
                    self._close(self._sink, complete=kind is None)
            finally:
                self._temporary.unlink(missing_ok=True)

    def _close(self, sink: HashingFile, *, complete: bool) -> None:
        if complete:
            self._writer.close()
            self.output = Output(sink.sync(), sink.size, self.rows)
        sink.close()
        if complete:
            self._temporary.replace(self.path)
            fsync_dir(self.path.parent)
