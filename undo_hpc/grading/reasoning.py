"""The part of an output that counts: behind the reasoning, before run-on text, without drawings. Linear in the text's length."""

from __future__ import annotations

import re

MAX_TEXT = 200_000
_RUN_ON = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|end_of_text|end|user|assistant|return|call)\|>|</s>|<end_of_turn>|<｜end▁of▁sentence｜>"
    r"|\n(?:Question|Problem|Q|Human|User|### ?Instruction|\*\*Problem)\b[^\n]{0,20}:|\[Note"
)
_CALCULATION = re.compile(r"<<[^<>]{1,80}>>")  # the calculator's notes of GSM8K
_SAID = re.compile(r"\\boxed|####|answer", re.IGNORECASE)
# (opening, closing) of reasoning as models write it. The template may have opened it, so the closing mark alone counts, too.
_BLOCKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<seed:think>", "</seed:think>"),
)
_FINAL = ("<|channel|>final<|message|>", "assistantfinal")  # gpt-oss, with its special tokens and without


def visible(text: str) -> str:
    """The text that counts for the answer: behind the last reasoning block, at most its last 200,000 characters.

    Reads closed blocks, blocks that the template opened (only the closing mark is there), the channels of gpt-oss with or without
    their special tokens, and blocks that were never closed: of those only what stands before them counts, or all where nothing does.
    """
    text = _without_drawings(_behind_reasoning(text)[-MAX_TEXT:])
    text = _CALCULATION.sub("", text) if "<<" in text else text
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
