"""What a sceptic asks of a comparison is answered by figures, and what no arm answers is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaign.build import played
from undo_hpc.campaign.answers import RunResult, read_result
from undo_hpc.campaign.comparison import compare, mean_ledger
from undo_hpc.campaign.page import gather, page, settings
from undo_hpc.campaign.questions import doubts, unanswered


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, RunResult]]:
    def result(root: Path, *sets: str, seed: int, skill: float) -> RunResult:
        found = read_result(played(root, *sets, seed=seed, skill=skill), "gsm")
        assert found is not None
        return replace(found, student=root.name)

    place = tmp_path_factory.mktemp("runs")
    bases = ("tiny:student", "tiny:student-1")
    return {
        arm: {
            seed: result(
                place / f"{arm}-{seed}",
                f"method.preset={arm}",
                f"student.model={bases[seed]}",
                seed=seed,
                skill=skill,
            )
            for seed in (0, 1)
        }
        for arm, skill in (("undo", 0.9), ("blind", 0.4))
    }


def test_each_question_has_its_figures(results: dict[str, dict[int, RunResult]]) -> None:
    comparisons = compare(results, [("undo", "blind")])
    (found,) = doubts(results, comparisons)
    mine, theirs = (mean_ledger([r.ledger for r in results[arm].values()]) for arm in ("undo", "blind"))
    tokens = dict(zip(mine, found.used, strict=False))
    assert len(tokens) == 5 and found.used[0][:2] == (
        f"{mine['student_tokens']:,.0f}",
        f"{theirs['student_tokens']:,.0f}",
    )
    assert found.used[3][0] == f"{100 * mine['kept']:.0f} %" and found.used[3][2].endswith("points")
    assert found.seeds == (2, 2)
    by_seed = comparisons[0].difference.by_seed
    assert found.bases == {"tiny:student": by_seed[0], "tiny:student-1": by_seed[1]}
    html = page(gather("mine", results, [("undo", "blind")], problem_set="gsm"), "today")
    assert "What a sceptic asks" in html and "2 of 2" in html and "student-1 +" in html
    assert f"blind writes the same problems again, without the attempt: {comparisons[0].sentence}" in html
    assert "all settings: undo" in html and "tiny:student, tiny:student-1" in html


def test_what_no_arm_answers_is_said(results: dict[str, dict[int, RunResult]]) -> None:
    comparisons = compare(results, [("undo", "blind")])
    said = " ".join(unanswered(results, comparisons, {}))
    assert "another student" in said and "on more samples" in said
    assert "which problems" not in said and "base model" not in said and "There is one" not in said
    alone = {arm: {0: runs[0]} for arm, runs in results.items()} | {"again": {0: results["undo"][0]}}
    said = " ".join(unanswered(alone, compare(alone, [("undo", "again")]), {"undo": {0: results["undo"][0]}}))
    assert "which problems" in said and "tiny:student; student.model" in said and "There is one" in said
    assert "another student" not in said


def test_a_second_student_stands_on_the_page(results: dict[str, dict[int, RunResult]]) -> None:
    data = gather("mine", results, [("undo", "blind")], problem_set="gsm", transfer=results)
    html = page(data, "today")
    assert (
        "Another student, the same data" in html
        and "<td>undo</td><td>tiny:student, tiny:student-1</td>" in html
    )
    assert data.transferred[0].sentence in html and "Not tried here" not in html


def test_values_that_change_with_the_seed_are_among_the_settings(
    results: dict[str, dict[int, RunResult]],
) -> None:
    shown = settings({arm: [r.run for r in runs.values()] for arm, runs in results.items()})
    assert shown["student.model"] == ["tiny:student, tiny:student-1"] * 2
    assert shown["method.condition"] == ["undo", "blind"] and "teacher.model" not in shown
