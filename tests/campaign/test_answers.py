"""A run's ledger: what the teacher read and wrote, and what students learned from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.observe.synthetic import RunBuilder
from undo_hpc.campaign.answers import _ledger
from undo_hpc.storage.atomic import read_json


def test_a_control_that_asks_no_teacher_is_charged_with_none(tmp_path: Path) -> None:
    """Its scores counted the student's own answers as read by a teacher; what was finished then keeps that count."""
    run = RunBuilder(tmp_path / "run", problems=24, sets=["iterations=1"], benchmarks={"gsm": 30}).play(1)
    metrics = [read_json(run.layout.iteration(0).metrics)]
    counted = [metrics[0] | {"score": {"tokens": 99}}]
    distill = run.config.distill.model_copy(update={"loss": "fixed_advantage"})
    control = replace(run, config=run.config.model_copy(update={"distill": distill}))
    plain, scored, none = _ledger(run, metrics, 0), _ledger(run, counted, 0), _ledger(control, counted, 0)
    assert (scored.teacher_tokens, scored.scored_tokens) == (plain.teacher_tokens + 99, 99)
    assert none == plain


def test_what_a_students_parents_learned_counts_where_it_began_with_them(tmp_path: Path) -> None:
    """With `on_policy` the last training may learn from the few problems that were answered wrongly alone."""
    run = RunBuilder(
        tmp_path / "run", problems=24, benchmarks={"gsm": 30}, sets=["method.start_from=previous"]
    ).play(2)
    metrics = [read_json(run.layout.iteration(k).metrics) for k in (0, 1)]
    first = _ledger(run, metrics, 0).problems
    metrics[1]["train"]["problems_learned"] = first - 3
    method = run.config.method.model_copy(update={"start_from": "initial"})
    alone = replace(run, config=run.config.model_copy(update={"method": method}))
    assert _ledger(run, metrics, 1).problems == first and _ledger(alone, metrics, 1).problems == first - 3
