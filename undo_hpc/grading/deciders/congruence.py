"""Residues: x \\equiv 3 \\pmod 7 against 3 \\pmod{7} or 10 \\pmod 7."""

from __future__ import annotations

import re
from dataclasses import dataclass

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare
from undo_hpc.grading.scan import split_top

_CONGRUENCE = re.compile(
    r"(?:(?P<left>[^=]{1,40}?)\s*(?:\\equiv|=)\s*)?(?P<residues>[-\d\s,;{}\\]+?|[-\d\s,;]+(?:\u27e6?(?:and|or)\u27e7?[-\d\s,;]+)?)"
    r"\s*(?:\\pmod|\(\s*(?:\\mod|\u27e6mod\u27e7|mod)|\\mod|\u27e6mod\u27e7)\s*\{?\s*(?P<modulus>\d{1,30})\s*\}?\s*\)?"
)


@dataclass(frozen=True, slots=True)
class Congruence:
    """Residues modulo a number, and what is congruent to them ('' where that is not said)."""

    left: str
    residues: frozenset[int]
    modulus: int
    written: frozenset[int]


def read(text: str) -> Congruence | None:
    """The congruence that the whole text is. A plain remainder such as `17 \\bmod 5` is none."""
    match = _CONGRUENCE.fullmatch(text)
    if (
        not match
        or ("equiv" not in text and "pmod" not in text and "(" not in text)
        or int(match["modulus"]) < 1
    ):
        return None
    pieces = split_top(re.sub(r"\u27e6?(?:and|or)\u27e7?", ",", match["residues"]), ",;")
    numbers = [piece.strip() for piece in pieces if piece.strip()]
    if not numbers or not all(re.fullmatch(r"-?\d{1,30}", number) for number in numbers):
        return None
    modulus = int(match["modulus"])
    return Congruence(
        re.sub(r"[\s{}]", "", match["left"] or ""),
        frozenset(int(n) % modulus for n in numbers),
        modulus,
        frozenset(map(int, numbers)),
    )


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Equal where modulus and residues are, and no name contradicts; a bare number counts as the residue as it is written."""
    if "mod" not in gold.clean and "mod" not in pred.clean:
        return None
    a, b = read(gold.clean), read(pred.clean)
    if a is None:
        return (
            True
            if b is not None and gold.quantity is not None and b.written == {gold.quantity.value}
            else None
        )
    if b is not None:
        return (
            a.modulus == b.modulus
            and a.residues == b.residues
            and (a.left == b.left or not a.left or not b.left)
        )
    bare = pred.quantity
    return (
        bare is not None and not bare.unit and a.residues == {bare.value} if "mod" not in pred.clean else None
    )
