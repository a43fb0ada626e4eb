"""Characters that look alike, brought to one form: Unicode NFKC, and a table of what NFKC leaves or destroys.

The result uses ASCII and LaTeX commands only, as far as mathematics goes. Words of other scripts stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from undo_hpc.grading import tables

_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣʸ", "0123456789+-=()nixy")
_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₖₓ", "0123456789+-=()nkx")
_SUPER_RUN, _SUB_RUN = (re.compile("[" + "".join(map(chr, table)) + "]+") for table in (_SUPER, _SUB))
_VULGAR = re.compile(r"(\d?)\s?([¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[A-Za-zπ])?")
_ROOT_NAMES = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_INVISIBLE = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff\u2611\u2705\u274c\u274e\u2713\u2714"
    "\U0001f000-\U0001faff]"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff]")
# "\frac" whose backslash was eaten by a careless string literal: a control character and the rest of the command.
_EATEN = re.compile("\\\\?([\x0c\x08\t\r\x0b\x07])(rac|oxed|egin|inom|ext|imes|heta|frac|ight|ho|ec)(?![a-z])")  # fmt: skip
_EATEN_LETTER = {"\x0c": "f", "\x08": "b", "\t": "t", "\r": "r", "\x0b": "v", "\x07": "a"}
_TABLE = {ord(sign): f"\\{name} " for sign, name in tables.pairs("signs").items()}
_TABLE |= {ord(sign): plain for sign, plain in tables.pairs("plain signs").items()}


def _vulgar(match: re.Match[str]) -> str:
    value = Fraction(unicodedata.numeric(match[2])).limit_denominator(10)
    return rf"{match[1]}\frac{{{value.numerator}}}{{{value.denominator}}}"


def unify(text: str) -> str:
    """The text with look-alikes unified; control, invisible and private characters are dropped."""
    if not text.isprintable():
        text = _CONTROL.sub("", _EATEN.sub(lambda m: "\\" + _EATEN_LETTER[m[1]] + m[2], text))
    if text.isascii():
        return text
    text = _SUPER_RUN.sub(lambda m: "^{" + m[0].translate(_SUPER) + "}", _INVISIBLE.sub("", text))
    text = _SUB_RUN.sub(lambda m: "_{" + m[0].translate(_SUB) + "}", text)
    text = _ROOT.sub(
        lambda m: _ROOT_NAMES[m[1]] + (f"{{{m[2]}}}" if m[2] else ""), _VULGAR.sub(_vulgar, text)
    )
    text = unicodedata.normalize("NFKC", text.translate(_TABLE)).translate(_TABLE)
    others = {c for c in text if not c.isascii() and unicodedata.category(c) == "Nd"}
    return text.translate({ord(c): str(unicodedata.digit(c)) for c in sorted(others)})
