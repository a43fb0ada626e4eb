"""What the student learns from: right, good enough, distinct; and how new rationales meet the old."""

from undo_hpc.method.selection import Choice, accept, combine, pass_rate
from undo_hpc.records import Example


def attempt(
    number: int, text: str = "", flags: list[str] | None = None, tokens: int = 5
) -> dict[str, object]:
    verdict = "wrong" if "wrong" in (flags or []) else "correct"
    return {
        "attempt": number,
        "text": text or f"text {number}",
        "flags": flags or [],
        "completion_tokens": tokens,
        "verdict": verdict,
    }


def example(text: str, iteration: int, verdict: str = "correct", tokens: int = 5) -> Example:
    return Example("p", 0, "q", text, "1", iteration, 0, "plain", verdict, tokens)  # type: ignore[arg-type]


def test_accept_counts_every_reason() -> None:
    rows = [
        attempt(0, flags=["wrong"]),
        attempt(1, "same"),
        attempt(2, "same"),
        attempt(3),
        attempt(4),
        attempt(5, flags=["truncated", "wrong"]),
    ]
    kept, dropped = accept(rows, Choice(2))
    assert [r["attempt"] for r in kept] == [1, 3]
    assert dropped == {"wrong": 1, "duplicate": 1, "surplus": 1, "truncated": 1}


def test_keep_wrong_forgives_that_alone() -> None:
    kept, dropped = accept(
        [attempt(0, flags=["wrong"]), attempt(1, flags=["wrong", "leak"])], Choice(2, keep_wrong=True)
    )
    assert [r["attempt"] for r in kept] == [0] and dropped == {"leak": 1}


def test_combining() -> None:
    old, new = [example("old", 0)], [example("new", 1, tokens=9)]
    assert combine(old, new, "replace") == new
    assert combine(old, [], "replace") == old
    assert [e.teacher_solution for e in combine(old, new, "add")] == ["old", "new"]
    assert combine(old, [example("old", 1)], "add") == old
    assert [e.teacher_solution for e in combine(old, new, "best")] == ["old"]
    assert [e.teacher_solution for e in combine([example("old", 0, "wrong", 1)], new, "best")] == ["new"]


def test_the_best_of_old_and_new_hold_no_text_twice() -> None:
    old, new = [example("same", 0)], [example("same", 1), example("longer", 1, tokens=9)]
    assert combine(old, new, "best") == new
    assert combine(new, [example("same", 2)], "best") == [new[1], example("same", 2)]


def test_keep_wrong_takes_a_right_attempt_before_a_wrong_one() -> None:
    kept, dropped = accept([attempt(0, flags=["wrong"]), attempt(1)], Choice(1, keep_wrong=True))
    assert [r["attempt"] for r in kept] == [1] and dropped == {"surplus": 1}


def test_the_shortest_are_kept_in_order_of_attempt() -> None:
    rows = [
        attempt(0, tokens=9),
        attempt(1, tokens=3),
        attempt(2, flags=["wrong"], tokens=1),
        attempt(3, tokens=3),
        attempt(4, tokens=8),
    ]
    kept, dropped = accept(rows, Choice(2, select="shortest", samples=5))
    assert [r["attempt"] for r in kept] == [1, 3] and dropped == {"surplus": 2, "wrong": 1}
    kept, _ = accept(rows, Choice(3, select="shortest", samples=5))
    assert [r["attempt"] for r in kept] == [1, 3, 4]
    kept, _ = accept(rows, Choice(4, keep_wrong=True, select="shortest", samples=5))
    assert 2 not in [r["attempt"] for r in kept], "a right one goes before a wrong one, however short"


def test_problems_are_chosen_by_the_pass_rate_of_the_first_samples() -> None:
    half = [attempt(0), attempt(1, flags=["wrong"]), attempt(2)]  # the third is a retry
    assert pass_rate(half, 2) == 0.5 and pass_rate(half, 3) == 2 / 3 and pass_rate([], 2) == 0
    for low, high, learned in ((0.0, 1.0, True), (0.5, 0.5, True), (0.6, 1.0, False), (0.0, 0.4, False)):
        kept, dropped = accept(half, Choice(3, samples=2, low=low, high=high))
        assert bool(kept) is learned and dropped.get("pass_rate", 0) == (0 if learned else 3)
