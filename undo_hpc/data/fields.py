r"""From a row of a source to a Problem. Pure: a row that cannot be used raises `Unusable` with the reason.

Which columns are meant is settled once a table (`resolve`), so that a column that is absent everywhere is the user's mistake,
and a value that is absent in one row is that row's fault.
"""

from __future__ import annotations

import difflib
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.conversations import Unusable, turn
from undo_hpc.data.placeholders import is_placeholder
from undo_hpc.errors import DataError
from undo_hpc.grading.extract import after_hashes, last_boxed
from undo_hpc.records import AnswerKind, Problem, content_id

PLAIN_LIMIT = 200  # a longer plain answer is a text without a final answer, not a ground truth
_GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_BOX = re.compile(r"\\f?boxed\s*\{")
_LETTER_AND_TEXT = re.compile(r"\(?([A-Z])[).:]+\s*(.+)", re.DOTALL)
_NUMBERS = "123456789"  # labels of options in some data sets
_TEMPLATE_KEY = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Columns:
    """The columns (or templates) of one table that were found for each meaning."""

    problem: str
    answer: str
    solution: str
    options: str
    metadata: tuple[str, ...] = ()

    @property
    def used(self) -> list[str]:
        """The names of all columns that are read."""
        parts = (self.problem, self.answer, self.solution, self.options, *self.metadata)
        return list(dict.fromkeys(name for part in parts if part for name in template_columns(part)))


def column_of(name: str, columns: Sequence[str]) -> str:
    """The column that a name is of: itself, or the first part of a dotted path."""
    return name if name in columns else name.split(".")[0]


def template_columns(candidate: str) -> list[str]:
    """The columns that a candidate reads: those in its braces, or the one that it names."""
    return _TEMPLATE_KEY.findall(candidate) or [candidate]


def resolve(source: SourceConfig, columns: Sequence[str], name: str) -> Columns:
    """Settles which columns of a table are meant; the first candidate whose columns are all present wins.

    Raises:
        DataError: no candidate for the problem or the answer is present, or the column of the options is not.
    """
    fields = source.fields
    problem = _first("problem", fields.problem, columns, name)
    answer = _first("answer", fields.answer, columns, name)
    solution = _present(fields.solution, columns)
    if (
        solution is None and isinstance(fields.solution, str) and fields.solution
    ):  # one column, named on purpose
        raise _no_column("solution", [fields.solution], columns, name)
    if fields.options and fields.options not in columns:
        raise _no_column("options", [fields.options], columns, name)
    return Columns(problem, answer, solution or "", fields.options)


def _present(candidates: str | list[str], columns: Sequence[str]) -> str | None:
    names = [candidates] if isinstance(candidates, str) else candidates
    return next(
        (c for c in names if all(column_of(part, columns) in columns for part in template_columns(c))), None
    )


def _first(meaning: str, candidates: str | list[str], columns: Sequence[str], name: str) -> str:
    found = _present(candidates, columns)
    if found is None:
        raise _no_column(meaning, [candidates] if isinstance(candidates, str) else candidates, columns, name)
    return found


def _no_column(meaning: str, candidates: Sequence[str], columns: Sequence[str], name: str) -> DataError:
    wanted = list(
        dict.fromkeys(part for c in candidates for part in template_columns(c) if part not in columns)
    )
    lower = {column.lower(): column for column in columns}
    near = [
        lower[hit] for w in wanted for hit in difflib.get_close_matches(w.lower(), lower, n=1, cutoff=0.6)
    ]
    chats = [column for column in columns if column in ("messages", "conversations")]
    advice = (
        f"did you mean '{near[0]}'? "
        if near
        else f"the conversations can be read, too: fields.{meaning}: {chats[0]}; "
        if chats
        else ""
    )
    return DataError(
        f"{name} has no column for the {meaning}: looked for {', '.join(repr(c) for c in candidates)}; "
        f"it has {', '.join(repr(c) for c in columns) or 'none'}",
        hint=f"{advice}set fields.{meaning} to a column, or to a template such as '{{Body}} {{Question}}'",
    )


def as_text(value: Any, what: str) -> str:
    """A value as text: 51.0 becomes '51'. Raises Unusable where it is missing, empty, NaN or no text."""
    if value is None:
        raise Unusable(f"{what} is missing")
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        value = Decimal(repr(value))  # 1e25 as it was written, not the nearest sum of powers of two
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return _decimal_text(value, what)
    if isinstance(value, bytes):  # text columns that were written without their type (Spark, older Arrow)
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise Unusable(f"{what} is no text (bytes)") from None
    if not isinstance(value, str):
        raise Unusable(f"{what} is no text ({type(value).__name__})")
    if "\x00" in value:
        raise Unusable(f"{what} holds a zero byte")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable(f"{what} is not valid Unicode (a lone surrogate)") from None
    text = value.strip()
    if not text:
        raise Unusable(f"{what} is empty")
    return text


def _decimal_text(value: Decimal, what: str) -> str:
    if not value.is_finite():
        raise Unusable(f"{what} is {'NaN' if value.is_nan() else 'infinite'}")
    return str(int(value)) if value == value.to_integral_value() else format(value, "f")


def value_of(row: Mapping[str, Any], name: str) -> Any:
    """What a row holds under a column, or under a dotted path into one (reward_model.ground_truth); None where it does not."""
    if name in row or "." not in name:
        return row.get(name)
    value: Any = row
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def cell(row: Mapping[str, Any], candidate: str, meaning: str) -> str:
    """The text of a column or of a filled template; of a conversation the one turn that is meant. Raises Unusable."""

    def text(name: str) -> str:
        value = turn(value_of(row, name), meaning)
        if meaning == "answer" and isinstance(value, list) and len(value) == 1:
            value = value[0]  # a list of final answers, with one in it
        shown = as_text(value, f"{meaning} ('{name}')")
        if shown.lower() == "nan" and meaning != "answer":
            raise Unusable(f"{meaning} ('{name}') is NaN")
        return shown

    return (
        _TEMPLATE_KEY.sub(lambda key: text(key[1]), candidate).strip()
        if _TEMPLATE_KEY.search(candidate)
        else text(candidate)
    )


def ground_truth(text: str, source: SourceConfig) -> tuple[str, str]:
    r"""The final answer in a field and the way it was found: hashes, boxed or plain. Raises Unusable."""
    mode = source.answer_from
    if mode in ("auto", "hashes") and (found := after_hashes(text)):
        return _GROUPED.sub(lambda m: m[0].replace(",", ""), found) if _GROUPED.fullmatch(
            found
        ) else found, "hashes"
    if mode == "hashes":
        raise Unusable("no '####' with an answer behind it")
    if mode in ("auto", "boxed") and (found := last_boxed(text)):
        return found, "boxed"
    if mode == "boxed" or (mode == "auto" and _BOX.search(text)):
        raise Unusable(r"no \boxed{} with an answer in it, or it is never closed")
    if mode == "auto" and source.answer_kind != "text" and (len(text) > PLAIN_LIMIT or "\n" in text):
        size = "of several lines" if "\n" in text else f"{len(text)} characters"
        raise Unusable(rf"no final answer: no '####', no \boxed{{}}, and too long for a plain one ({size})")
    return text, "plain"


def choices(value: Any) -> tuple[str, ...]:
    """The options of a question: a list, a JSON list as text (CSV), {A: ..., B: ...} or {label: [...], text: [...]}. Raises Unusable."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Unusable("options are no list (as text it must be JSON)") from None
    if isinstance(value, Mapping):
        value = _labelled(value)
    if not isinstance(value, list | tuple) or not 2 <= len(value) <= len(string.ascii_uppercase):
        raise Unusable(f"options are no list of 2 to {len(string.ascii_uppercase)} choices")
    return tuple(
        as_text(option, f"option {letter}")
        for letter, option in zip(string.ascii_uppercase, value, strict=False)
    )


def _labelled(value: Mapping[str, Any]) -> list[Any] | None:
    """The texts of labelled options in the order of their labels, A, B, C and so on or 1, 2, 3; None where they have others."""
    present = _by_label(value)
    labels = _NUMBERS if "1" in present else string.ascii_uppercase
    wanted = list(labels[: len(present)])
    return [present[label] for label in wanted] if sorted(present) == wanted else None


def _by_label(value: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value.get("label"), list) and isinstance(value.get("text"), list):
        value = dict(zip(value["label"], value["text"], strict=False))
    return {str(label).strip(): text for label, text in value.items() if text is not None}


def lettered(question: str, options: Sequence[str]) -> str:
    """The question with its options behind it, 'A. ...' each on a line."""
    lines = (f"{letter}. {option}" for letter, option in zip(string.ascii_uppercase, options, strict=False))
    return question + "\n\n" + "\n".join(lines)


def _letter(raw: Any, answer: str, options: Sequence[str]) -> str:
    letters = string.ascii_uppercase[: len(options)]
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw < len(options):
        return letters[raw]
    bare = answer.strip("()[]. ").upper()
    if len(bare) == 1 and bare in letters:
        return bare
    if list(options).count(answer) == 1:
        return letters[list(options).index(answer)]
    both = _LETTER_AND_TEXT.fullmatch(answer)
    if both and both[1] in letters and options[letters.index(both[1])] == both[2]:
        return both[1]
    raise Unusable(f"the answer {answer[:40]!r} is none of the {len(options)} options")


def to_problem(
    row: Mapping[str, Any], columns: Columns, source: SourceConfig, *, idx: int, label: str
) -> Problem:
    """One row as a Problem. Raises Unusable with the reason."""
    question = cell(row, columns.problem, "problem")
    if is_placeholder(question):
        raise Unusable(f"no problem: {question!r}")
    kind: AnswerKind = source.answer_kind
    options: tuple[str, ...] = ()
    field = cell(row, columns.answer, "answer")
    gt, how = ground_truth(field, source)
    gt = source.answer_names.get(gt, gt)
    if not columns.options and is_placeholder(gt, kind):  # an option may be 'None'
        raise Unusable(f"no ground truth: {gt!r}")
    if columns.options:
        given = value_of(row, columns.options)
        options = choices(given)
        raw = value_of(row, columns.answer)
        if isinstance(given, Mapping) and "1" in (labels := sorted(_by_label(given))) and gt in labels:
            raw = labels.index(gt)
        gt = _letter(raw, gt, options)
        question, kind = lettered(question, options), "letter" if kind == "auto" else kind
    solution = ""
    if columns.solution and not (columns.solution == columns.answer and how == "plain"):
        try:
            solution = cell(row, columns.solution, "solution")
        except Unusable:  # a worked solution is welcome, not needed
            solution = ""
        solution = "" if is_placeholder(solution) else solution
    return Problem(
        problem_id=content_id(question),
        problem=question,
        ground_truth=gt,
        idx=idx,
        source=label,
        solution=solution,
        kind=kind,
        options=options,
        metadata={
            name: str(value) for name in columns.metadata if (value := value_of(row, name)) is not None
        },
    )
