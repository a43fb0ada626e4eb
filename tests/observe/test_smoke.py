"""What is said of a smoke test: shares with the counts that they come from, and figures of the whole run."""

from typing import Any

from undo_hpc.config.load import load_config
from undo_hpc.observe.smoke import measured

MADE: dict[str, Any] = {
    "rows": 40, "correct": 30, "truncated": 8, "problems": 20, "solved": 15, "completion_tokens": 6000,
    "new_tokens": 3000, "seconds": 6.0,
}  # fmt: skip
HISTORY: list[dict[str, Any]] = [
    {
        "generate": MADE,
        "distilled": {"rows": 30},
        "train": {"rows_given": 30, "rows_learned": 24, "rows_left_out": {"longer than max_length (512)": 6}},
        "sets": {"validation": {"answers": 10, "truncated": 4}, "tiny": {"answers": 10, "truncated": 1}},
    }
]


def test_each_figure_and_what_it_means_for_the_run() -> None:
    text = "\n".join(measured(HISTORY, load_config("tiny")))
    assert "75 % of 40 attempts right (95 % interval 60 to 86 %), at least one for 15 of 20 problems" in text
    assert "20 % cut off" in text and "500 tokens/s" in text
    # 1,200 problems less 200 and 150 held out; 300 tokens a problem at 500 a second
    assert "the run's 850 training problems, about 638" in text and "8:30 of one task" in text
    assert "takes 80 % of the kept rationales" in text and "train.max_length is 512" in text
    assert "student: 25 % of 20 answers cut off" in text


def test_a_run_that_asks_no_teacher_says_nothing_of_one() -> None:
    quiet = [HISTORY[0] | {"generate": dict.fromkeys(MADE, 0), "train": {}}]
    assert "teacher" not in "\n".join(measured(quiet, load_config("tiny")))
