r"""Sets of real numbers: intervals, unions, differences, inequalities, `x \in S`, each brought to one list of pieces."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare, OutOfBounds
from undo_hpc.grading.deciders.relation import FLIPPED, split_relation
from undo_hpc.grading.evaluate import TooLarge, Undefined, exact, numeric
from undo_hpc.grading.scan import encloses, split_top
from undo_hpc.grading.syntax import Node, parse, symbols

_MARK = re.compile(
    r"\\(?:cup|cap|setminus|infty|in|mathbb|emptyset|le|ge|ne|backslash)(?![a-zA-Z])|[<>]|\binf(?:ty|inity)?\b|\boo\b"
)
_HALF_OPEN = re.compile(r"\[[^\[\]()]*\)|\([^\[\]()]*\]")
_INEQUALITY = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-zA-Z])")
_MAX_PIECES = 100


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of real numbers; an end is None for infinity."""

    low: Any
    low_in: bool
    high: Any
    high_in: bool


_HALF_LINE = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?\s*[_^]\s*\{?\s*(?:([+-])|([<>]|\\[gl]e)\s*0)\s*\}?")
_POSITIVE, _NEGATIVE = Piece(Fraction(0), False, None, False), Piece(None, False, Fraction(0), False)
_HALF_LINES = {
    "+": _POSITIVE,
    ">": _POSITIVE,
    "-": _NEGATIVE,
    "<": _NEGATIVE,
    r"\ge": Piece(Fraction(0), True, None, False),
    r"\le": Piece(None, False, Fraction(0), True),
}


class NoSet(ValueError):
    """The text does not describe a set of reals that this file can read."""


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Equal as sets of real numbers, where one of the two is plainly such a set and both can be read."""
    a, b = gold.clean, pred.clean
    if not (_MARK.search(a) or _MARK.search(b) or _HALF_OPEN.fullmatch(a) or _HALF_OPEN.fullmatch(b)):
        return None
    names: set[str] = set()
    try:
        left = read(a, names)
        right = read(b, names)
    except NoSet:
        return None
    except TooLarge as error:
        raise OutOfBounds(str(error)) from error
    if len(names) > 1:
        return None
    return same(left, right)


def same(a: list[Piece], b: list[Piece]) -> bool:
    """Whether two lists of pieces in normal order are one set."""
    return len(a) == len(b) and all(
        x.low_in == y.low_in
        and x.high_in == y.high_in
        and _same_end(x.low, y.low)
        and _same_end(x.high, y.high)
        for x, y in zip(a, b, strict=True)
    )


def _same_end(x: Any, y: Any) -> bool:
    if x is None or y is None:
        return x is y
    return _equal(x, y)


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x == y
    import mpmath

    with mpmath.workdps(50):
        x, y = (mpmath.mpf(v.numerator) / v.denominator if isinstance(v, Fraction) else v for v in (x, y))
        return bool(abs(x - y) <= mpmath.mpf(10) ** -40 * max(1, abs(x), abs(y)))


def _less(x: Any, y: Any) -> bool:
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x < y
    import mpmath

    with mpmath.workdps(50):
        x, y = (mpmath.mpf(v.numerator) / v.denominator if isinstance(v, Fraction) else v for v in (x, y))
        return bool(x < y) and not _equal(x, y)


def read(text: str, names: set[str]) -> list[Piece]:
    """The set in normal order. Adds the variables met to `names`. Raises NoSet."""
    if len(text) > 1000:
        raise NoSet("long")
    return _union(text.strip(), names, 0)


def _split_top_on(text: str, pattern: str) -> list[str]:
    """Splits at a pattern outside of brackets; brackets of intervals need not match in kind."""
    depth, parts, last = 0, [], 0
    for match in re.finditer(rf"(?P<sep>{pattern})|\\[{{}}]|[(\[{{]|[)\]}}]", text):
        piece = match.group()
        if match["sep"]:
            if depth == 0:
                parts.append(text[last : match.start()].strip())
                last = match.end()
        elif piece[-1] in "([{":
            depth += 1
        else:
            depth -= 1
    parts.append(text[last:].strip())
    return parts


def _union(text: str, names: set[str], depth: int) -> list[Piece]:
    if depth > 8:
        raise NoSet("deep")
    parts = _split_top_on(text, ",") if "," in text else [text]
    if len(parts) > 1 and all(
        _INEQUALITY.search(part) for part in parts
    ):  # `x > 1, x < 2` means both, `x < 1, x > 2` either
        sets = [_union(part, names, depth + 1) for part in parts]
        both = sets[0]
        for other in sets[1:]:
            both = _intersection(both, other)
        return both or _normal([piece for found in sets for piece in found])
    parts = _split_top_on(
        text,
        r"\\cup(?![a-zA-Z])|\u27e6\s*or\s*\u27e7|(?<![A-Za-z])or(?![A-Za-z])|(?<=[\])])\s*U\s*(?=[\[(])|\\(?:vee|lor)(?![a-zA-Z])",
    )
    if len(parts) > 1:
        return _normal([piece for part in parts for piece in _union(part, names, depth + 1)])
    parts = _split_top_on(text, r"\\setminus(?![a-zA-Z])|(?<=[\])}R])\s*-\s*(?=\\\{)")
    if len(parts) > 1:
        found = _union(parts[0], names, depth + 1)
        for part in parts[1:]:
            found = _intersection(found, _complement(_union(part, names, depth + 1)))
        return found
    parts = _split_top_on(
        text, r"\\cap(?![a-zA-Z])|\u27e6\s*and\s*\u27e7|(?<![A-Za-z])and(?![A-Za-z])|\\wedge(?![a-zA-Z])"
    )
    if len(parts) > 1:
        found = _union(parts[0], names, depth + 1)
        for part in parts[1:]:
            found = _intersection(found, _union(part, names, depth + 1))
        return found
    return _primary(text, names, depth)


def _primary(text: str, names: set[str], depth: int) -> list[Piece]:
    if text.startswith("\\{") and text.endswith("\\}"):
        inside = text[2:-2].strip()
        builder = re.match(r"([A-Za-z])\s*(?:\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*)?[|:]\s*(.+)", inside)
        if builder:
            return _union(builder[2], names, depth + 1)
        return _normal([_point(part, names) for part in split_top(inside, ",;") if part.strip()])
    if re.fullmatch(r"\\emptyset", text):
        return []
    if half_line := _HALF_LINE.fullmatch(text):
        return [_HALF_LINES[half_line[1] or half_line[2]]]
    if re.fullmatch(r"\\mathbb\s*\{?\s*R\s*\}?|R|\u27e6?(?:all )?real(?: number)?s?\u27e7?", text):
        return [Piece(None, False, None, False)]
    if text[:1] in ("(", "[") and text[-1:] in (")", "]"):
        ends = split_top(text[1:-1], ",;")
        if len(ends) == 2:
            return _interval(text[0] == "[", ends[0], ends[1], text[-1] == "]", names)
        if encloses(text):
            return _union(text[1:-1].strip(), names, depth + 1)
    if text[:1] == "{" and encloses(text) and ("," in text or depth > 0):
        return _normal([_point(part, names) for part in split_top(text[1:-1], ",;") if part.strip()])
    member = re.match(r"\s*([A-Za-z](?:_\{?\w\}?)?|f\([a-z]\))\s*\\in(?![a-zA-Z])\s*(.+)", text, re.DOTALL)
    if member:
        names.add(member[1])
        return _union(member[2].strip(), names, depth + 1)
    sides, signs = split_relation(text)
    if signs:
        return _chain(sides, signs, names)
    raise NoSet(text)


def _constant(text: str, names: set[str]) -> Any:
    node = parse(text.strip())
    if node is None or symbols(node):
        raise NoSet(text)
    return _value(node)


def _value(node: Node) -> Any:
    try:
        return exact(node, {})
    except Undefined:
        pass
    import mpmath

    with mpmath.workdps(50):
        try:
            value = numeric(node, {}, mpmath.mp)
        except (Undefined, ZeroDivisionError) as error:
            raise NoSet("no value") from error
        if abs(value.imag) > 1e-40:
            raise NoSet("not real")
        return value.real


def _end(text: str, names: set[str]) -> Any:
    if re.fullmatch(r"\s*[+-]?\s*(?:\\infty|inf(?:ty|inity)?|oo)\s*", text):
        return None
    return _constant(text, names)


def _interval(low_in: bool, low: str, high: str, high_in: bool, names: set[str]) -> list[Piece]:
    left, right = _end(low, names), _end(high, names)
    if (left is None and "-" not in low) or (right is None and "-" in high):
        raise NoSet("reversed infinity")
    if left is not None and right is not None:
        if _less(right, left):
            raise NoSet("reversed")
        if _equal(left, right) and not (low_in and high_in):
            return []
    return [Piece(left, low_in and left is not None, right, high_in and right is not None)]


def _point(text: str, names: set[str]) -> Piece:
    value = _constant(text, names)
    return Piece(value, True, value, True)


def _chain(sides: list[str], signs: list[str], names: set[str]) -> list[Piece]:
    found = [Piece(None, False, None, False)]
    for i, sign in enumerate(signs):
        found = _intersection(found, _inequality(sides[i], sign, sides[i + 1], names))
    return found


def _inequality(left: str, sign: str, right: str, names: set[str]) -> list[Piece]:
    """The solutions of a linear relation in one variable, or in its absolute value."""
    infinite = re.compile(r"[+-]?\s*\\infty")
    if infinite.fullmatch(left) or infinite.fullmatch(right):
        return [Piece(None, False, None, False)]
    a, b = parse(left), parse(right)
    if a is None or b is None or sign not in FLIPPED:
        raise NoSet("relation")
    if b[:2] == ("fn", "abs"):
        a, sign, b = b, FLIPPED[sign], a
    if a[:2] == ("fn", "abs") and not symbols(b):
        return _absolute(a[2][0], sign, b, names)
    return _solved(a, sign, b, names)


def _absolute(inside: Node, sign: str, bound: Node, names: set[str]) -> list[Piece]:
    """The solutions of `|inside| < bound`, where `inside` is linear."""
    above, below = _solved(inside, sign, bound, names), _solved(inside, FLIPPED[sign], ("neg", bound), names)
    if sign in ("<", "\\le", "\\ne"):
        return _intersection(above, below)
    if sign == "=" and _less(_value(bound), Fraction(0)):
        return []
    return _normal([*above, *below])


def _solved(a: Node, sign: str, b: Node, names: set[str]) -> list[Piece]:
    """The solutions of `a < b`, where the difference is linear in one variable."""
    difference: Node = ("add", a, ("neg", b))
    variables = symbols(difference)
    if len(variables) != 1:
        raise NoSet("variables")
    name = variables.pop()
    names.add(name)
    zero, slope = _linear(difference, name)
    if sign in ("=", "\\ne"):
        point = [Piece(zero, True, zero, True)]
        return point if sign == "=" else _complement(point)
    upward = (sign in (">", "\\ge")) == (slope > 0)
    closed = sign in ("\\le", "\\ge")
    return [Piece(zero, closed, None, False)] if upward else [Piece(None, False, zero, closed)]


def _linear(node: Node, name: str) -> tuple[Any, Any]:
    """Zero and slope of a linear function, checked at a fourth point."""
    try:
        values = [exact(node, {name: Fraction(x)}) for x in (0, 1, 5, -11)]
    except Undefined:
        import mpmath

        with mpmath.workdps(50):
            try:
                values = [numeric(node, {name: mpmath.mpf(x)}, mpmath.mp) for x in (0, 1, 5, -11)]
            except (Undefined, ZeroDivisionError) as error:
                raise NoSet("no value") from error
            if any(abs(mpmath.im(v)) > 0 for v in values):
                raise NoSet("not real") from None
            slope = values[1] - values[0]
            if abs(slope) < 1e-40 or any(
                abs(values[i] - values[0] - slope * x) > 1e-35 for i, x in ((2, 5), (3, -11))
            ):
                raise NoSet("not linear") from None
            return -values[0] / slope, slope
    slope = values[1] - values[0]
    if slope == 0 or values[2] - values[0] != 5 * slope or values[3] - values[0] != -11 * slope:
        raise NoSet("not linear")
    return -values[0] / slope, slope


def _normal(pieces: list[Piece]) -> list[Piece]:
    """Sorted, with touching pieces joined."""
    if len(pieces) > _MAX_PIECES:
        raise NoSet("many pieces")
    out: list[Piece] = []
    for piece in _sorted(pieces):
        if out and _touches(out[-1], piece):
            out[-1] = _joined(out[-1], piece)
        else:
            out.append(piece)
    return out


def _sorted(pieces: list[Piece]) -> list[Piece]:
    from functools import cmp_to_key

    def order(x: Piece, y: Piece) -> int:
        if x.low is None or y.low is None:
            return (x.low is not None) - (y.low is not None)
        if _equal(x.low, y.low):
            return y.low_in - x.low_in
        return -1 if _less(x.low, y.low) else 1

    return sorted(pieces, key=cmp_to_key(order))


def _touches(a: Piece, b: Piece) -> bool:
    if a.high is None or b.low is None:
        return True
    return _less(b.low, a.high) or (_equal(a.high, b.low) and (a.high_in or b.low_in))


def _joined(a: Piece, b: Piece) -> Piece:
    if a.high is None or b.high is None:
        return Piece(a.low, a.low_in, None, False)
    if _equal(a.high, b.high):
        return Piece(a.low, a.low_in, a.high, a.high_in or b.high_in)
    return Piece(a.low, a.low_in, *((b.high, b.high_in) if _less(a.high, b.high) else (a.high, a.high_in)))


def _complement(pieces: list[Piece]) -> list[Piece]:
    out: list[Piece] = []
    low, low_in, open_start = None, False, True
    for piece in _normal(pieces):
        if piece.low is not None:
            out.append(Piece(low, low_in, piece.low, not piece.low_in))
        elif not open_start:
            raise NoSet("order")
        if piece.high is None:
            return [p for p in out if not _empty(p)]
        low, low_in, open_start = piece.high, not piece.high_in, False
    out.append(Piece(low, low_in, None, False))
    return [p for p in out if not _empty(p)]


def _empty(piece: Piece) -> bool:
    if piece.low is None or piece.high is None:
        return False
    return _less(piece.high, piece.low) or (
        _equal(piece.low, piece.high) and not (piece.low_in and piece.high_in)
    )


def _intersection(a: list[Piece], b: list[Piece]) -> list[Piece]:
    out = []
    for x in a:
        for y in b:
            low, low_in = _tighter(x.low, x.low_in, y.low, y.low_in, True)
            high, high_in = _tighter(x.high, x.high_in, y.high, y.high_in, False)
            piece = Piece(low, low_in, high, high_in)
            if not _empty(piece):
                out.append(piece)
    return _normal(out)


def _tighter(x: Any, x_in: bool, y: Any, y_in: bool, lower: bool) -> tuple[Any, bool]:
    if x is None:
        return y, y_in
    if y is None:
        return x, x_in
    if _equal(x, y):
        return x, x_in and y_in
    return (x, x_in) if _less(y, x) == lower else (y, y_in)
