"""What the next teacher is shown of each problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc.storage.shards import read_rows


@pytest.mark.parametrize("shown", [False, True])
def test_the_data_s_own_solution_is_kept_from_the_teacher(tmp_path: Path, shown: bool) -> None:
    """It holds the ground truth: of a diagnosis problem, which has no rationale yet, it is shown with `show_truth` alone."""
    built = RunBuilder(
        tmp_path / "run",
        problems=12,
        benchmarks={},
        sets=[f"method.show_truth={shown}", "display.report=false"],
    )
    built.play(1)
    rows = list(read_rows(built.run.layout.iteration(0).feedback))
    solutions = {p.problem_id: p.solution for split in ("diagnosis", "validation") for p in built.sets[split]}
    for split, expected in (("diagnosis", shown), ("validation", True)):
        mine = [row for row in rows if row["split"] == split]
        assert mine and all(
            row["rationale"] == (solutions[row["problem_id"]] if expected else "") for row in mine
        )
