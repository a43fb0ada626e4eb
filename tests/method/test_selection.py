"""What the student learns from: right, good enough, distinct; and how new rationales meet the old."""

from undo_hpc.method.selection import accept, combine
from undo_hpc.records import Example


def attempt(number: int, text: str = "", flags: list[str] | None = None) -> dict[str, object]:
    return {"attempt": number, "text": text or f"text {number}", "flags": flags or []}


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
    kept, dropped = accept(rows, most=2, keep_wrong=False)
    assert [r["attempt"] for r in kept] == [1, 3]
    assert dropped == {"wrong": 1, "duplicate": 1, "surplus": 1, "truncated": 1}


def test_keep_wrong_forgives_that_alone() -> None:
    kept, dropped = accept(
        [attempt(0, flags=["wrong"]), attempt(1, flags=["wrong", "leak"])], most=2, keep_wrong=True
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


def test_keep_wrong_takes_a_right_attempt_before_a_wrong_one() -> None:
    kept, dropped = accept([attempt(0, flags=["wrong"]), attempt(1)], most=1, keep_wrong=True)
    assert [r["attempt"] for r in kept] == [1] and dropped == {"surplus": 1}
