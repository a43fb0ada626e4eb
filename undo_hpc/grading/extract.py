r"""Finding the answer in a text, in linear time and without looking at the gold answer's value.

In this order: a box, a tag, JSON, `####` or "answer is" (each behind the last box), the last sentence that concludes, the last
mathematics, the last number. Ground truths: `extract_gold`, `after_hashes`, `last_boxed`.
"""

from __future__ import annotations

import json
import re
from collections import deque
from functools import lru_cache
from typing import Literal, NamedTuple

from undo_hpc.grading import tables, units
from undo_hpc.grading.reasoning import find_boxes, last_answer, visible
from undo_hpc.grading.tables import word_set
from undo_hpc.grading.tokens import is_word

GoldMode = Literal["auto", "plain", "boxed", "hashes"]
_ELSEWHERE = "|".join(tables.rows("answer")[0])
_ANSWER = r"(?:(?:(?:final|correct|right|best)\s+)?answer|correct\s+(?:option|choice))"
_ANCHOR = re.compile(
    rf"####|{_ANSWER}(?=\s*(?:\$|\\[(\[]))"
    rf"|{_ANSWER}\s*(?:\([^)\n]{{0,20}}\)\s*)?(?:\*\*)?\s*(?:is\b|are\b|(?:would|should|must) be\b|:|=|：)\s*(?:\*\*)?\s*:?"
    r"|(?:^|\n)[ \t]*(?:#{1,6}[ \t]*|\*\*[ \t]*)?(?:final\s+)?answer\s*(?:\*\*)?\s*:?\s*\n"
    r"|(?:^|\n)[ \t]*(?:\*\*)?(?:A|Ans)[ \t]?\.?:(?:\*\*)?"
    rf"|(?:{_ELSEWHERE})\s*(?:\*\*)?\s*(?:est|es|ist|è|é|jest|là|adalah|是|为|は|은|는|هي|هو|:|：)\s*:?",
    re.IGNORECASE,
)
_HINTS = word_set(
    "#### ans option choice odpow jawaban antwo svar respuesta resposta risposta cevap a: a.: a**:"
)
_SPAN = re.compile(
    r"\$\$([^$]{1,1000}?)\$\$|(?<![\\])\$(?!\s)([^$\n]{1,400}?)(?<![\s\\])\$(?!\d)|\$\s([^$\n]{1,400}?)(?<![=+*/-])\s\$(?!\d)"
    r"|\\\((.{1,400}?)\\\)|\\\[(.{1,600}?)\\\]|\\begin\{(?:align|equation|gather|eqnarray)\*?\}(.{1,3000}?)\\end\{(?:align|equation|gather)",
    re.DOTALL,
)
_JOIN = re.compile(r"\s*(?:,?\s*(?:and|or)|,)\s*")
_NOT_BUT = re.compile(r"\s*not\s+(.{1,40}?)\s*[;,.]?\s*(?:but(?:\s+rather)?|it\s+is|it's|rather)\s*:?\s+", re.IGNORECASE)  # fmt: skip
_TAGGED = re.compile(r"<answer>([^<]{1,2000})</answer>", re.IGNORECASE)
_HEDGE = re.compile(
    r"(?:(?:approximately|about|roughly|around|exactly|equal to|simply|just|only|thus|therefore|now|indeed)\s+|(?:≈|~|=>|->|→|=)\s*)+",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(r"(?<![A-Za-z])(?:Therefore|Thus|Hence|So|Consequently|In conclusion|Altogether|In total|Finally)\b,?\s+(?!far\b)")  # fmt: skip
_STEP = re.compile(r"\s(?:so|thus|hence|therefore|giving|which gives)\s+")
NUMBER = re.compile(
    r"(?<![A-Za-z\d_.])[-−]?[$€£]?\s?(?:\\[dt]?frac\s*\{\s*-?[\d.]+\s*\}\s*\{\s*[\d.]+\s*\}"
    r"|\d{1,2}:[0-5]\d(?!\d)(?:\s?[AaPp]\.?[Mm]\b\.?)?"
    r"|(?:\d{1,3}(?:(?:,\d{3})+|(?:[ \u00a0\u202f]\d{3})+(?!\d))|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?:\.\d+)?)?|\.\d+)(?:\s?\\?%|\s?°)?(?![\d])"
)
_SENTENCE_END = re.compile(r"\.(?=\s|$|\*\*)|。|\n|(?<!\\)!(?=\s|$)|<(?=[|/]|[a-z]{1,10}>)")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_COMMAND = re.compile(r"\\(?:text|mbox|textbf|mathrm|textrm|operatorname|begin|end)\s*\{[^{}]*\}")
_CASES = re.compile(r"\bif\b[^\n]{1,200}?\b(?:else|otherwise|\d[^\n]{0,99}? if)\b")
_MATHS_WORDS = word_set("and or over pi sqrt sin cos tan log ln exp inf infinity square cubic units unit percent degrees per if for otherwise")  # fmt: skip
_OTHER_SCRIPT = re.compile(r"[\u0400-\u052f\u0590-\u1fff\u2e80-\uffff]")
_SAYS = re.compile(  # a verb or a sign, and a value behind it
    r"(?:\b(?:(?:pay|cost|spend|earn|make|save|owe|get|need|take|sell|equal|give|total|have|receive|collect|require|use|raise)(?:s|e?d)?|paid|spent|made|lost|got|took|sold|has|had|is|are"
    r"|was|were|be|at|of|as|obtain)\b:?(?:\s+(?:a total of|about|at|only|to))?|=|≈|:)\s*(?=[-−+$€£\d(\[{\\√π.])",
    re.IGNORECASE,
)
# What explains an answer rather than gives it: `the minimum is 3, attained when x = 1`, `7 apples are left, out of 10`.
_ASIDE = re.compile(
    r"\s*[,(;]\s*(?:(?:which|that)\s+is\s+)?(?:attained|achieved|reached|obtained|occurring|when|where|out of|compared|down from|up from|"
    r"not|instead|rather than)\b|\s*[,(;]?\s*\b(?:because|since|as there|as we|as it|out of the original)\b|[,，]?\s*(?:而不是|而非)"
)
_TOTAL = re.compile(r"(?: [A-Za-z]+){0,2} (?:in total|in all|altogether)\b")


class Found(NamedTuple):
    """An extracted answer and where it was found: `box`, `tag`, `json`, `answer is`, `whole`, `last maths`, `last number` ..."""

    text: str
    where: str


# -- ground truths
def last_boxed(text: str) -> str | None:
    r"""The content of the last non-empty `\boxed{}`; neighbours joined by 'and', 'or' or commas come as one list."""
    box = last_answer(text)
    return box.content if box else None


def after_hashes(text: str) -> str | None:
    """What stands on the line after the last `####`, as in GSM8K; None where there is none or nothing follows."""
    at = text.rfind("####")
    for _ in range(50):  # empty ones are skipped
        if at < 0:
            break
        rest = text[at + 4 : at + 2004].lstrip(" \t#:").split("\n", 1)[0].strip()
        if rest:
            return rest
        at = text.rfind("####", 0, at)
    return None


def extract_gold(text: str, mode: GoldMode = "auto") -> str | None:
    r"""The ground truth in a field.

    Args:
        text: the field: a bare answer, or a worked solution that ends in `#### 42`, in a `\boxed{}`, or in `the answer is: 42.`
        mode: where the answer stands; `auto` tries hashes, then a box, then a closing `answer is`, then takes the field as it is.

    Returns:
        The answer without surrounding white space, or None where it is not there or empty.
    """
    for wanted, read in (("hashes", after_hashes), ("boxed", last_boxed)):
        found = read(text) if mode in ("auto", wanted) else None
        if found or mode == wanted:
            return found
    bare = text.strip()
    if mode == "auto" and " " in bare and is_prose(bare):
        if said := anchored(bare[-20_000:], 0, 0):
            return said.text
        tail = bare[-4000:]
        spans = list(_SPAN.finditer(tail))
        if spans and len(_WORD.findall(tail)) > 2 and not tail[spans[-1].end() :].strip(" ."):
            return _joined(tail, spans)
    return bare or None


# -- predictions
def find(text: str, words: int) -> Found | None:
    """The answer in a prediction, or None. `words`: how many words the gold answer has, 0 where it is mathematics."""
    text = visible(text)
    if not text.strip():
        return None
    box = last_answer(text)
    tagged = [m for m in _TAGGED.finditer(text) if m[1].strip()] if "nswer>" in text.lower() else []
    if tagged and (box is None or box.end < tagged[-1].end()) and not find_boxes(tagged[-1][1]):
        return Found(tagged[-1][1].strip(), "tag")
    if box is None and (inside := _in_json(text)):
        return Found(inside, "json")
    if said := anchored(text, box.end if box else 0, words):
        return said
    return Found(box.content, "box") if box else _without_anchor(text, words)


def _in_json(text: str) -> str | None:
    """The answer in a JSON object that the text ends with."""
    end, start = text.rfind("}"), text.rfind("{", 0, text.rfind('answer"') + 1)
    if start < 0 or end < start or text[end + 1 :].strip("` \n") or end - start > 20_000:
        return None
    try:
        row = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return None
    found = next((row[key] for key in ("final_answer", "answer") if key in row), None)
    return str(found) if isinstance(found, (str, int, float)) else None


def anchored(text: str, start: int, words: int) -> Found | None:
    """The payload of the last anchor behind `start` that has one."""
    for match in reversed(anchors(text, start)):
        if payload := _payload(text[match.end() : match.end() + 700], words, start > 0):
            return Found(payload, "hashes" if match[0] == "####" else "answer is")
    return None


def anchors(text: str, start: int) -> list[re.Match[str]]:
    """The last ten anchors behind `start`, among the last 50,000 characters."""
    start = max(start, len(text) - 50_000)
    low = text[start:].lower()
    if low.isascii() and not any(word in low for word in _HINTS):
        return []
    return list(deque(_ANCHOR.finditer(text, start), maxlen=10))


def _payload(rest: str, words: int, strict: bool) -> str | None:
    """The answer behind an anchor; `strict`: there is a box before it, so that only mathematics counts."""
    rest = _NOT_BUT.sub("", rest.lstrip(" \t*:：\n").replace("**", ""), count=1)
    nested = _ANCHOR.search(rest[:300])
    if nested and rest[nested.end() :].strip(" .*\n") and "\n" not in rest[: nested.start()].strip():
        rest = rest[nested.end() :].lstrip(" *:")
    line = rest[: sentence_end(rest)]
    spans = [span for span in _SPAN.finditer(rest, 0, len(line) + 600) if span.start() <= len(line)]
    near = spans and len(_WORD.findall(rest[: spans[0].start()])) <= 12
    if near and (value := _last_maths(rest[: max(len(line), spans[-1].end())])):
        return value
    phrase = line.strip().strip("*_` " if line.strip()[:1] not in "\"'" else "*_`\"' ").rstrip(".")
    if words:
        return None if strict else phrase or None
    phrase = _before_aside(_hedged(phrase))
    if is_prose(phrase):
        whole = None if strict else phrase  # `1 if n is even, otherwise 2` is none of its values
        return whole if _CASES.search(phrase) else stated(phrase, True) or whole
    return phrase if not strict or re.search(r"[\d=+*/^\\<>]|^[A-Za-z]$", phrase) else None


def _hedged(phrase: str) -> str:
    """A phrase without `approximately`, `therefore` and the like before it."""
    return _HEDGE.sub("", phrase, count=1) if _HEDGE.match(phrase) else phrase


def _before_aside(phrase: str) -> str:
    """A phrase without what explains the answer in it."""
    aside = _ASIDE.search(phrase)
    return phrase[: aside.start()] if aside and aside.start() else phrase


def _last_maths(text: str) -> str | None:
    """The last maths span before any aside, with those joined to it; None where a value follows in plain words."""
    spans = list(_SPAN.finditer(text))
    if not spans:
        return None
    aside = _ASIDE.search(text) if len(text) < 400 and "\n" not in text.strip() else None
    if aside and aside.start() < spans[0].start():
        if NUMBER.search(text, 0, aside.start()):
            return None  # `the maximum is 25, attained at $x = 5$`
        aside = _ASIDE.search(text, spans[0].end())
    spans = [span for span in spans if not aside or span.start() < aside.start()]
    behind = text[spans[-1].end() : aside.start() if aside else None]
    if re.match(r"[^.]{0,60}?(?:\bis|\bare|=|\bequals)\s", behind) and NUMBER.search(behind):
        return None
    return _joined(text, spans) + ("\\%" if re.match(r"\s*(?:%|\\%|percent)", behind) else "")


def _joined(text: str, spans: list[re.Match[str]]) -> str:
    """The last span with those before it that only 'and', 'or' or a comma parts from it."""
    last = _inside(spans[-1])
    if len(spans) > 1:
        before = _inside(spans[-2])
        if re.fullmatch(r"\\?[A-Za-z]+", last) and re.search(r"\d|\\(?:pi|infty)", before):
            return _joined(text, spans[:-1])  # `there are $7$ values of $n$`
    pieces = [last]
    for span, next_one in zip(spans[-2::-1], spans[:0:-1], strict=True):
        piece = _inside(span)
        equation = "=" in piece and not re.match(r"\\?[A-Za-z](?:_\S+|\([a-z]\))?\s*=", piece)
        if equation or not _JOIN.fullmatch(text[span.end() : next_one.start()]):
            break
        pieces.insert(0, piece)
    return ", ".join(pieces)


def _inside(match: re.Match[str]) -> str:
    """What stands in a maths span; of the lines of a display the last one."""
    text = next(group for group in match.groups() if group is not None).strip()
    if "\\begin{align" in text or match[0].startswith("\\begin"):
        text = re.sub(r"\\(?:begin|end)\s*\{align(?:ed)?\*?\}", " ", text)
        text = ([row for row in text.split("\\\\") if row.strip()] or [text])[-1]
    return text.strip().rstrip(".,;")


def _without_anchor(text: str, words: int) -> Found | None:
    bare = _hedged(re.sub(r"```\w*", "", text).strip().strip("*").strip())
    prose = is_prose(bare)
    short = 0 < words <= 3 and words < len(bare.split()) and len(bare) <= 2000
    if short and prose and (said := _in_words(bare)):
        return Found(said, "sentence")
    if not words and not prose:
        bare = _STEP.split(bare)[-1]
    prose |= bool(re.match(r"[A-Za-z]{2,}[^$\\]{0,60}(?:\s\$[^$]+\$|\\[(\[])", text.strip()))
    said_words = any(len(w) > 2 and w.lower() not in _MATHS_WORDS for w in _WORD.findall(bare[:2000]))
    # `40 - 12 = 28 trees`, `That makes 2 kg`
    sentence = "=" in bare or re.match(r"[A-Z][a-z]+ [a-z]{2,} ", bare)
    if not words and not prose and said_words and sentence and not re.search(r"[\\$]", bare):
        return Found(stated(bare.splitlines()[-1]) or bare, "last number")
    single = len(bare) <= 2000 and not re.search(r"\n\n|\\begin\{align", bare)
    if single and (not prose or (words and len(bare) <= 300)):
        return Found(bare, "whole")
    tail = bare[-4000:]
    numbers, spans = list(NUMBER.finditer(tail)), list(_SPAN.finditer(tail))
    if words:
        final = Found(tail.splitlines()[-1].strip()[-300:], "last line")
        return Found(_inside(spans[-1]), "last maths") if spans else final
    for match in list(_CONCLUDES.finditer(tail))[-1:]:
        line = tail[match.end() :][: sentence_end(tail[match.end() :])]
        behind = tail[match.end() + len(line) :]
        last = len(behind) < 200 and len(line) < 300 and not NUMBER.search(behind) and "$" not in behind
        if last and (value := _last_maths(line) or stated(line)):
            return Found(value, "conclusion")
    behind = tail[spans[-1].end() :] if spans else ""
    later = spans and (not NUMBER.search(behind) or len(_WORD.findall(behind)) <= 6)
    if later and (value := _last_maths(tail)):
        return Found(value, "last maths")
    sentences = [piece for piece in re.split(r"(?<=[.!?])\s+|\n", tail) if any(c.isdigit() for c in piece)]
    value = stated(sentences[-1]) if sentences and numbers else None
    return Found(value, "last number") if value else None


# -- sentences
def sentence_end(text: str) -> int:
    """Where the first sentence ends; empty lines before it do not count."""
    marks = _SENTENCE_END.finditer(text)
    ends = (m.start() for m in marks if m[0] != "\n" or text[: m.start()].strip())
    return next(ends, len(text))


def is_prose(text: str) -> bool:
    """Whether this is a sentence rather than an answer: three English words that are no products of letters, names or units."""
    bare = _COMMAND.sub(" ", text[:1000])
    found = [word for word in _WORD.findall(bare) if not _of_maths(word)][:40]
    count = sum(is_word(word, word, len(word), ("", "", False), True) for word in found)
    known = count and len(found) >= 3 and any(len(word) > 3 for word in found)
    if count >= 3 or known or len(_OTHER_SCRIPT.findall(bare)) > 3:
        return True
    return count > 0 and (len(text) > 400 or bool(re.search(r"[a-z\d)][.?]\s+[A-Z][a-z]+\b", bare)))


@lru_cache(maxsize=65536)
def _of_maths(word: str) -> bool:
    return word.lower() in _MATHS_WORDS or units.known(word)


def stated(phrase: str, first: bool = False) -> str | None:
    """The value that a sentence states: behind its last verb or equals sign, if that is mathematics, else a number."""
    phrase = phrase.rstrip(" .*")
    if NUMBER.search(_before_aside(phrase)):
        phrase = _before_aside(phrase)
    numbers = list(NUMBER.finditer(phrase))
    totals = [n for n in numbers if _TOTAL.match(phrase, n.end())]
    if totals:
        return totals[-1][0].strip()
    first_number = numbers[0].start() if numbers else len(phrase)
    says = [m for m in _SAYS.finditer(phrase) if m[0][0] != ":" or first_number >= m.start()]
    says = [m for m in says if m[0][0] in "=≈"] or says
    if says:
        rest = phrase[says[-1].end() :].strip(" *")  # its end is bare, and `.5` keeps its point
        value = NUMBER.match(phrase, says[-1].end())
        unit = re.match(r"\s+([A-Za-z]+)", phrase[value.end() :]) if value else None
        counted = unit and (unit[1] == "in" or not units.known(unit[1]))
        maths = all(len(word) < 3 or _of_maths(word) for word in _WORD.findall(rest))
        if rest and len(rest) < 80 and maths and not counted and not _OTHER_SCRIPT.search(rest):
            return rest
        if value:
            return value[0].strip()
    if not numbers:
        return None
    subject = re.match(r"\d[\d,.]*\s+[a-z]{3,}(?:\s+[a-z]{2,}){2}", phrase)  # `8 boats crossed a river`
    return numbers[0 if subject or (first and not says) else -1][0].strip()


def _in_words(text: str) -> str | None:
    """The words that a sentence answers with: a leading yes or no, or what stands behind its last 'is'."""
    if leading := re.match(r"(yes|no|true|false)\b\s*[,.!]", text, re.IGNORECASE):
        return leading[1]
    last = [piece for piece in re.split(r"(?<=[.!?])\s+|\n", text) if piece.strip()][-1]
    rest = re.split(r"\b(?:is|are|was|were|be|on|has|have)\s+(?:an?\s+|the\s+)?", last)[1:][-1:]
    return rest[0].strip(" .!*") if rest and 0 < len(rest[0].split()) <= 4 else None
