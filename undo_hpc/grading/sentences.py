"""Sentences: whether a text is one, where it ends, and which value it states."""

from __future__ import annotations

import re
from functools import lru_cache

from undo_hpc.grading import units
from undo_hpc.grading.names import word_set
from undo_hpc.grading.tokens import is_word

_FRACTION = r"\\[dt]?frac\s*\{\s*-?[\d.]+\s*\}\s*\{\s*[\d.]+\s*\}"
_GROUPED = r"\d{1,3}(?:(?:,\d{3})+|(?:[ \u00a0\u202f]\d{3})+(?!\d))"  # 1,500 and 1 500
NUMBER = re.compile(
    rf"(?<![A-Za-z\d_.])[-−]?[$€£]?\s?(?:{_FRACTION}|\d{{1,2}}:[0-5]\d(?!\d)(?:\s?[AaPp]\.?[Mm]\b\.?)?|(?:{_GROUPED}|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?:\.\d+)?)?|\.\d+)"
    r"(?:\s?\\?%|\s?°)?(?![\d])"
)
_SENTENCE_END = re.compile(r"\.(?=\s|$|\*\*)|。|\n|(?<!\\)!(?=\s|$)|<(?=[|/]|[a-z]{1,10}>)")
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|textbf|mathrm|textrm|operatorname|begin|end)\s*\{[^{}]*\}")
_MATHS_WORDS = word_set(
    "and or over pi sqrt sin cos tan log ln exp inf infinity square cubic units unit percent degrees per if for otherwise"
)
_TWO_SENTENCES = re.compile(r"[a-z\d)][.?]\s+[A-Z][a-z]+\b")
_OTHER_SCRIPT = re.compile(r"[\u0400-\u052f\u0590-\u1fff\u2e80-\uffff]")
_VERBS = (
    r"(?:pay|cost|spend|earn|make|save|owe|charge|receive|raise|lose|collect|get|need|take|buy|sell|eat|read|win|walk|run|drive|use|weigh|"
    r"have|equal|give|total)s?|paid|spent|made|lost|got|took|bought|sold|ate|won|ran|drove|has|had|is|are|was|were|be|at|of|as|obtain"
)
_SAYS = re.compile(
    rf"(?:\b(?:{_VERBS})\b:?(?:\s+(?:a total of|about|at|only|to))?|=|≈|:)\s*(?=[-−+$€£\d(\[{{\\√π.])",
    re.IGNORECASE,
)
_TOTAL = re.compile(r"(?:\s+[A-Za-z]+){0,2}\s+(?:in total|in all|altogether)\b", re.IGNORECASE)
_SEVERAL = re.compile(  # `are x = 2 and x = 3`, `are 2 and 3`
    r"\b[A-Za-z]\s*=\s*[^\s,=]+(?:(?:\s*,|\s+and|\s+or)+\s*[A-Za-z]\s*=\s*[^\s,=.]+)+$"
    r"|(?<=\bare )-?\d+(?:\.\d+)?(?:(?:\s*,|\s+and|\s+or)+\s*-?\d+(?:\.\d+)?)+$"
)
_SUBJECT = re.compile(
    r"\d[\d,.]*\s+[a-z]{3,}(?:\s+[a-z]{2,}){2}"
)  # `8 boats crossed the river in 20 minutes`
# What explains an answer rather than gives it: `the minimum is 3, attained when x = 1`, `7 apples are left, out of 10`.
ASIDE = re.compile(
    r"\s*[,(;]\s*(?:(?:which|that)\s+is\s+)?(?:attained|achieved|reached|obtained|occurring|when|where|out of|compared|down from|up from|"
    r"not|instead|rather than)\b|\s*[,(;]?\s*\b(?:because|since|as there|as we|as it|out of the original)\b|[,，]?\s*(?:而不是|而非)"
)


def sentence_end(text: str) -> int:
    """Where the first sentence ends; empty lines before it do not count."""
    match = _SENTENCE_END.search(text)
    while match and match.group() == "\n" and not text[: match.start()].strip():
        match = _SENTENCE_END.search(text, match.end())
    return match.start() if match else len(text)


def is_prose(text: str) -> bool:
    """Whether this is a sentence rather than an answer: three English words that are no products of letters, names or units."""
    bare = _TEXT_COMMAND.sub(" ", text[:1000])
    found = [w for w in WORD.findall(bare) if not _of_maths(w)][:40]
    count = sum(map(_english, found))
    count = len(found) if any(len(w) > 3 for w in found) and count else count
    other = len(_OTHER_SCRIPT.findall(bare))
    return (
        count >= 3
        or (count >= 1 and bool(_TWO_SENTENCES.search(bare)))
        or other > 3
        or (count >= 1 and len(text) > 400)
    )


@lru_cache(maxsize=65536)
def _of_maths(word: str) -> bool:
    return word.lower() in _MATHS_WORDS or units.known(word)


@lru_cache(maxsize=65536)
def _english(word: str) -> bool:
    return is_word(word, word.lower(), word, len(word), ("", "", False), True)


def stated(phrase: str, first: bool = False) -> str | None:
    """The value that a sentence states: behind its last verb or equals sign, if that is mathematics, else a number."""
    phrase = phrase.rstrip(" .*")
    aside = ASIDE.search(phrase)
    if aside and NUMBER.search(phrase, 0, aside.start()):
        phrase = phrase[: aside.start()]
    numbers = list(NUMBER.finditer(phrase))
    for number in reversed(numbers):
        if _TOTAL.match(phrase, number.end()):
            return number.group().strip()
    says = list(_SAYS.finditer(phrase))
    says = [m for m in says if m[0][0] != ":" or not (numbers and numbers[0].start() < m.start())]
    says = [m for m in says if m[0][0] in "=≈"] or says
    if several := _SEVERAL.search(phrase):
        return several.group().strip()
    if says:
        rest = phrase[says[-1].end() :].strip(" .*")
        value = NUMBER.match(phrase, says[-1].end())
        unit = re.match(r"\s+([A-Za-z]+)", phrase[value.end() :]) if value else None
        if value and unit and not (units.known(unit[1]) and unit[1] != "in"):
            return value.group().strip()
        words = [
            w
            for w in WORD.findall(rest)
            if w.lower() not in _MATHS_WORDS and len(w) > 2 and not units.known(w)
        ]
        if rest and len(rest) < 80 and not words and not _OTHER_SCRIPT.search(rest):
            return rest
        if value:
            return value.group().strip()
    if not numbers:
        return None
    return (numbers[0] if (first and not says) or _SUBJECT.match(phrase) else numbers[-1]).group().strip()


def in_words(text: str) -> str | None:
    """The words that a sentence answers with: a leading yes or no, or what stands behind its last 'is'."""
    leading = re.match(r"(yes|no|true|false)\b\s*[,.!]", text, re.IGNORECASE)
    if leading:
        return leading[1]
    last = [piece for piece in re.split(r"(?<=[.!?])\s+|\n", text) if piece.strip()][-1]
    says = list(re.finditer(r"\b(?:is|are|was|were|be|on|has|have)\s+(?:an?\s+|the\s+)?", last))
    rest = last[says[-1].end() :].strip(" .!*") if says else ""
    return rest if rest and len(rest.split()) <= 4 else None
