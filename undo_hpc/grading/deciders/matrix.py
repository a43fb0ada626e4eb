"""Matrices and column vectors: entry by entry, whatever the brackets; piecewise functions: row by row."""

from __future__ import annotations

import re

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare
from undo_hpc.grading.deciders.relation import is_label
from undo_hpc.grading.syntax import parse

_MATRIX = re.compile(
    r"(?P<factor>(?:(?!\\begin|[=&]).)*?)(?:\\(?:cdot|times)\s*)?[(\[|]?\s*\\begin\s*\{(?P<env>[pbvBV]?matrix|smallmatrix|array)\}\s*(?:\{[clr|\s]*\})?(?P<body>.*?)\\end\s*\{(?P=env)\}\s*[)\]|]?",
    re.DOTALL,
)
_CASES = re.compile(
    r"(?P<label>[^=]{0,40}=)?\s*"
    r"(?:\\\{)?\s*\\begin\s*\{(?P<env>cases|array|dcases)\}\s*(?:\{[clr|\s]*\})?(?P<body>.*)\\end\s*\{(?P=env)\}",
    re.DOTALL,
)
_IF = re.compile(
    r"\u27e6\s*,?\s*(?:if|for|when|where)\s*\u27e7|(?<![A-Za-z])(?:if|for|when|where)(?![A-Za-z])|\u27e6\s*,?\s*(?:if|for|when|where)\b"
)
_OTHERWISE = re.compile(r"\u27e6?\s*(?:otherwise|else)\s*\u27e7?", re.IGNORECASE)


def _rows(body: str) -> list[list[str]]:
    rows = [
        [cell.strip() for cell in row.split("&")]
        for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr\b", body.replace("\\hline", ""))
    ]
    return [row for row in rows if any(row)]


def _scaled(factor: str, environment: str, rows: list[list[str]]) -> list[list[str]] | None:
    """The rows with a scalar in front of the matrix multiplied in; None where what stands there is no scalar."""
    if not factor:
        return rows
    factor = f"{factor}1" if factor in ("+", "-") else factor
    if parse(factor) is None or environment.lower() == "vmatrix":  # a multiple of a determinant is a number
        return None
    return [[f"({factor})({cell})" for cell in row] for row in rows]


def read(text: str) -> list[list[str]] | None:
    """The rows of a matrix, or None."""
    match = _MATRIX.fullmatch(text.strip())
    if match:
        return _scaled(match["factor"].strip(), match["env"], _rows(match["body"]))
    plain = re.fullmatch(r"\[\s*(\[.*\])\s*\]", text.strip(), re.DOTALL)
    if plain:
        rows = re.findall(r"\[([^\[\]]*)\]", plain[1])
        return [[cell.strip() for cell in row.split(",")] for row in rows]
    return None


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Both are matrices of one shape: entry by entry. Both are piecewise functions: piece by piece, with their conditions."""
    if "\\begin" not in gold.clean and "\\begin" not in pred.clean:
        return None
    cases = _CASES.fullmatch(gold.clean), _CASES.fullmatch(pred.clean)
    if cases[0] and cases[1] and (cases[0]["env"] != "array" or cases[0]["label"]):
        return _piecewise(cases[0], cases[1], compare)
    a, b = _unlabelled(gold.clean), _unlabelled(pred.clean)
    if ("{vmatrix" in a) != ("{vmatrix" in b):
        return None  # a determinant is a number
    left, right = read(a), read(b)
    if left is None and right is None:
        return None
    if left is None or right is None:
        return (
            _against_tuple(left, b, compare)
            if left is not None
            else (None if right is None else _against_tuple(right, a, compare))
        )
    if [len(row) for row in left] != [len(row) for row in right]:
        return False
    return all(compare(x, y) for r, s in zip(left, right, strict=True) for x, y in zip(r, s, strict=True))


def _unlabelled(text: str) -> str:
    label, equals, rest = text.partition("=")
    return rest.strip() if equals and "\\begin" not in label and is_label(label.strip()) else text


def _against_tuple(matrix: list[list[str]], other: str, compare: Compare) -> bool | None:
    """A column or row vector against `(1, 2, 3)`."""
    if "\\begin" in other:
        return None  # a sum of matrices, for example
    flat = [cell for row in matrix for cell in row]
    match = re.fullmatch(r"[(\[]([^()\[\]]*)[)\]]|\\langle(.*)\\rangle", other.strip())
    if not match or (len(matrix) > 1 and len(matrix[0]) > 1):
        return False
    cells = [cell.strip() for cell in (match[1] or match[2]).split(",")]
    return (
        len(cells) == len(flat)
        and len(cells) > 1
        and all(compare(x, y) for x, y in zip(flat, cells, strict=True))
    )


def _piecewise(gold: re.Match[str], pred: re.Match[str], compare: Compare) -> bool:
    left, right = _pieces(gold["body"]), _pieces(pred["body"])
    if len(left) != len(right):
        return False
    return all(any(_same_piece(x, y, compare) for y in right) for x in left)


def _pieces(body: str) -> list[tuple[str, str]]:
    out = []
    for row in _rows(body):
        text = (
            _IF.sub(" ", " & ".join(cell for cell in row if cell)).replace("\u27e7", "").replace("\u27e6", "")
        )
        value, _, condition = text.partition("&")
        if not condition and "," in value:
            value, _, condition = value.rpartition(",")
        out.append((value.strip(" ,.;"), condition.replace("&", " ").strip(" ,.;")))
    return out


def _same_piece(x: tuple[str, str], y: tuple[str, str], compare: Compare) -> bool:
    if not compare(x[0], y[0]):
        return False
    if _OTHERWISE.fullmatch(x[1]) or _OTHERWISE.fullmatch(y[1]):
        return bool(_OTHERWISE.fullmatch(x[1])) and bool(_OTHERWISE.fullmatch(y[1]))
    return compare(x[1], y[1])
