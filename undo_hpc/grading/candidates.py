"""The predicted answer in a whole text: think blocks and run-on text go; then box, `####`, 'answer is', last maths, last number.

The choice looks at the form that the gold answer has (a letter, words, maths), never at its value.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from undo_hpc.grading.boxes import find_boxes, last_answer
from undo_hpc.grading.deciders.letter import ANOTHER_LETTER, choice_of, letter_of
from undo_hpc.grading.deciders.relation import split_relation
from undo_hpc.grading.scan import split_top
from undo_hpc.grading.units import is_known

MAX_TEXT = 200_000
_RUN_ON = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|end_of_text|end|user|assistant)\|>|</s>|<end_of_turn>|<｜end▁of▁sentence｜>"
    r"|\n(?:Question|Problem|Q|Human|User|### ?Instruction|\*\*Problem)\b[^\n]{0,20}:|\[Note"
)
_ANSWER = r"(?:(?:final|correct|right|best)\s+)?answer"
_ELSEWHERE = "odpowiedź|đáp án|정답|답|答え|jawaban|antwoord|svar|réponse|respuesta|resposta|risposta|antwort|ответ|cevap|答案|答|正解|解答|الجواب|الإجابة|उत्तर"
_ANCHOR = re.compile(
    rf"####|{_ANSWER}(?=\s*(?:\$|\\[(\[]))"
    rf"|{_ANSWER}\s*(?:\([^)\n]{{0,20}}\)\s*)?(?:\*\*)?\s*(?:is\b|are\b|would be\b|should be\b|must be\b|:|=|：)\s*(?:\*\*)?\s*:?"
    r"|(?:^|\n)[ \t]*(?:#{1,6}[ \t]*|\*\*[ \t]*)(?:final\s+)?answer\s*(?:\*\*)?\s*:?\s*\n"
    r"|(?:^|\n)[ \t]*(?:\*\*)?(?:A|Ans)[ \t]?\.?:(?:\*\*)?"
    rf"|(?:{_ELSEWHERE})\s*(?:\*\*)?\s*(?:est|es|ist|è|é|jest|là|adalah|是|为|は|은|는|هي|هو|:|：)\s*:?",
    re.IGNORECASE,
)
_SPAN = re.compile(
    r"\$\$(.+?)\$\$|(?<![\\])\$(?!\s)([^$\n]{1,400}?)(?<![\s\\])\$(?!\d)|\$\s([^$\n]{1,400}?)(?<![=+*/-])\s\$(?!\d)"
    r"|\\\((.{1,400}?)\\\)|\\\[(.{1,600}?)\\\]|\\begin\{(?:align|equation|gather|eqnarray)\*?\}(.{1,3000}?)\\end\{(?:align|equation|gather)",
    re.DOTALL,
)
_SPAN_JOIN = re.compile(r"\s*(?:,?\s*(?:and|or)|,)\s*")
_FRACTION = r"\\[dt]?frac\s*\{\s*-?[\d.]+\s*\}\s*\{\s*[\d.]+\s*\}"
_GROUPED = r"\d{1,3}(?:(?:,\d{3})+|(?:[ \u00a0\u202f]\d{3})+(?!\d))"  # 1,500 and 1 500
_NUMBER = re.compile(
    rf"(?<![A-Za-z\d_.])[-−]?[$€£]?\s?(?:{_FRACTION}|(?:{_GROUPED}|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?:\.\d+)?)?|\.\d+)(?:\s?\\?%|\s?°)?(?![\d])"
)
_SENTENCE_END = re.compile(r"\.(?=\s|$|\*\*)|。|\n|(?<!\\)!(?=\s|$)|<(?=[|/]|[a-z]{1,10}>)")
_NOT_BUT = re.compile(
    r"^\s*not\s+(.{1,40}?)\s*[;,.]?\s*(?:but(?:\s+rather)?|it\s+is|it's|rather)\s*:?\s+", re.IGNORECASE
)
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_LETTER_ANSWER = re.compile(
    r"(?i:answer|choice|option|réponse|respuesta|antwort|答案|答|选项|正解|정답|ответ)\s*(?:\*\*)?[^A-Z\n\d$\\<>=()\[\]{}]{0,40}?[(\[{]{0,2}(?:\\text(?:bf)?\{)?\(?\s*(?<![A-Za-z])([A-Z])(?![a-zA-Z'+*/^=_(]|\s*[-+*/^=<>]|\s+[a-z]{2,}\s+[a-z])"
    rf"(?!{ANOTHER_LETTER})"
)
_NEGATED = re.compile(
    r"(?:\bnot|\bcannot|n't|\bneither|\bnever)\s+(?:be\s+)?(?:(?:option|choice)\s+)?[(*\[]*$", re.IGNORECASE
)
_BUT_LETTER = re.compile(
    r"[)\]*.,;\s]*(?:but|rather|instead|it(?:'s|\s+is))\s+(?:rather\s+|instead\s+)?(?:(?:option|choice)\s+)?[(*\[]*([A-Z])\b"
)
_LETTER_IS_RIGHT = re.compile(
    r"(?:(?i:option|choice|answer|statement)\s+|(?<![A-Za-z]))[*(\[]*([A-Z])[)\]*.]*\s+is\s+(?:the\s+)?(?:only\s+|most\s+)?"
    r"(?:correct|right|best|true)\b(?!\s*\?|\s+(?:at first|only|if|when))"
)
_LETTER_SAYS = re.compile(
    r"(?:it's|it is|is|be|choose|pick|select|therefore|thus|so|hence)\s*:?\s*(?:option|choice)?\s*"
    r"[*(\[]*([A-Z])\b[)\]*]*(?=\s*(?:[.,;!]|$|\n))",
    re.IGNORECASE,
)


_DRAWING = re.compile(r"\[asy\][^\0]{0,20000}?\[/asy\]")
_VARIABLE = re.compile(r"\\?[A-Za-z]+")
_VALUE = re.compile(r"\d|\\(?:pi|infty)")
_UNIT_SPAN = re.compile(
    r"\\(?:mathrm|text|mbox|textrm|rm)\s*\{[^{}]*\}(?:\s*\^\s*\{?\s*-?\d\s*\}?|\s*/\s*\\(?:mathrm|text)\s*\{[^{}]*\})*"
)
_IS_OUR_ANSWER = re.compile(r"\s*is\s+(?:our|the|your)\s+(?:final\s+|correct\s+|desired\s+)?answer\b")
_STATES = re.compile(r"[^.]{0,60}?(?:\bis|\bare|=|\bequals)\s")
_TAGGED = re.compile(r"<answer>([^<]{1,2000})</answer>", re.IGNORECASE)
_CAPTION = re.compile(r"[^\W\d_]{2,}(?: [^\W\d_]+){0,4}:\s+(?=\S)")  # `Total: 260 sheep`
_BECAUSE = re.compile(r"\s*[,(;]?\s*\b(?:because|since|which|not|instead|rather than|as there|as we|as it)\b")
_HEDGE = re.compile(
    r"^(?:(?:approximately|about|roughly|around|exactly|equal to|simply|just|only|thus|therefore|now|indeed)\s+|(?:≈|~|=>|->|→|=)\s*)+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Found:
    """An extracted answer and where it was found."""

    text: str
    where: str


def visible(text: str) -> str:
    """The text that counts: behind the last think block, before run-on text, the last 200,000 characters at most."""
    end = text.rfind("</think>")
    if end >= 0:
        text = text[end + 8 :] if text[end + 8 :].strip() else text[:end].rpartition("<think>")[0]
    else:
        start = text.find("<think>")
        if start >= 0:
            text = text[:start] + (text[start + 7 :] if not text[:start].strip() else "")
    if len(text) > MAX_TEXT:
        text = text[-MAX_TEXT:]
    if "[asy]" in text:
        text = _DRAWING.sub(" ", text)
    for match in _RUN_ON.finditer(text):
        before = text[: match.start()]
        if before.strip() and (match.group()[0] in "<[" or _ANCHOR.search(before) or "\\boxed" in before):
            return before
    return text


def find(text: str, wants: str) -> Found | None:
    """The answer in a prediction, or None. `wants` is the form of the gold answer: 'sentence', 'text', 'relation' or 'maths'."""
    text = visible(text)
    sentence, wants = wants == "sentence", "text" if wants == "sentence" else wants
    if not text.strip():
        return None
    box = last_answer(text)
    tagged = [m for m in _TAGGED.finditer(text) if m[1].strip()]
    if tagged and (box is None or box.end < tagged[-1].end()) and not find_boxes(tagged[-1][1]):
        return Found(tagged[-1][1].strip(), "tag")
    anchored = _anchored(text, box.end if box else 0, wants) or (
        _before_anchor(text, wants) if box is None else None
    )
    if box and not anchored:
        return Found(box.content, "box")
    if anchored:
        return anchored
    if box is None and find_boxes(text):
        return None
    return _without_anchor(text, wants, sentence)


def _before_anchor(text: str, wants: str) -> Found | None:
    """`$x$ is our answer`."""
    tail = text[-1000:]
    for span in reversed(list(_SPAN.finditer(tail))):
        if _IS_OUR_ANSWER.match(tail, span.end()):
            return Found(_inside(span, wants), "is our answer")
    return None


def _anchored(text: str, start: int, wants: str) -> Found | None:
    """The payload of the last anchor behind `start` that has one."""
    for match in reversed(_last_anchors(text, start)):
        rest = text[match.end() : match.end() + 700]
        payload = _payload(rest, wants, strict=start > 0)
        if payload:
            return Found(payload, "hashes" if match.group() == "####" else "answer is")
    return None


def _last_anchors(text: str, start: int) -> list[re.Match[str]]:
    """The last ten anchors behind `start`, among the last 50,000 characters."""
    return list(deque(_ANCHOR.finditer(text, max(start, len(text) - 50_000)), maxlen=10))


def _payload(rest: str, wants: str, strict: bool) -> str | None:
    rest = rest.lstrip(" \t*:：\n").replace("**", "")
    rest = _NOT_BUT.sub("", rest)
    nested = _ANCHOR.search(rest[:300])
    if nested and rest[nested.end() :].strip(" .*\n") and "\n" not in rest[: nested.start()].strip():
        rest = rest[nested.end() :].lstrip(" *:")
    line = rest[: _sentence(rest)]
    span = _leading_spans(rest, line, wants)
    if span:
        return span
    phrase = line.strip().strip("*_`\"' ").rstrip(".")
    if wants != "text":
        phrase = _HEDGE.sub("", phrase)
        cut = _BECAUSE.search(phrase)
        phrase = phrase[: cut.start()] if cut and cut.start() else phrase
    if not phrase:
        return None
    if wants == "text":
        return None if strict else phrase
    if not is_prose(phrase):
        return phrase if not strict or _MATHS.search(phrase) else None
    return _value_in(phrase, first=True) or (None if strict else phrase)


_MATHS = re.compile(r"[\d=+*/^\\<>]|^[A-Za-z]$")


def _sentence(text: str) -> int:
    match = _SENTENCE_END.search(text)
    while match and match.group() == "\n" and not text[: match.start()].strip():
        match = _SENTENCE_END.search(text, match.end())
    return match.start() if match else len(text)


def _leading_spans(rest: str, line: str, wants: str) -> str | None:
    """The maths span that the sentence holds (the last one, if there are several), with the neighbours joined to it."""
    spans = list(_SPAN.finditer(rest, 0, max(len(line), 1) + 600))
    spans = [span for span in spans if span.start() <= len(line)]
    if not spans:
        return None
    first = spans[0]
    if len(_PROSE.findall(rest[: first.start()])) > 12:
        return None
    outside = _SPAN.sub(" ", line)
    if re.search(r"\d", outside) and not is_prose(outside) and spans[-1].end() <= len(line):
        return line.strip().strip("*_`\"' ").rstrip(".")
    chosen = _neighbours(rest, spans)
    behind = line[chosen[-1].end() :]
    if _STATES.match(behind) and _NUMBER.search(behind):
        return None
    tail = rest[chosen[-1].end() : chosen[-1].end() + 12]
    percent = "\\%" if re.match(r"\s*(?:%|\\%|percent)", tail) else ""
    return _joined_spans(chosen, wants) + percent


def _neighbours(text: str, spans: list[re.Match[str]]) -> list[re.Match[str]]:
    """The last span with those before it that only 'and', 'or' or a comma parts from it."""
    while len(spans) > 1 and _VARIABLE.fullmatch(_inside(spans[-1])) and _VALUE.search(_inside(spans[-2])):
        spans = spans[:-1]  # `there are $7$ values of $n$`
    chosen = spans[-1:]
    if (
        len(spans) > 1
        and _UNIT_SPAN.fullmatch(_inside(spans[-1]))
        and not text[spans[-2].end() : spans[-1].start()].strip()
    ):
        chosen = spans[-2:]  # `$18\\pi$ $\\mathrm{ft}^3$`: joined by `_joined_spans`
        spans = spans[:-1]
    for span in reversed(spans[:-1]):
        if not _SPAN_JOIN.fullmatch(text[span.end() : chosen[0].start()]):
            break
        chosen.insert(0, span)
    return chosen


def _joined_spans(spans: list[re.Match[str]], wants: str) -> str:
    """The answer that neighbouring spans make up: a list, or a value and its unit."""
    pieces = [_inside(span, wants) for span in spans]
    if len(pieces) > 1 and _UNIT_SPAN.fullmatch(pieces[-1]):
        unit = pieces.pop()
        pieces[-1] += " " + unit
    return ", ".join(pieces)


def _inside(match: re.Match[str], wants: str = "") -> str:
    """What stands in a maths span. Where no relation is wanted, the value at the end of a calculation: 5 of `2 + 3 = 5`."""
    text = next(group for group in match.groups() if group is not None).strip()
    if wants != "maths" or "=" not in text:
        return text.rstrip(".,;")
    if "\\begin{align" in text or "&" in text.partition("\\begin")[0]:
        text = re.sub(r"\\(?:begin|end)\s*\{align(?:ed)?\*?\}", " ", text).replace("\\&", " ")
        rows = [row for row in text.split("\\\\") if row.strip()]
        text = (rows[-1] if rows else text).replace("&", "")
    sides, signs = split_relation(text)
    alone = len(split_top(re.sub(r",\\!|\{,\}", "", text.rstrip(".,; ")), ",;")) == 1
    if alone and signs and set(signs) <= {"=", "\\approx"} and sides[-1]:
        text = sides[-1]
    return text.strip().rstrip(".,;")


def is_prose(text: str) -> bool:
    """Whether this is a sentence rather than an answer: three words or more that are not LaTeX or inside of a text command."""
    bare = re.sub(r"\\(?:text|mbox|textbf|mathrm|textrm|operatorname|begin|end)\s*\{[^{}]*\}", " ", text)
    words = [w for w in _PROSE.findall(bare) if w.lower() not in _MATHS_WORDS]
    other = sum(
        1 for c in text if ord(c) > 0x2E80 or 0x0400 <= ord(c) <= 0x052F or 0x0590 <= ord(c) <= 0x0E7F
    )
    return (
        len(words) >= 3
        or (len(words) >= 1 and bool(_SENTENCES.search(bare)))
        or other > 3
        or (len(words) >= 1 and len(text) > 400)
    )


_SENTENCES = re.compile(r"[a-z\d)][.?]\s+[A-Z][a-z]+\b")
_MATHS_WORDS = {
    "and",
    "or",
    "pi",
    "sqrt",
    "sin",
    "cos",
    "tan",
    "log",
    "ln",
    "exp",
    "inf",
    "infinity",
    "square",
    "cubic",
    "units",
    "unit",
    "feet",
    "inches",
    "cm",
    "mm",
    "km",
    "percent",
    "degrees",
    "dollars",
    "cents",
    "per",
    "miles",
    "hours",
    "minutes",
    "meters",
    "if",
    "for",
    "otherwise",
}


_COUNTED = re.compile(r"(-?[$€£]?\d[\d,]*(?:\.\d+)?(?:\s?\\?%)?)\s+[A-Za-z][A-Za-z' -]*[\"'?]*$")
_OTHER_SCRIPT = re.compile(r"[\u0590-\u1fff\u2e80-\uffff]")
_SAYS = re.compile(r"(?:\b(?:(?:is|are) at|is|are|equals|be|as|get|obtain|makes?|gives?)\b:?|=|≈)\s*")
_BEGINS = re.compile(r"[-−+]?\s*[\d(\[{\\√π$€£.]")
_ASIDE = re.compile(
    r",\s*(?:(?:which|that)\s+is\s+)?(?:attained|achieved|reached|obtained|occurring|when|where)\b|[,，]?\s*(?:而不是|而非)"
)
_PAYS = r"(?:pay|cost|spend|earn|make|save|owe|charge|receive|raise|donate|lose|collect)s?|paid|spent|earned|made|saved|owed|charged|received|raised|lost"
_ACTS = rf"{_PAYS}|(?:get|need|take|buy|sell|eat|read|win|walk|run|drive|use)s?|got|took|bought|sold|ate|won|ran|drove|used|needed"
_FOR_WHAT = re.compile(  # `has to pay $64 for 16 glasses`
    rf"(?:\b(?:{_PAYS})(?:\s+(?:a\s+total\s+of|about))?|=)\s+([-−]?[$€£]\s?\d[\d,]*(?:\.\d+)?)(?=\s+(?:for|on|from|in|at|by|with|after|over)\b)"
)
_LONG_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}")


def _value_in(phrase: str, first: bool = False) -> str | None:
    """The value that a sentence states: what stands behind its last 'is' or '=', if that is mathematics, else a number."""
    aside = _ASIDE.search(phrase)
    if aside and _NUMBER.search(phrase, 0, aside.start()):
        phrase = phrase[: aside.start()]
    for_what = _FOR_WHAT.search(phrase)
    if for_what and not _SAYS.search(phrase, for_what.end()):
        return for_what[1].strip()
    says = list(_SAYS.finditer(phrase))
    if says:
        rest = _HEDGE.sub("", phrase[says[-1].end() :])
        rest = (_BECAUSE.split(rest, maxsplit=1)[0] or rest).strip(" .*")
        words = [w for w in _LONG_WORD.findall(rest) if w.lower() not in _MATHS_WORDS]
        counted = _COUNTED.match(rest)
        if counted and not is_known(rest[counted.end(1) :]):
            return counted[1].strip()
        if (
            rest
            and len(rest) < 80
            and _BEGINS.match(rest)
            and len(words) <= 1
            and not _OTHER_SCRIPT.search(rest)
        ):
            return rest
    return _number_in(phrase, first)


_IN_TOTAL = re.compile(r"(?:\s+[A-Za-z]+){0,2}\s+(?:in total|in all|altogether)\b", re.IGNORECASE)


def _number_in(phrase: str, first: bool) -> str | None:
    """The number of a sentence: behind the last equals sign or 'is', else the first or the last one."""
    numbers = list(_NUMBER.finditer(phrase))
    if not numbers:
        return None
    for number in reversed(numbers):
        if _IN_TOTAL.match(phrase, number.end()):
            return number.group().strip()
    cut = max(phrase.rfind("="), phrase.rfind("≈"))
    if cut < 0:
        says = list(
            re.finditer(
                rf"\b(?:is|are|equals|of|has|have|had|gives|rounds (?:up |down )?to)\b|\b(?:{_ACTS})\s+(?=[-$€£]?\d)",
                phrase,
            )
        )
        cut = says[-1].end() if says else -1
    behind = [number for number in numbers if number.start() >= cut]
    chosen = behind[0] if behind and (cut >= 0 or first) else numbers[-1]
    return chosen.group().strip()


_CONCLUDES = re.compile(
    r"(?<![A-Za-z])(?:Therefore|Thus|Hence|So|Consequently|In conclusion|Altogether|In total|Finally)\b,?\s+(?!far\b)"
)


def _conclusion(tail: str, wants: str) -> str | None:
    """The answer in the last sentence that draws a conclusion, if only little follows it."""
    found = list(_CONCLUDES.finditer(tail))
    if not found or wants == "text":
        return None
    rest = tail[found[-1].end() :]
    line = rest[: _sentence(rest)]
    if (
        len(rest) - len(line) > 200
        or len(line) > 300
        or _NUMBER.search(rest, len(line))
        or "$" in rest[len(line) :]
    ):
        return None
    spans = list(_SPAN.finditer(line))
    if spans:
        behind = line[spans[-1].end() :]
        if not (_STATES.match(behind) and _NUMBER.search(behind)):
            return _joined_spans(_neighbours(line, spans), wants)
        return _value_in(behind)
    return _value_in(line)


_PRONOUN = re.compile(r"(?:it|this|that|he|she|they|we|there)\s+[a-z]{2,}\s", re.IGNORECASE)
_SAYS_AMOUNT = re.compile(
    r"\b(?:costs?|weighs?|takes?|needs?|pays?|earns?|gets?|has|have|equals?)\s+([-−]?[$€£]?\s?\d[\d,]*(?:\.\d+)?)(?![\d/])"
)


def _without_anchor(text: str, wants: str, sentence: bool) -> Found | None:
    bare = _HEDGE.sub("", re.sub(r"```\w*", "", text).strip().strip("*").strip())
    spans = list(_SPAN.finditer(bare)) if len(bare) <= 2000 else []
    before, after = (bare[: spans[0].start()], bare[spans[-1].end() :]) if spans else ("", "")
    if (
        re.match(r"[A-Za-z]{2,}[^$\\]{0,60}\s$", before)
        and len(_PROSE.findall(after)) < 3
        and wants != "text"
    ):
        if _STATES.match(after) and _NUMBER.search(after):
            return Found(_value_in(after) or after, "last number")
        return Found(_joined_spans(_neighbours(bare, spans), wants), "last maths")
    if wants == "text" and not sentence and is_prose(bare) and len(bare) <= 2000:
        said = _words_in(bare)
        if said:
            return Found(said, "sentence")
    if (
        wants != "text"
        and _PRONOUN.match(bare)
        and not _SENTENCE_END.search(bare.rstrip(" ."))
        and _SAYS_AMOUNT.search(bare)
    ):
        return Found(_SAYS_AMOUNT.findall(bare)[-1].strip(), "last number")
    if wants != "text" and (caption := _CAPTION.match(bare)):
        bare = bare[caption.end() :]
    if (
        len(bare) <= 2000
        and "\n\n" not in bare
        and (not is_prose(bare) or (wants == "text" and len(bare) <= 200))
    ):
        return Found(bare, "whole")
    tail = bare[-4000:]
    closing = _conclusion(tail, wants)
    if closing:
        return Found(closing, "conclusion")
    spans = list(_SPAN.finditer(tail))
    numbers = list(_NUMBER.finditer(tail))
    if wants == "text":
        return (
            Found(_inside(spans[-1]), "last maths")
            if spans
            else Found(bare.splitlines()[-1].strip()[-300:], "last line")
        )
    bold = re.findall(r"\*\*([^*\n]{1,60})\*\*", tail)
    if spans and (
        not numbers
        or numbers[-1].end() <= spans[-1].end()
        or len(_PROSE.findall(tail[spans[-1].end() :])) <= 6
    ):
        inside = _joined_spans(_neighbours(tail, spans), wants)
        percent = "\\%" if re.match(r"\s*(?:%|\\%|percent)", tail[spans[-1].end() :]) else ""
        return Found(inside + percent, "last maths")
    if bold and _NUMBER.search(bold[-1]) and numbers and tail.rfind(bold[-1]) >= 0:
        return Found(
            bold[-1].strip(" :.") if not is_prose(bold[-1]) else _NUMBER.findall(bold[-1])[-1], "bold"
        )
    if numbers:
        value = _value_in(_last_sentence(tail)) if len(bare) <= 2000 else None
        return Found(value or numbers[-1].group().strip(), "last number")
    return None


def _last_sentence(text: str) -> str:
    """The last sentence that holds a digit."""
    pieces = [piece for piece in re.split(r"(?<=[.!?])\s+|\n", text) if any(c.isdigit() for c in piece)]
    return pieces[-1] if pieces else ""


def _words_in(text: str) -> str | None:
    """The words that a sentence answers with: a leading yes or no, or what stands behind its last 'is'."""
    leading = re.match(r"(yes|no|true|false)\b\s*[,.!]", text, re.IGNORECASE)
    if leading:
        return leading[1]
    last = [piece for piece in re.split(r"(?<=[.!?])\s+|\n", text) if piece.strip()][-1]
    says = list(re.finditer(r"\b(?:is|are|was|were|be|on)\s+(?:an?\s+|the\s+)?", last))
    rest = last[says[-1].end() :].strip(" .!*") if says else ""
    return rest if rest and len(rest.split()) <= 4 else None


def find_letter(text: str, choices: tuple[str, ...]) -> Found | None:
    """The letter that a prediction chooses: the last of box and 'answer is', then an option's text, then the closing sentence."""
    text = visible(text)
    best: tuple[int, str, str] | None = None
    box = last_answer(text)
    stated = option_stated(text, choices)
    if stated and (box is None or box.start < stated[0]):
        return Found(stated[1], "option text")
    if box:
        letter = choice_of(box.content, choices) or letter_of(box.content)
        if letter:
            best = (box.start, letter, "box")
    for match in _LETTER_ANSWER.finditer(text, max(0, len(text) - 20_000)):
        chosen: re.Match[str] | None = match
        if _NEGATED.search(text, match.start(), match.start(1)):
            chosen = _BUT_LETTER.match(text, match.end(1))
        if chosen and not _pronoun(text, chosen) and (best is None or match.start() > best[0]):
            best = (match.start(), chosen[1], "answer is")
    if best:
        return Found(best[1], best[2])
    whole = text.strip()
    letter = choice_of(whole, choices) if choices and len(whole) < 2000 else None
    if letter:
        return Found(letter, "option text")
    letter = letter_of(whole) if len(whole) < 400 else None
    if letter:
        return Found(letter, "whole")
    tail = text[-2000:]
    says = [
        m
        for form in (_LETTER_SAYS, _LETTER_IS_RIGHT)
        for m in form.finditer(tail)
        if m[1].isupper() and not _NEGATED.search(tail[: m.start(1)])
    ]
    if says:
        return Found(max(says, key=lambda m: m.start(1))[1], "says")
    anchored = _anchored(text, 0, "text")
    for phrase in (anchored.text if anchored else "", whole if len(whole) < 2000 else ""):
        letter = (letter_of(phrase) or choice_of(phrase, choices)) if phrase else None
        if letter:
            return Found(letter, "option text")
    leading = re.match(r"\s*[(*\[]*([A-Z])[)*\]]*\s*(?:[.,:。、]|$)", whole)
    return Found(leading[1], "leading") if leading else None


def option_stated(text: str, choices: tuple[str, ...]) -> tuple[int, str] | None:
    """Where the last 'answer is' is followed by the whole text of an option, and that option's letter."""
    if not choices:
        return None
    for match in reversed(_last_anchors(text, 0)[-5:]):
        rest = text[match.end() : match.end() + 2000].lstrip(" *:\n")
        for line in (rest.split("\n", 1)[0], rest[: _sentence(rest)]):
            letter = choice_of(line.strip(" .*"), choices) if len(line.strip()) > 1 else None
            if letter:
                return match.start(), letter
    return None


def _pronoun(text: str, match: re.Match[str]) -> bool:
    return (
        match[1] in "AI"
        and bool(re.match(r"\s+[a-z]+", text[match.end(1) : match.end(1) + 20]))
        and text[match.start(1) - 1] not in "([{"
    )
