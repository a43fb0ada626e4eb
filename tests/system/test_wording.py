"""Numbers as people read them; and no text of others acts on a terminal."""

from __future__ import annotations

import logging

import orjson
import pytest

from undo_hpc.engines.openai_reply import short
from undo_hpc.errors import EngineError
from undo_hpc.system.guard import report_error
from undo_hpc.system.logs import log_to_terminal
from undo_hpc.system.wording import (
    counted,
    format_duration,
    percentage,
    points,
    printable,
    printable_json,
    three_digits,
)

HOSTILE = {
    "clears the screen": "a\x1b[2Jb",
    "writes the clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "title": "\x1b]0;owned\x1b\\",
    "C1": "\x9b2J",
    "bell": "\x07\x08",
    "turns the direction": "safe\u202eetis",
    "zero": "a\x00b",
}


def test_numbers() -> None:
    assert counted(1, "task") == "1 task" and counted(1200, "task") == "1,200 tasks"
    assert format_duration(3.6) == "0:04" and format_duration(3725) == "1:02:05"
    assert format_duration(-90) == "0:00", "a clock was set back"
    assert [three_digits(x) for x in (0.3781, 12.345, 99.96, 1234.6, 0)] == [
        "0.378",
        "12.3",
        "100",
        "1,235",
        "0",
    ]


def test_only_none_is_0_per_cent_and_only_all_is_100() -> None:
    found = [percentage(k / 1000) for k in (0, 1, 5, 6, 500, 994, 996, 999, 1000)]
    assert found == ["0", "<1", "<1", "1", "50", "99", ">99", ">99", "100"]
    assert [percentage(k / 10_000, 1) for k in (0, 4, 1234, 9996, 10_000)] == [
        "0.0",
        "<0.1",
        "12.3",
        ">99.9",
        "100.0",
    ]


def test_a_difference_that_is_shown_as_zero_has_no_sign() -> None:
    assert [points(x) for x in (0.0, -0.0, 0.0004, -0.0004)] == ["0.0"] * 4
    assert [points(x) for x in (0.123, -0.0006)] == ["+12.3", "\u22120.1"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_is_left_that_a_terminal_acts_on(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = printable(text)
    assert all(sign.isprintable() for sign in shown) and "\\" in shown
    assert printable(shown) == shown
    assert short(text) == shown
    report_error(EngineError(text, hint=text))
    log_to_terminal(logging.INFO)
    logging.getLogger("undo_hpc.x").warning("the server said %s", text)
    assert all(sign.isprintable() or sign == "\n" for sign in capsys.readouterr().err)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_json_for_a_terminal_says_the_same_and_acts_on_nothing(text: str) -> None:
    shown = printable_json(orjson.dumps({"said": text}, option=orjson.OPT_INDENT_2).decode())
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    assert orjson.loads(shown) == {"said": text}


def test_lines_and_signs_of_people_stay() -> None:
    text = "eins\n\tzwei é 中文 ∑ 👩‍🔬 fin"
    assert printable(text) == text


def test_a_progress_bar_becomes_lines_and_colours_go() -> None:
    assert printable("10%\r20%\r\n\x1b[1;31mred\x1b[0m") == "10%\n20%\nred"
