"""Each switch of the method changes what it says of a target and of a prompt, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.stages.build import advance_to, make_feedback
from tests.stages.test_targets import FEEDBACK, PROBLEMS, all_targets, refined
from undo_hpc.control.planning import make_plan
from undo_hpc.errors import EvidenceError
from undo_hpc.pipeline.run import Run
from undo_hpc.prompts import load_prompts
from undo_hpc.records import Feedback, Target
from undo_hpc.stages import targets


def twice(tmp_path: Path, feedback: Sequence[Feedback] = FEEDBACK, **method: Any) -> Run:
    """A run whose third iteration is planned; each iteration has feedback of its own."""
    run = refined(tmp_path, feedback=feedback, **method)
    then = [
        replace(
            row,
            rationale="Now it is longer.",
            student_answer=row.student_answer.replace("I guess", "Again"),
            score=row.score + 0.25,
        )
        for row in feedback
    ]
    advance_to(run, 2, then)
    return run


SWITCHES: list[tuple[dict[str, Any], set[str]]] = [
    ({"show_score": True}, {"score"}),
    ({"hint": "kind"}, {"error_kind"}),
    ({"hint": "step"}, {"failed_step"}),
    ({"history": "all"}, {"history"}),
    ({"examples": 2}, {"examples"}),
    ({"show_truth": True}, {"shown_ground_truth"}),
]


@pytest.mark.parametrize(("method", "fields"), SWITCHES, ids=str)
def test_a_switch_changes_what_it_says_and_nothing_else(
    tmp_path: Path, method: dict[str, Any], fields: set[str]
) -> None:
    feedback = [replace(row, student_answer="2+2=5, so 5") for row in FEEDBACK[:37]]
    feedback += [make_feedback(p, split="diagnosis") for p in PROBLEMS[37:]]

    def rows(name: str, **method: Any) -> list[dict[str, Any]]:
        targets = all_targets(twice(tmp_path / name, feedback, **method), 2)
        return [orjson.loads(orjson.dumps(target)) for target in targets]

    plain, other = rows("plain"), rows("other", **method)
    assert [t["problem_id"] for t in plain] == [t["problem_id"] for t in other]
    changed = {key for old, new in zip(plain, other, strict=True) for key in old if old[key] != new[key]}
    assert changed == fields
    prompts = load_prompts("default")
    for old, new in zip(plain, other, strict=True):
        before, after = (targets.prompt_of(Target.from_dict(t), prompts, "") for t in (old, new))
        assert before != after and len(before) < len(after)
        kept = iter(after.splitlines())  # all that was said is still said, in its order
        missing = [line for line in before.splitlines() if line not in kept]
        assert not missing or method == {"show_score": True}, missing


@pytest.mark.parametrize("condition", ["undo", "blind", "shuffled"])
def test_the_whole_history_is_shown_with_the_attempts_of_the_condition(
    tmp_path: Path, condition: str
) -> None:
    last = all_targets(twice(tmp_path / "last", condition=condition), 2)
    found = all_targets(twice(tmp_path / "all", condition=condition, history="all", show_score=True), 2)
    assert {len(t.history) for t in last} == {0} and {len(t.history) for t in found} == {1}
    by_id = {p.problem_id: p for p in PROBLEMS}
    for target in found:
        (past,) = target.history
        assert past.problem_id == target.problem_id and past.iteration == 0
        assert past.rationale == f"First we add: the answer is {by_id[target.problem_id].ground_truth}."
        number = target.student_answer.removeprefix("Again ")
        if condition == "blind":
            assert (past.student_answer, past.verdict, past.score, target.score) == ("", "", "", "")
        else:
            assert (past.student_answer, past.score, target.score) == (f"I guess {number}", "0", "0.25")
            assert (number == str(target.idx)) == (condition == "undo")


def test_history_of_a_changed_iteration_is_refused(tmp_path: Path) -> None:
    run = twice(tmp_path / "run", history="all")
    plan = run.plan(2)
    assert plan is not None and {"splits", "feedback", "history"} == set(plan.inputs)
    old = run.layout.iteration(0).feedback
    old.write_bytes(old.read_bytes().replace(b"guess", b"gness", 1))
    with pytest.raises(EvidenceError, match=r"iter_000/feedback\.jsonl has changed since") as error:
        make_plan(run, 2)
    assert old.exists() and "iteration 1 and all later ones" in error.value.hint
