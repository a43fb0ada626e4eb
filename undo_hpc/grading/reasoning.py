"""The part of an output that counts, behind the reasoning, before run-on text, without drawings; and its boxes. In linear time."""

from __future__ import annotations

import re
from typing import NamedTuple

from undo_hpc.grading import tables

MAX_TEXT = 200_000
_RUN_ON = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|end_of_text|end|user|assistant|return|call)\|>|</s>|<end_of_turn>|<｜end▁of▁sentence｜>"
    r"|\n(?:Question|Problem|Q|Human|User|### ?Instruction|\*\*Problem)\b[^\n]{0,20}:|\[Note"
)
_LINE = re.compile(r"\n[QPHU#*]")  # how its lines begin
_CALCULATION = re.compile(r"<<[^<>]{1,80}>>")  # the calculator's notes of GSM8K
_SAID = re.compile(r"\\boxed|####|answer", re.IGNORECASE)
# (opening, closing) of reasoning as models write it. The template may have opened it, so the closing mark alone counts, too.
_BLOCKS = tables.rows("reasoning")
_FINAL = ("<|channel|>final<|message|>", "assistantfinal")  # gpt-oss, with its special tokens and without
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*(\{?)|\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"\s*(\\?[$])?\s*(-?\d[\d,]*(?:\.\d+)?|[A-Za-z](?![a-zA-Z]))")
# What may stand between two boxes that together are one answer.
_SPACE = r"(?:[\s,;.$]|\\[,;:!\s\\()\[\]]|\\q?quad|\*\*)*"
_BOXES_JOINED = re.compile(
    rf"{_SPACE}(?:(?:[a-z]{{2,12}}\s+)?(?:\b(?:and|or)\b|[,;]|&)){_SPACE}(?:[A-Za-z](?:_\{{?\w\}}?)?\s*=\s*)?"  # `and $y = \boxed{2}`
    r"(?:(?:the\s+)?(?:second|third|fourth|other|larger|smaller|last)\s+(?:[a-z]{1,12}\s+){0,2}(?:is|are|=)[\s$]*)?"
)
_TEXT_JOINED = re.compile(r"\\(?:text|mbox|textrm)\s*\{[\s,]*(and|or)[\s,]*\}")


def visible(text: str) -> str:
    """The text that counts for the answer: behind the last reasoning block, at most its last 200,000 characters.

    Reads closed blocks, blocks that the template opened (only the closing mark is there), the channels of gpt-oss with or without
    their special tokens, and blocks that were never closed: of those only what stands before them counts, or all where nothing does.
    """
    marked = "<" in text or "[" in text or text.startswith("analysis")
    text = _without_drawings(_behind_reasoning(text)[-MAX_TEXT:]) if marked else text[-MAX_TEXT:]
    text = _CALCULATION.sub("", text) if "<<" in text else text
    if not ("<" in text or "[Note" in text or _LINE.search(text)):
        return text  # nothing of _RUN_ON, whose search takes longer than all the rest
    start = len(text) - len(text.lstrip())
    said: re.Match[str] | None = None
    for number, match in enumerate(_RUN_ON.finditer(text)):
        said = said if number else _SAID.search(text)
        if start < match.start() and (match[0][0] in "<[" or (said and said.end() <= match.start())):
            return text[: match.start()]
    return text


def _behind_reasoning(text: str) -> str:
    if text.startswith(("<|channel|>analysis", "analysis")) or _FINAL[0] in text:
        for mark in _FINAL:
            if mark in text:
                return text.rpartition(mark)[2]
        if text.startswith("<|channel|>"):
            return ""  # cut off before the final channel
    for opening, closing in _BLOCKS:
        before, mark, behind = text.rpartition(closing)
        if mark:
            text = behind if behind.strip() else before.rpartition(opening)[0]
        elif opening in text:
            before, _, behind = text.partition(opening)
            text = before if before.strip() else behind
    return text


def _without_drawings(text: str) -> str:
    """The text without `[asy] ... [/asy]`; a drawing that is never closed stays."""
    out, at = [], 0
    while (start := text.find("[asy]", at)) >= 0 and (end := text.find("[/asy]", start)) >= 0:
        out.append(text[at:start])
        at = end + 6
    return " ".join((*out, text[at:]))


# -- boxes, found by counting braces in one pass
class Box(NamedTuple):
    """The content of a box and where the whole box lies in the text."""

    content: str
    start: int
    end: int


def find_boxes(text: str) -> list[Box]:
    r"""All closed, non-empty, outermost boxes (`\boxed{...}`, `\fbox{...}`, `\boxed 5`). One that is never closed counts for nothing."""
    boxes: list[Box] = []
    stack: list[tuple[int, int] | None] = []  # where a box and its content start; None for a plain brace
    for match in _BOX.finditer(text) if "\\boxed" in text or "\\fbox" in text or "\\framebox" in text else ():
        if match[0] == "{":
            stack.append(None)
        elif match[0] == "}" and stack and (opened := stack.pop()):
            while boxes and boxes[-1].start > opened[0]:
                boxes.pop()
            if content := text[opened[1] : match.start()].strip():
                boxes.append(Box(content, opened[0], match.end()))
        elif match[1] == "{":
            stack.append((match.start(), match.end()))
        elif match[1] == "" and (bare := _BARE.match(text, match.end())):
            boxes.append(Box(bare[0].strip(), match.start(), bare.end()))
    return boxes


def last_answer(text: str) -> Box | None:
    """The last box, together with the neighbours that are joined to it by nothing but 'and', 'or' or commas."""
    boxes = find_boxes(text)
    chosen = boxes[-1:]
    for box in reversed(boxes[:-1]):
        gap = text[box.end : chosen[0].start]
        if len(gap) > 60 or not _BOXES_JOINED.fullmatch(_TEXT_JOINED.sub(r" \1 ", gap)):
            break
        chosen.insert(0, box)
    contents = dict.fromkeys(_unbox(box.content) for box in chosen)
    return Box(", ".join(contents), chosen[0].start, chosen[-1].end) if chosen else None


def _unbox(content: str) -> str:
    """Takes away boxes inside of a box, keeping what is in them."""
    for _ in range(5):
        for box in reversed(find_boxes(content)):
            content = content[: box.start] + box.content + content[box.end :]
    return content
