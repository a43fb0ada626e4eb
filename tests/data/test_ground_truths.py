"""What becomes a ground truth: exact numbers, no text that stands for a missing answer, the text of typed parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.search import examples
from undo_hpc.config.schema import FieldsConfig, SourceConfig
from undo_hpc.data import LoadedProblems, load_problems
from undo_hpc.data.conversations import Unusable, turn
from undo_hpc.data.json_files import loads
from undo_hpc.data.placeholders import is_placeholder
from undo_hpc.errors import DataError


def load(path: Path, rows: list[dict[str, Any]], **source: Any) -> LoadedProblems:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_problems(SourceConfig(path=str(path), **source))


# ---- numbers ----------------------------------------------------------------------------------------------------------


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@examples(100)
def test_a_float_of_32_bits_is_its_shortest_decimal(value: float) -> None:
    from decimal import Decimal

    import numpy

    from undo_hpc.data.fields import as_text
    from undo_hpc.data.tables import ArrowTable

    table = ArrowTable("t", ["x"], pyarrow.table({"x": pyarrow.array([value], pyarrow.float32())}))
    row = table.row(0)
    assert isinstance(row, dict)
    text = as_text(row["x"], "x")
    assert numpy.float32(text) == numpy.float32(value), "it reads back as the same number"
    assert len(Decimal(text).normalize().as_tuple().digits) <= 9


@pytest.mark.parametrize("path", ["deep.in.a.list", "flat"])
def test_floats_inside_columns_are_as_short(tmp_path: Path, path: str) -> None:
    deep = {"in": {"a": {"list": [0.3]}}}
    kind = pyarrow.struct(
        [("in", pyarrow.struct([("a", pyarrow.struct([("list", pyarrow.list_(pyarrow.float32()))]))]))]
    )
    columns = {
        "problem": pyarrow.array(["p"]),
        "deep": pyarrow.array([deep], kind),
        "flat": pyarrow.array([0.3], pyarrow.float16()),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    loaded = load_problems(SourceConfig(path=str(tmp_path / "a.parquet"), fields=FieldsConfig(answer=path)))
    assert loaded.problems[0].ground_truth == "0.3"


@given(st.integers(min_value=-(10**60), max_value=10**60), st.integers(0, 9))
@examples(100)
def test_integers_are_exact_at_any_depth(value: int, depth: int) -> None:
    text = str(value)
    for level in range(depth):
        text = f'{{"k": {text}}}' if level % 2 else f"[{text}]"
    found = loads(text.encode())
    for level in reversed(range(depth)):
        found = found["k"] if level % 2 else found[0]
    assert found == value


def test_numbers_with_more_digits_than_a_float_holds_stay_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    digits = "3.14159265358979323846264338327950288"
    path.write_text(
        f'{{"problem": "pi", "answer": {digits}}}\n'
        f'{{"problem": "long", "answer": {"9" * 5000}}}\n'
        '{"problem": "one", "answer": 1.0000000000000000000000}\n'
        '{"problem": "large", "answer": 1.23456789012345678901e999999999}\n'
    )
    loaded = load_problems(SourceConfig(path=str(path), answer_from="plain"))
    assert [p.ground_truth for p in loaded.problems] == [digits, "9" * 5000, "1"]
    assert "infinite" in loaded.rejected[0].reason


# ---- no ground truth ---------------------------------------------------------------------------------------------------

WORDS = ["proof", "Proof.", "notfound", "not found", "not_found", "None", "N/A", "n/a", "null", "NaN", "<NA>", "#N/A", "unknown", "Unknown", "NA",
         "nil", "not available", "No answer", "No-Answer", "-", "?", "...", "$\\text{Proof}$", "\\text{N/A}", '"none"', "(null)", "TBD", "#DIV/0!",
         "<answer>"]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("form", ["{}", "\\boxed{{{}}}", "so it is\n#### {}"])
def test_a_text_for_a_missing_answer_is_no_ground_truth(tmp_path: Path, word: str, form: str) -> None:
    rows = [{"problem": "a?", "answer": form.format(word)}, {"problem": "b?", "answer": "4"}]
    loaded = load(tmp_path / "a.jsonl", rows)
    assert [p.ground_truth for p in loaded.problems] == ["4"]
    assert loaded.rejected[0].reason in (
        f"no ground truth: {word!r}",
        f"no ground truth: {word.strip('#')!r}",
    )


@pytest.mark.parametrize(
    "answer",
    [
        "nonempty",
        "no",
        "0",
        "N",
        "\\emptyset",
        "\\{\\}",
        "undefined",
        "no solution",
        "DNE",
        "-1",
        "Na",
        "n",
        "\\infty",
        "proof by induction",
        "?x",
    ],
)
def test_what_may_be_an_answer_stays(tmp_path: Path, answer: str) -> None:
    assert (
        load(tmp_path / "a.jsonl", [{"problem": "a?", "answer": answer}]).problems[0].ground_truth == answer
    )


@pytest.mark.parametrize("answer", ["\\boxed{}", "$$", "''", "$\\boxed{\\text{ }}$"])
def test_an_answer_of_signs_around_nothing_is_none(tmp_path: Path, answer: str) -> None:
    rows = [{"problem": "a?", "answer": answer}, {"problem": "b?", "answer": "4"}]
    assert [p.ground_truth for p in load(tmp_path / "a.jsonl", rows).problems] == ["4"]


def test_a_text_or_an_option_may_be_such_a_word(tmp_path: Path) -> None:
    rows = [{"problem": f"{word}?", "answer": word} for word in ("unknown", "None", "proof", "N/A", "null")]
    loaded = load(tmp_path / "a.jsonl", rows, answer_kind="text")
    assert [p.ground_truth for p in loaded.problems] == ["unknown", "None", "proof"]
    assert len(loaded.rejected) == 2
    rows = [
        {"problem": "Which?", "answer": "None", "options": ["One", "None", "NaN"]},
        {"problem": "Which now?", "answer": "NaN", "options": ["One", "None", "NaN"]},
        {"problem": "Which else?", "answer": "N/A", "options": ["One", "None"]},
    ]
    loaded = load(tmp_path / "b.jsonl", rows, fields=FieldsConfig(options="options"))
    assert [p.ground_truth for p in loaded.problems] == ["B", "C"]
    assert "none of the 2 options" in loaded.rejected[0].reason


def test_neither_a_problem_nor_a_solution_is_made_of_such_a_word(tmp_path: Path) -> None:
    rows = [
        {"problem": "None", "answer": "1", "solution": "1"},
        {"problem": "b?", "answer": "2", "solution": "N/A"},
    ]
    loaded = load(tmp_path / "a.jsonl", rows)
    assert [(p.problem, p.solution) for p in loaded.problems] == [("b?", "")]
    assert loaded.rejected[0].reason == "no problem: 'None'"


def test_a_csv_of_empty_cells_says_why_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("problem,answer\na,None\nb,N/A\n")
    with pytest.raises(DataError, match="no ground truth: 'None'"):
        load_problems(SourceConfig(path=str(tmp_path / "a.csv")))


@given(st.text(max_size=80))
@examples(100)
def test_any_text_is_judged(text: str) -> None:
    assert is_placeholder(text) in (True, False)
    assert not is_placeholder(f"x{text}x = 12345"), "a longer text is none"


# ---- conversations -----------------------------------------------------------------------------------------------------


def parts(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


ASKED, SAID = "What is 1+1?", "It is \\boxed{2}."
CHATS: dict[str, Any] = {
    "text": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}],
    "parts": [
        {"role": "user", "content": parts("What is ", "1+1?")},
        {"role": "assistant", "content": parts(SAID)},
    ],
    "other names": [
        {"role": "user", "content": [{"type": "input_text", "text": ASKED}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": SAID}]},
    ],
    "one part": [
        {"role": "user", "content": parts(ASKED)[0]},
        {"role": "assistant", "content": parts(SAID)[0]},
    ],
    "thinking": [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "1 and 1"}, *parts(SAID)]},
    ],
    "nested thinking": [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": parts("1 and 1")}, *parts(SAID)]},
    ],
    "strings": [{"role": "user", "content": ["What is ", "1+1?"]}, {"role": "assistant", "content": [SAID]}],
    "google": [{"role": "user", "parts": [{"text": ASKED}]}, {"role": "model", "parts": [{"text": SAID}]}],
    "columns": {"role": ["user", "assistant"], "content": [ASKED, SAID]},
    "sharegpt": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}],
    "json text": json.dumps([{"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}]),
}


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_conversation_in_any_form(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    row = {"chat": CHATS[name]}
    if kind == "jsonl":
        path.write_text(json.dumps(row))
    elif "thinking" in name:
        pytest.skip("Arrow has no column of such parts")
    else:
        try:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
        except pyarrow.ArrowInvalid:
            pytest.skip("Arrow has no column of such parts")
    fields = FieldsConfig(problem="chat", answer="chat", solution="chat")
    problem = load_problems(SourceConfig(path=str(path), fields=fields)).problems[0]
    assert (problem.problem, problem.ground_truth) == (ASKED, "2")
    assert problem.solution == (f"<think>\n1 and 1\n</think>\n\n{SAID}" if "thinking" in name else SAID)


def test_a_part_that_is_no_text_is_listed() -> None:
    image = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(Unusable, match="a part of type 'image_url'"):
        turn([{"role": "user", "content": image}], "problem")
    assert turn(parts("a", "b"), "problem") == "ab", "typed parts without a conversation around them"
    assert turn("[{not json", "problem") == "[{not json"
