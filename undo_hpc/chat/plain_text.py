"""Text that stays text: what looks like a model's control token in a problem, a rationale or a student's answer opens no turn.

A tokenizer finds its special tokens (`<|im_start|>`, `<|eot_id|>`, `[INST]`) wherever they stand in a rendered chat, so a row of the
data, or what a student wrote, could end its turn and begin another. `PlainText.cover` therefore puts a mark into each such token of a
content before the chat template renders it, and `ids_of` cuts there: the two halves are tokenised apart, and become ordinary text. A
chat without such tokens is tokenised exactly as ever. A server tokenises by itself: `neutral` puts an invisible space there instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from undo_hpc.chat.reasoning import MARKS

_CUT = "\ufdd0"  # a noncharacter of Unicode: for a program's own use, never in exchanged text
_INVISIBLE = "\u200b"  # zero width space
# Forms of control tokens that model families use, for counting, and for servers whose tokenizer is not known here.
_FORMS = re.compile(
    r"<\|[^|<>\s]{1,60}\|>|<｜[^｜<>\n]{1,60}｜>|</?(?:start|end)_of_turn>|<(?:start|end)_of_(?:role|text)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS)\]|<<SYS>>|<bos>|<eos>|</s>|<s>"
    r"|<\|(?:turn|tool)>|<(?:turn|tool)\|>"  # Gemma 4
    r"|\[\|(?:system|user|assistant|tool|endofturn|Human|AI|SYS)\|\]"  # EXAONE, BlueLM
    r"|<reserved_\d{1,4}>|\[unused\d{1,4}\]|<[BE]OS_TOKEN>|<_(?:system|user|bot|end)>|<end_of_utterance>|\[SEP\]"
    # Baichuan, openPangu, Cohere, TeleChat, Idefics, YandexGPT
    r"|<role>[A-Z]{3,12}</role>|</?longcat_\w{1,20}>|</?(?:begin|beginning|end)_of_(?:sentence|document)>"  # Ling, LongCat, MiniMax
    r"|<eo[had]>|<TOKENS_UNUSED_\d{1,3}>|<用户>|<AI>"  # the first InternLM, Yuan, MiniCPM
    r"|<seed:[be]os>|<SPECIAL_\d{1,3}>|<extra_id_\d{1,3}>|\]~b\]|\]~!b\[|\[e~\[|<sep>"  # Seed-OSS, Nemotron, MiniMax, Reka
)
_REASONING = frozenset(mark for pair in MARKS for mark in pair)


class PlainText:
    """Covers and tokenises for one tokenizer.

    Args:
        tokens: its added tokens, and whether each is special. Of others only those are covered that have the form of a control token
            (some families do not call theirs special). Those that stand for reasoning are left alone: `chat/reasoning.py` treats them.
    """

    def __init__(self, tokens: Mapping[str, bool]) -> None:
        control = {t for t, special in tokens.items() if special or _FORMS.fullmatch(t)} - _REASONING
        known = sorted(
            (t for t in control if len(t.strip()) > 1 and _CUT not in t), key=lambda t: (-len(t), t)
        )
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    @classmethod
    def of(cls, tokenizer: Any) -> PlainText:
        """For a transformers tokenizer."""
        return cls({str(token.content): token.special for token in tokenizer.added_tokens_decoder.values()})

    def cover(self, text: str) -> str:
        """A content in which each control token holds a mark; the same text where there is none."""
        text = text.replace(_CUT, "")
        if self._pattern is None:
            return text
        return _divided(self._pattern, _CUT, text)


def uncovered(text: str) -> str:
    """A rendered chat without marks, as a person reads it."""
    return text.replace(_CUT, "")


def ids_of(tokenize: Callable[[list[str]], Sequence[list[int]]], texts: Sequence[str]) -> list[list[int]]:
    """Token ids of rendered chats, each cut at its marks.

    Args:
        tokenize: token ids of texts, no special tokens added.
    """
    pieces = [text.split(_CUT) for text in texts]
    found = iter(tokenize([piece for parts in pieces for piece in parts]))
    return [[i for _ in parts for i in next(found)] for parts in pieces]


def control_tokens(text: str) -> list[str]:
    """What looks like a control token of some model, in the order of the text."""
    return _FORMS.findall(text)


def neutral(text: str) -> str:
    """A text in which no server's tokenizer finds a control token: an invisible space stands in each."""
    return _divided(_FORMS, _INVISIBLE, text)


def _divided(tokens: re.Pattern[str], mark: str, text: str) -> str:
    """A mark in each token, also in those that begin where another ends: MiniMax's `]~!b[e~[` is two, and behind a mark in the first
    alone the second would act."""
    while (found := tokens.sub(lambda token: token[0][0] + mark + token[0][1:], text)) != text:
        text = found
    return text
