r"""Finding the answer in a text, in linear time and without looking at the gold answer's value.

In this order: a box, a tag, JSON, `####` or "answer is" (each behind the last box), the last sentence that concludes, the last
mathematics, the last number. Ground truths: `extract_gold`, `after_hashes`, `last_boxed`.
"""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

from undo_hpc.grading.boxes import find_boxes, last_answer
from undo_hpc.grading.names import word_list
from undo_hpc.grading.reasoning import visible
from undo_hpc.grading.sentences import ASIDE, NUMBER, WORD, in_words, is_prose, sentence_end, stated

GoldMode = Literal["auto", "plain", "boxed", "hashes"]
_TRIES = 50  # empty `####` that are skipped
_ELSEWHERE = (
    "odpowiedź|đáp án|정답|답|答え|jawaban|antwoord|svar|réponse|respuesta|resposta|risposta|antwort|ответ|cevap|"
    "最终答案|答案|答|正解|解答|الجواب|الإجابة|उत्तर"
)
_ANSWER = r"(?:(?:final|correct|right|best)\s+)?answer"
_ANCHOR = re.compile(
    rf"####|{_ANSWER}(?=\s*(?:\$|\\[(\[]))"
    rf"|{_ANSWER}\s*(?:\([^)\n]{{0,20}}\)\s*)?(?:\*\*)?\s*(?:is\b|are\b|(?:would|should|must) be\b|:|=|：)\s*(?:\*\*)?\s*:?"
    r"|(?:^|\n)[ \t]*(?:#{1,6}[ \t]*|\*\*[ \t]*)?(?:final\s+)?answer\s*(?:\*\*)?\s*:?\s*\n"
    r"|(?:^|\n)[ \t]*(?:\*\*)?(?:A|Ans)[ \t]?\.?:(?:\*\*)?"
    rf"|(?:{_ELSEWHERE})\s*(?:\*\*)?\s*(?:est|es|ist|è|é|jest|là|adalah|是|为|は|은|는|هي|هو|:|：)\s*:?",
    re.IGNORECASE,
)
_HINTS = [
    *word_list("#### ans odpow jawaban antwo svar respuesta resposta risposta cevap"),
    "\na:",
    "\na.:",
    "a :",
    "**a:",
]
_SPAN = re.compile(
    r"\$\$([^$]{1,1000}?)\$\$|(?<![\\])\$(?!\s)([^$\n]{1,400}?)(?<![\s\\])\$(?!\d)|\$\s([^$\n]{1,400}?)(?<![=+*/-])\s\$(?!\d)"
    r"|\\\((.{1,400}?)\\\)|\\\[(.{1,600}?)\\\]|\\begin\{(?:align|equation|gather|eqnarray)\*?\}(.{1,3000}?)\\end\{(?:align|equation|gather)",
    re.DOTALL,
)
_JOIN = re.compile(r"\s*(?:,?\s*(?:and|or)|,)\s*")
_NOT_BUT = re.compile(
    r"\s*not\s+(.{1,40}?)\s*[;,.]?\s*(?:but(?:\s+rather)?|it\s+is|it's|rather)\s*:?\s+", re.IGNORECASE
)
_TAGGED = re.compile(r"<answer>([^<]{1,2000})</answer>", re.IGNORECASE)
_HEDGE = re.compile(
    r"(?:(?:approximately|about|roughly|around|exactly|equal to|simply|just|only|thus|therefore|now|indeed)\s+|(?:≈|~|=>|->|→|=)\s*)+",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"(?<![A-Za-z])(?:Therefore|Thus|Hence|So|Consequently|In conclusion|Altogether|In total|Finally)\b,?\s+(?!far\b)"
)
_VALUE_BEHIND = re.compile(r"[^.]{0,60}?(?:\bis|\bare|=|\bequals)\s")
_UNIT_SPAN = re.compile(
    r"\\Omega|\\(?:mathrm|text|mbox|textrm|rm)\s*\{[^{}]*\}(?:\s*\^\s*\{?\s*-?\d\s*\}?|\s*/\s*\\(?:mathrm|text)\s*\{[^{}]*\})*"
)
_SENTENCE = re.compile(r"[A-Za-z]{2,}[^$\\]{0,60}\s\$[^$]+\$|[A-Za-z]{2,}[^$\\]{0,60}\\[(\[]")
_CAPTION = re.compile(r"[^\W\d_]{2,}(?: [^\W\d_]+){0,4}:\s+(?=\S)")  # `Total: 260 sheep`


@dataclass(frozen=True, slots=True)
class Found:
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
    for _ in range(_TRIES):
        if at < 0:
            break
        start = at + 4
        rest = text[start : start + 2000].lstrip(" \t#:").split("\n", 1)[0].strip()
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
    if mode in ("auto", "hashes"):
        found = after_hashes(text)
        if found or mode == "hashes":
            return found
    if mode in ("auto", "boxed"):
        found = last_boxed(text)
        if found or mode == "boxed":
            return found
    bare = text.strip()
    if mode == "auto" and " " in bare and is_prose(bare):
        said = anchored(bare[-20_000:], 0, 0)
        if said:
            return said.text
        spans = list(_SPAN.finditer(bare[-4000:]))
        if spans and len(WORD.findall(bare)) > 2 and not bare[-4000:][spans[-1].end() :].strip(" ."):
            return _joined(_neighbours(bare[-4000:], spans))
    return bare or None


# -- predictions
def find(text: str, words: int) -> Found | None:
    """The answer in a prediction, or None. `words`: how many words the gold answer has, 0 where it is mathematics."""
    text = visible(text)
    if not text.strip():
        return None
    box = last_answer(text)
    tagged = (
        [m for m in _TAGGED.finditer(text) if m[1].strip()]
        if "<answer>" in text or "<ANSWER>" in text
        else []
    )
    if tagged and (box is None or box.end < tagged[-1].end()) and not find_boxes(tagged[-1][1]):
        return Found(tagged[-1][1].strip(), "tag")
    if box is None and (inside := _in_json(text)):
        return Found(inside, "json")
    said = anchored(text, box.end if box else 0, words)
    if said:
        return said
    if box:
        return Found(box.content, "box")
    return _without_anchor(text, words)


def _in_json(text: str) -> str | None:
    """The answer in a JSON object that the text ends with."""
    end, start = text.rfind("}"), text.rfind("{", 0, text.rfind('answer"') + 1)
    if start < 0 or end < start or text[end + 1 :].strip("` \n") or end - start > 20_000:
        return None
    try:
        row = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return None
    for key in ("final_answer", "answer", "Answer", "result"):
        if isinstance(row, dict) and isinstance(row.get(key), (str, int, float)):
            return str(row[key])
    return None


def anchored(text: str, start: int, words: int) -> Found | None:
    """The payload of the last anchor behind `start` that has one."""
    for match in reversed(anchors(text, start)):
        payload = _payload(text[match.end() : match.end() + 700], words, start > 0)
        if payload:
            return Found(payload, "hashes" if match.group() == "####" else "answer is")
    return None


def anchors(text: str, start: int) -> list[re.Match[str]]:
    """The last ten anchors behind `start`, among the last 50,000 characters."""
    start = max(start, len(text) - 50_000)
    low = text[start:].lower()
    if low.isascii() and not any(word in low for word in _HINTS):
        return []
    return list(deque(_ANCHOR.finditer(text, start), maxlen=10))


def _payload(rest: str, words: int, strict: bool) -> str | None:
    rest = rest.lstrip(" \t*:：\n").replace("**", "")
    rest = _NOT_BUT.sub("", rest, count=1) if _NOT_BUT.match(rest) else rest
    nested = _ANCHOR.search(rest[:300])
    if nested and rest[nested.end() :].strip(" .*\n") and "\n" not in rest[: nested.start()].strip():
        rest = rest[nested.end() :].lstrip(" *:")
    line = rest[: sentence_end(rest)]
    span = _leading_spans(rest, line, words)
    if span:
        return span
    phrase = line.strip().strip("*_` " if line.strip()[:1] not in "\"'" else "*_`\"' ").rstrip(".")
    if words:
        return None if strict or not phrase else phrase
    hedge = _HEDGE.match(phrase)
    phrase = phrase[hedge.end() :] if hedge else phrase
    aside = ASIDE.search(phrase)
    phrase = phrase[: aside.start()] if aside and aside.start() else phrase
    if not phrase:
        return None
    if not is_prose(phrase):
        return phrase if not strict or re.search(r"[\d=+*/^\\<>]|^[A-Za-z]$", phrase) else None
    return stated(phrase, True) or (None if strict else phrase)


def _leading_spans(rest: str, line: str, words: int) -> str | None:
    """The maths span that a sentence holds (the last one, if there are several), with the neighbours joined to it."""
    spans = [span for span in _SPAN.finditer(rest, 0, max(len(line), 1) + 600) if span.start() <= len(line)]
    if not spans or len(WORD.findall(rest[: spans[0].start()])) > 12:
        return None
    aside = ASIDE.search(rest, spans[0].end())
    spans = [span for span in spans if not aside or span.start() < aside.start()]
    outside = _SPAN.sub(" ", line)
    if re.search(r"\d", outside) and not is_prose(outside) and spans[-1].end() <= len(line):
        return line.strip().strip("*_`\"' ").rstrip(".")
    chosen = _neighbours(rest, spans)
    behind = line[chosen[-1].end() :]
    if _VALUE_BEHIND.match(behind) and NUMBER.search(behind):
        return None
    percent = (
        "\\%" if re.match(r"\s*(?:%|\\%|percent)", rest[chosen[-1].end() : chosen[-1].end() + 12]) else ""
    )
    return _joined(chosen) + percent


def _neighbours(text: str, spans: list[re.Match[str]]) -> list[re.Match[str]]:
    """The last span with those before it that only 'and', 'or' or a comma parts from it."""
    while (
        len(spans) > 1
        and re.fullmatch(r"\\?[A-Za-z]+", _inside(spans[-1]))
        and re.search(r"\d|\\(?:pi|infty)", _inside(spans[-2]))
    ):
        spans = spans[:-1]  # `there are $7$ values of $n$`
    chosen = spans[-1:]
    if (
        len(spans) > 1
        and _UNIT_SPAN.fullmatch(_inside(spans[-1]))
        and not text[spans[-2].end() : spans[-1].start()].strip()
    ):
        chosen, spans = spans[-2:], spans[:-1]  # `$18\pi$ $\mathrm{ft}^3$`
    for span in reversed(spans[:-1]):
        equation = "=" in _inside(span) and not re.match(r"\\?[A-Za-z](?:_\S+|\([a-z]\))?\s*=", _inside(span))
        if equation or not _JOIN.fullmatch(text[span.end() : chosen[0].start()]):
            break
        chosen.insert(0, span)
    return chosen


def _joined(spans: list[re.Match[str]]) -> str:
    """The answer that neighbouring spans make up: a list, or a value and its unit."""
    pieces = [_inside(span) for span in spans]
    if len(pieces) > 1 and _UNIT_SPAN.fullmatch(pieces[-1]):
        unit = pieces.pop()
        pieces[-1] += " " + unit
    return ", ".join(pieces)


def _inside(match: re.Match[str]) -> str:
    """What stands in a maths span; of the lines of a display the last one."""
    text = next(group for group in match.groups() if group is not None).strip()
    if "\\begin{align" in text or match.group().startswith("\\begin"):
        text = re.sub(r"\\(?:begin|end)\s*\{align(?:ed)?\*?\}", " ", text)
        rows = [row for row in text.split("\\\\") if row.strip()]
        text = rows[-1] if rows else text
    return text.strip().rstrip(".,;")


def _conclusion(tail: str, words: int) -> str | None:
    """The answer in the last sentence that draws a conclusion, if only little follows it."""
    found = list(_CONCLUDES.finditer(tail))
    if not found or words:
        return None
    rest = tail[found[-1].end() :]
    line = rest[: sentence_end(rest)]
    if (
        len(rest) - len(line) > 200
        or len(line) > 300
        or NUMBER.search(rest, len(line))
        or "$" in rest[len(line) :]
    ):
        return None
    spans = list(_SPAN.finditer(line))
    if not spans:
        return stated(line)
    behind = line[spans[-1].end() :]
    if _VALUE_BEHIND.match(behind) and NUMBER.search(behind):
        return stated(behind)
    aside = ASIDE.search(line, spans[0].end())
    spans = [span for span in spans if not aside or span.start() < aside.start()]
    return _joined(_neighbours(line, spans))


def _without_anchor(text: str, words: int) -> Found | None:
    bare = re.sub(r"```\w*", "", text).strip().strip("*").strip()
    hedge = _HEDGE.match(bare)
    bare = bare[hedge.end() :] if hedge else bare
    if 0 < words <= 3 and is_prose(bare) and len(bare) <= 2000 and (said := in_words(bare)):
        return Found(said, "sentence")
    if not words and (caption := _CAPTION.match(bare)):
        bare = bare[caption.end() :]
    sentence = is_prose(bare) or bool(_SENTENCE.match(text.strip()))
    if (
        not words
        and not sentence
        and "=" in bare
        and not re.search(r"[\\$]", bare)
        and re.search("[A-Za-z]{3}", bare)
    ):
        value = stated(bare.splitlines()[-1])  # `40 - 12 = 28 trees`
        return Found(value, "last number") if value else None
    if len(bare) <= 2000 and "\n\n" not in bare and (not sentence or (words and len(bare) <= 300)):
        return Found(bare, "whole")
    tail = bare[-4000:]
    closing = _conclusion(tail, words)
    if closing:
        return Found(closing, "conclusion")
    spans, numbers = list(_SPAN.finditer(tail)), list(NUMBER.finditer(tail))
    if words:
        return (
            Found(_inside(spans[-1]), "last maths")
            if spans
            else Found(bare.splitlines()[-1].strip()[-300:], "last line")
        )
    if spans and (
        not numbers or numbers[-1].end() <= spans[-1].end() or len(WORD.findall(tail[spans[-1].end() :])) <= 6
    ):
        aside = ASIDE.search(tail, spans[0].end()) if len(tail) < 400 and "\n" not in tail else None
        spans = [span for span in spans if not aside or span.start() < aside.start()]
        behind = tail[spans[-1].end() : aside.start() if aside else None]
        if _VALUE_BEHIND.match(behind) and NUMBER.search(behind):
            return Found(stated(behind) or behind, "last number")
        percent = "\\%" if re.match(r"\s*(?:%|\\%|percent)", behind) else ""
        return Found(_joined(_neighbours(tail, spans)) + percent, "last maths")
    bold = re.findall(r"\*\*([^*\n]{1,60})\*\*", tail)
    if bold and (inner := list(NUMBER.finditer(bold[-1]))):
        return Found(bold[-1].strip(" :.") if not is_prose(bold[-1]) else inner[-1].group(), "bold")
    if not numbers:
        return None
    sentences = [piece for piece in re.split(r"(?<=[.!?])\s+|\n", tail) if any(c.isdigit() for c in piece)]
    value = stated(sentences[-1]) if len(bare) <= 2000 and sentences else None
    return Found(value or numbers[-1].group().strip(), "last number")
