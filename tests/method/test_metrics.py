"""Each figure against a slow computation from the rows."""

from __future__ import annotations

from fractions import Fraction
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.method.metrics import (
    MOST_CATEGORIES,
    UNTRAINED,
    CategorySummary,
    ErrorCounts,
    beats_untrained,
    best_validation,
    compare,
    count_attempts,
    count_solved,
    gain,
    is_boxed,
    rows_learned,
    sum_generation,
    summarise,
)
from undo_hpc.method.stats import paired_detectable_difference, wilson
from undo_hpc.records import Attempt, Feedback

TEXTS = [
    "so \\boxed{4}",
    "it is 4",
    "\\boxed{}",
    "\\fbox{4}",
    "the rest was cut \\boxed{",
    "\\boxed{1} or \\boxed{4}",
]
HAS_BOX = [True, False, False, True, False, True]


def attempt(
    problem: int, number: int, verdict: str, text: str = "4", finish: str = "stop", tokens: int = 10
) -> Attempt:
    return Attempt(
        str(problem), problem, number, "student", text, verdict, "4", "number", finish, 5, tokens, 1, 0.5
    )  # type: ignore[arg-type]


VERDICTS = ("correct", "wrong", "no_answer", "unparsed", "timeout")


@st.composite
def answers(draw: st.DrawFn) -> list[Attempt]:
    """The same number of samples of each problem."""
    problems, samples = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    return [
        attempt(
            p,
            k,
            draw(st.sampled_from(VERDICTS)),
            draw(st.sampled_from(TEXTS)),
            draw(st.sampled_from(("stop", "length", "error"))),
            draw(st.integers(0, 50)),
        )
        for p in range(problems)
        for k in range(samples)
    ]


@given(answers())
def test_a_set_s_figures_follow_from_its_rows(rows: list[Attempt]) -> None:
    told = summarise(rows)
    by_problem = [list(group) for _, group in groupby(rows, key=lambda row: row.problem_id)]
    shares = [Fraction(sum(r.verdict == "correct" for r in mine), len(mine)) for mine in by_problem]
    assert told["n"] == len(shares) and told["answers"] == len(rows)
    assert told["accuracy"] == pytest.approx(float(sum(shares) / len(shares)))
    assert Fraction(told["correct"], told["answers"]) == sum(shares) / len(shares), "every share is k of n"
    assert 0 <= told["low"] <= told["accuracy"] + 1e-12 and told["accuracy"] - 1e-12 <= told["high"] <= 1
    assert told["truncated"] == len([r for r in rows if r.finish_reason == "length"])
    assert told["errors"] == len([r for r in rows if r.finish_reason == "error"])
    for verdict in VERDICTS[2:]:
        assert told[verdict] == len([r for r in rows if r.verdict == verdict])
    assert told["boxed"] == sum(HAS_BOX[TEXTS.index(r.text)] for r in rows)
    assert told["right_unboxed"] == sum(
        r.verdict == "correct" and not HAS_BOX[TEXTS.index(r.text)] for r in rows
    )
    assert told["mean_tokens"] * len(rows) == pytest.approx(sum(r.completion_tokens for r in rows))
    if len(by_problem[0]) > 1:
        assert told["pass_at"]["1"] == pytest.approx(told["accuracy"])
    else:
        assert told["pass_at"] == {} and (told["low"], told["high"]) == wilson(told["correct"], told["n"])


@given(answers())
def test_the_verdicts_of_a_manifest_add_up(rows: list[Attempt]) -> None:
    counts = count_attempts(rows)
    assert sum(counts[v] for v in VERDICTS) == counts["rows"] == len(rows)
    solved = {
        r.problem_id: any(o.verdict == "correct" for o in rows if o.problem_id == r.problem_id) for r in rows
    }
    assert count_solved(rows) == sum(solved.values())


def test_no_answers_are_no_division_by_zero() -> None:
    told = summarise([])
    assert (told["n"], told["accuracy"], told["low"], told["high"]) == (0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        *zip(TEXTS, HAS_BOX, strict=True),
        ("<think>so \\boxed{4}</think>it is 4", False),
        ("<think>hm</think>\\boxed{4}", True),
        ("a } { b \\boxed{4}", True),
        ("a line break\\\\boxed{4}", False),
        ("a line break\\\\\\boxed{4}", True),
        ("\\a\\fbox{4}", True),
    ],
)
def test_boxes(text: str, boxed: bool) -> None:
    assert is_boxed(attempt(0, 0, "correct", text)) is boxed


def test_shards_add_up_and_what_they_lack_is_nothing() -> None:
    told = sum_generation(
        [{"rows": 3, "correct": 2, "seconds": 1.25}, {"rows": 4, "correct": 1, "errors": 1}]
    )
    assert (told["rows"], told["correct"], told["errors"], told["seconds"]) == (7, 3, 1, 1.25)


def test_errors_by_split_and_kind() -> None:
    def row(split: str, verdict: str, kind: str) -> Feedback:
        return Feedback("p", 0, split, "", "", "", "", verdict, kind, 0.0)  # type: ignore[arg-type]

    rows = [
        row("train", "wrong", "setup"),
        row("train", "correct", ""),
        row("train", "wrong", "setup"),
        row("validation", "no_answer", "no_answer"),
    ]
    counts = ErrorCounts()
    for item in rows:
        counts.add(item)
    assert counts.to_dict() == {"train": {"setup": 2}, "validation": {"no_answer": 1}}


def test_categories_are_the_sets_of_their_problems_and_names_of_problems_are_none() -> None:
    summary, rows = CategorySummary(), {}
    for k in range(MOST_CATEGORIES + 1):
        mine = [attempt(k, n, "correct" if (k + n) % 3 else "wrong") for n in range(2)]
        rows.setdefault(str(k % 2), []).extend(mine)
        summary.add(mine, {"level": str(k % 2), "name": str(k)})
    told = summary.to_dict()
    assert told.keys() == {"level"}, "a column with more values than are shown is left out"
    for value, mine in rows.items():
        assert told["level"][value] == {key: summarise(mine)[key] for key in told["level"][value]}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_flips_are_the_four_fields_of_the_table(pairs: list[tuple[bool, bool]]) -> None:
    flips = compare(UNTRAINED, 0, "x", [(float(old), float(new)) for old, new in pairs])
    assert (flips.fixed, flips.broken) == (pairs.count((False, True)), pairs.count((True, False)))
    assert (flips.wrong, flips.right) == (pairs.count((False, False)), pairs.count((True, True)))
    assert flips.n == len(pairs)
    assert sum(new - old for old, new in pairs) / len(pairs) == pytest.approx(
        (flips.fixed - flips.broken) / flips.n
    )
    assert flips.detectable == paired_detectable_difference(
        len(pairs), sum(a != b for a, b in pairs) / len(pairs)
    )


def history(untrained: float | None, *validation: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"sets": {"validation": {"accuracy": value}}, "baseline": {}} for value in validation
    ]
    if untrained is not None:
        found[0]["baseline"] = {"validation": {"accuracy": untrained}}
    return found


@pytest.mark.parametrize(
    ("before", "after", "beats", "points"),
    [
        (0.5, (0.25,), False, -0.25),
        (0.5, (0.25, 0.5), False, 0.0),
        (0.5, (0.25, 0.75, 0.6), True, 0.25),
        (None, (0.4, 0.3), None, 0.0),
        (None, (0.4, 0.5), None, 0.1),
    ],
)
def test_the_best_is_told_from_the_untrained(
    before: float | None, after: tuple[float, ...], beats: bool | None, points: float
) -> None:
    runs = history(before, *after)
    assert beats_untrained(runs) is beats and gain(runs) == pytest.approx(points)
    best = best_validation(runs)
    assert best is not None and best["accuracy"] == max(after)


def test_without_validation_there_is_no_best() -> None:
    for runs in ([], [{"sets": {}, "baseline": {}}], [{}]):
        assert best_validation(runs) is None and beats_untrained(runs) is None and gain(runs) is None


def test_rows_learned() -> None:
    assert rows_learned({"rows_given": 38, "rows_learned": 4}, {"rows": 38}) == (4, 38)
    assert rows_learned({}, {"rows": 38}) == (38, 38), "a run that did not count them"
