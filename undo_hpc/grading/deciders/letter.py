"""Multiple choice: C, (C), C: text, or the text of the option."""

from __future__ import annotations

import re

from undo_hpc.grading.latex import clean, words
from undo_hpc.grading.lookalikes import unify

_FORM = re.compile(
    r"[\s({\[\u27e6*]*(?:"
    r"(?:option|choice|answer)\s*)?[({\[]?\s*([A-Za-z])\s*[)}\]\u27e7*\s]*(?:[).:,\-\u27e7]|$)\s*(.*)",
    re.DOTALL | re.IGNORECASE,
)
# What stands behind a letter where a second one follows: `B, C`, `(B) and (C)`.
ANOTHER_LETTER = r"[)}\]\u27e7*\s]{0,6}(?:[,;&]|and|or|\u27e6|\s){1,8}[(\u27e6*\s]{0,6}[A-Z][)}\]\u27e7*\s.]{0,6}(?:[,;&\n]|and\b|or\b|$)"
_ANOTHER = re.compile(ANOTHER_LETTER)
_LEADING = re.compile(r"[\s(\u27e6]*([A-Z])\s*[)\u27e7]*\s*(?:[).:\n,-]\s*|\s+)(.*)", re.DOTALL)
_SIGNS = re.compile(r"[=<>^*/\\]|\d\s*-")
_PARENTHESES = re.compile(r"\(\s*([A-Za-z])\s*\)")


def letter_of(text: str, limit: int = 20) -> str | None:
    """The letter that an answer gives: `C`, `(c)`, `\\text{(C)}\\ 12`, `C: because`; None where it is no such thing."""
    cleaned = clean(unify(text[:2000])).strip(" .")
    if not cleaned:
        return None
    single = re.sub(r"[\s(){}\[\]\u27e6\u27e7.:*]", "", cleaned)
    if len(single) == 1 and single.isalpha() and single.isascii():
        letter = single.upper()
    else:
        match = _PARENTHESES.match(cleaned.lstrip("\u27e6 ")) or _FORM.fullmatch(cleaned)
        if not match or not match[1].isascii():
            return None
        rest = cleaned[match.end(1) :].lstrip(")}]\u27e7* ")
        if match.re is _FORM and not match[1].isupper():
            return None
        if _ANOTHER.match(cleaned, match.end(1)):
            return None
        if rest[:1] and rest[0] in "*/+=^_<>!'":
            return None
        letter = match[1].upper()
    return letter if ord(letter) - 65 < limit else None


def gold_letter(gold: str, count: int) -> str | None:
    """The letter of the gold answer: `C`, `(C)`, `C Cecile`, or the last line that begins with `(C)`."""
    found = letter_of(gold)
    if found:
        return found
    text = clean(unify(gold[:2000]))
    lines = [line for line in gold[:2000].splitlines() if re.match(r"\s*\([A-Z]\)\s", line)]
    if lines:
        return lines[-1].strip()[1]
    match = _LEADING.fullmatch(text)
    return match[1] if match and re.match(r"[A-Za-z]", match[2]) else None


def choice_of(text: str, choices: tuple[str, ...]) -> str | None:
    """The letter of the one option whose text this is, or None."""
    cleaned = clean(unify(text[:2000]))
    wanted = words(cleaned), re.sub(r"\s", "", cleaned)
    if not wanted[1] or re.fullmatch(r"\(?[A-Z]\)?\.?", wanted[1]):
        return None  # a letter is the option's letter before it is an option's text
    options = [clean(unify(choice)) for choice in choices]
    exact = [i for i, option in enumerate(options) if re.sub(r"\s", "", option) == wanted[1]]
    loose = [i for i, option in enumerate(options) if wanted[0] and words(option) == wanted[0]]
    for hits in (exact, [] if _SIGNS.search(cleaned) else loose):
        if len(hits) == 1:
            return chr(65 + hits[0])
    return None
