"""advance reads problems, answers and rationales as streams; what does not belong together is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.stages.build import context, make_attempt, make_problems, make_run, write_shards
from undo_hpc.data.distilled import read_solutions
from undo_hpc.errors import EvidenceError
from undo_hpc.method.diagnosis import error_kind
from undo_hpc.stages import merge
from undo_hpc.stages.answered_problems import answered_problems, answered_slices, with_rationales
from undo_hpc.stages.evaluate import with_error_kinds
from undo_hpc.stages.predictions import Predictions
from undo_hpc.storage.atomic import write_bytes
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.shards import dump_rows

PROBLEMS = make_problems(30)


def test_each_problem_stands_beside_its_answers_and_its_first_rationale(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 2, generate={"shards": 2, "samples": 2})
    write_shards(run, lambda p: [make_attempt(p, n, correct=p.idx % 4 > 0) for n in range(2)])
    with Lease(tmp_path / "m", "merge") as lease:
        merge.run_stage(context(run, "merge", lease))
    some = [p for p in PROBLEMS if p.idx % 3]
    with Lease(tmp_path / "l", "advance") as lease:
        ctx = context(run, "advance", lease)
        answers = [make_attempt(p, n, correct=(p.idx + n) % 2 == 0) for p in some for n in range(3)]
        write_bytes(ctx.at.shard("evaluate", 0, "train"), dump_rows([a.to_dict() for a in answers]))
        parts = answered_slices(ctx, "evaluate", [0])["train"]
        found = list(with_rationales(ctx, [answered_problems(ctx, "evaluate", "train", parts)]))
        assert [a.problem["problem_id"] for a in found] == [p.problem_id for p in some]
        assert [row for a in found for row in a.rows] == answers
        first = {who: text for (_, who), text in read_solutions(ctx.at.distilled)}
        assert {a.problem["problem_id"]: a.rationale for a in found} == {
            p.problem_id: first.get(p.problem_id) for p in some
        }
        assert any(a.rationale is None for a in found) and any(a.rationale for a in found)
        with Predictions(ctx.at.predictions) as predictions:
            for item in found:
                predictions.add(item)
        import pyarrow.parquet as pq

        rows = pq.read_table(ctx.at.predictions).to_pylist()
        assert [(row["id"], row["attempt"], row["student_solution"]) for row in rows] == [
            (a.problem_id, a.attempt, a.text) for a in answers
        ]
        with pytest.raises(ZeroDivisionError), Predictions(ctx.at.predictions) as torn:
            torn.add(found[0])
            _ = 1 // 0
        assert len(pq.read_table(ctx.at.predictions)) == len(rows), "the old file stands"
        assert not list(ctx.at.root.glob(".*predictions*"))


def test_a_shard_of_other_problems_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 1)
    with Lease(tmp_path / "l", "advance") as lease:
        ctx = context(run, "advance", lease)
        rows = [make_attempt(p, 0).to_dict() for p in (PROBLEMS[3], PROBLEMS[1])]
        write_bytes(ctx.at.shard("evaluate", 0, "train"), dump_rows(rows))
        parts = answered_slices(ctx, "evaluate", [0])["train"]
        with pytest.raises(EvidenceError, match="out of order"):
            list(answered_problems(ctx, "evaluate", "train", parts))


def test_the_kind_of_an_error_is_told_once_a_problem_and_is_that_of_the_text() -> None:
    rng = random.Random(0)
    rows = [make_attempt(p, n, correct=rng.random() < 0.5) for p in PROBLEMS for n in range(3)]
    golds = {p.problem_id: "99999" for p in PROBLEMS}
    told = with_error_kinds(rows, golds)
    first: set[str] = set()
    for row, before in zip(told, rows, strict=True):
        wrong = row.verdict != "correct" and row.problem_id not in first
        assert row.error_kind == (error_kind(before, "99999") if wrong else "")
        first |= {row.problem_id} if wrong else set()
        assert ("error_kind" in row.to_dict()) == wrong
