r"""Boxes: `\boxed{...}`, `\fbox{...}` and `\boxed 5`, found by counting braces in one pass."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*(\{?)|\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"\s*(\\?[$])?\s*(-?\d[\d,]*(?:\.\d+)?|[A-Za-z](?![a-zA-Z]))")
# What may stand between two boxes that together are one answer.
_JOINED = re.compile(
    r"(?:[\s,;.$]|\\[,;:!\s\\()\[\]]|\\q?quad|\\(?:text|mbox|textrm)\s*\{[\s,]*(?:and|or)?[\s,]*\}|\*\*)*"
    r"(?:(?:[a-z]{2,12}\s+)?(?:\b(?:and|or)\b|[,;]|&))"
    r"(?:[\s,;$]|\\[,;:!\s\\()\[\]]|\\q?quad|\*\*)*(?:[A-Za-z](?:_\{?\w\}?)?\s*=\s*)?"  # `and $y = \boxed{2}`
    r"(?:(?:the\s+)?(?:second|third|fourth|other|larger|smaller|last)\s+(?:[a-z]{1,12}\s+){0,2}(?:is|are|=)[\s$]*)?"
)
_TEXT_JOINED = re.compile(r"\\(?:text|mbox|textrm)\s*\{[\s,]*(and|or)[\s,]*\}")
_GAP = 60


@dataclass(frozen=True, slots=True)
class Box:
    """The content of a box and where the whole box lies in the text."""

    content: str
    start: int
    end: int


def find_boxes(text: str) -> list[Box]:
    """All closed, non-empty, outermost boxes in their order. A box that is never closed counts for nothing."""
    boxes: list[Box] = []
    stack: list[
        tuple[int, int] | None
    ] = []  # (start of the command, start of the content) or None for a plain brace
    if "\\boxed" not in text and "\\fbox" not in text and "\\framebox" not in text:
        return boxes
    for match in _TOKEN.finditer(text):
        piece = match.group()
        if piece == "{":
            stack.append(None)
        elif piece == "}":
            opened = stack.pop() if stack else None
            if opened is not None:
                content = text[opened[1] : match.start()].strip()
                while boxes and boxes[-1].start > opened[0]:
                    boxes.pop()
                if content:
                    boxes.append(Box(content, opened[0], match.end()))
        elif match.group(1) == "{":
            stack.append((match.start(), match.end()))
        elif match.group(1) == "":
            bare = _BARE.match(text, match.end())
            if bare:
                boxes.append(Box(bare.group().strip(), match.start(), bare.end()))
    return boxes


def last_answer(text: str) -> Box | None:
    """The last box, together with the neighbours that are joined to it by nothing but 'and', 'or' or commas."""
    boxes = find_boxes(text)
    if not boxes:
        return None
    chosen = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        gap = text[box.end : chosen[0].start]
        if len(gap) > _GAP or not _JOINED.fullmatch(_TEXT_JOINED.sub(r" \1 ", gap)):
            break
        chosen.insert(0, box)
    if len(chosen) == 1:
        return Box(unbox(boxes[-1].content), boxes[-1].start, boxes[-1].end)
    contents = list(dict.fromkeys(unbox(box.content) for box in chosen))
    return Box(", ".join(contents), chosen[0].start, chosen[-1].end)


def unbox(content: str) -> str:
    """Takes away boxes inside of a box, keeping what is in them."""
    if "\\boxed" not in content and "\\fbox" not in content:
        return content
    out: list[str] = []
    kept: list[bool] = []
    last = 0
    for match in _TOKEN.finditer(content):
        piece = match.group()
        if piece == "{":
            kept.append(True)
        elif piece == "}":
            if kept and not kept.pop():
                out.append(content[last : match.start()])
                last = match.end()
        elif match.group(1) is not None:
            out.append(content[last : match.start()])
            last = match.end()
            if match.group(1) == "{":
                kept.append(False)
    out.append(content[last:])
    return "".join(out).strip()
