"""What the student's card says of how it was trained and who judged its answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.finished import all_metrics
from undo_hpc.hub.cards import checked_by, student_card
from undo_hpc.pipeline.run import Run

SETS = [{"answers": 60, "judged": 7}, {"answers": 40}]


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([], "undo-hpc's own checker, which counts right ones without a box as right"),
        (["grading.checker=code"], "`code`"),
        (["grading.checker='command: python /home/me/check.py'"], "a command of the user's"),
        (
            ["grading.judge.model=/models/judge", "grading.judge.openai.base_url=http://h/v1", "grading.checker=exact"],
            "`exact`, and by the judge `judge` where that left them open: 7 of 100",
        ),
    ],
)  # fmt: skip
def test_the_card_names_who_judged(sets: list[str], said: str) -> None:
    assert checked_by(override(RunConfig(), sets), SETS) == said


def test_the_card_tells_the_rate_of_a_training_on_own_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`distill.learning_rate`, which stands in the student's folder too; not `train.learning_rate`, that of the iterations on text."""
    sets = ["display.report=false", "train.learning_rate=0.002", "distill.learning_rate=0.0005"]
    run = RunBuilder(tmp_path / "run", problems=20, sets=sets).play(1)
    metrics = all_metrics(run)
    card = student_card(run, metrics, 0)
    assert "learning rate 0.002," in card and "own answers" not in card
    plan = run.plan(0)
    assert plan is not None
    monkeypatch.setattr(Run, "plan", lambda self, number: replace(plan, sample=((),)))
    card = student_card(run, metrics, 0)
    assert "learning rate 0.0005," in card and "rows learned, the student's own answers among them." in card
