"""Reasoning in a model's text: the forms that model families write it in, and one normal form.

The normal form is `<think>\\nREASONING\\n</think>\\n\\nANSWER`; a text without reasoning is the answer alone. Engines return it,
rows keep it, and the student's side splits it again. Sources: the model cards and chat templates of the families named below, and
OpenAI's description of the harmony format (analysis, commentary and final channels).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

THINK = ("<think>", "</think>")
# Opening and closing mark; `<think>` is what most families write (Qwen, DeepSeek, GLM, Nemotron, SmolLM, Phi).
MARKS = (
    THINK,
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A reasoning
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),  # Reka
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("◁think▷", "◁/think▷"),  # Kimi
)
HARMONY_REASONING, HARMONY_ANSWER = "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"
HARMONY_NEXT = "<|end|><|start|>assistant"
_HARMONY = frozenset(
    ("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|return|>", "<|call|>", "<|constrain|>")
)
_AROUND_ANSWER = ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|begin_of_solution|>", "<|end_of_solution|>")
_BLOCK_TOKENS = frozenset((*(mark for pair in MARKS for mark in pair), "<|channel>", *_AROUND_ANSWER))

_CHANNEL = re.compile(
    r"<\|channel\|>\s*(?P<name>\w++)[^<]*+(?:<\|constrain\|>[^<]*+)?<\|message\|>"
    r"(?P<text>.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
_BETWEEN_CHANNELS = re.compile(r"<\|(?:end|return|call)\|>|<\|start\|>assistant(?: to=\S+)?")
# What is left of channels where a server dropped the special tokens.
_BARE_CHANNELS = re.compile(
    r"\s*analysis(?P<reasoning>.*?)assistant(?:commentary.*?assistant)?final(?P<answer>.*)\Z", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Parts:
    """A text split into reasoning and answer; `flaw` says why it is not one block of reasoning followed by an answer."""

    reasoning: str
    answer: str
    flaw: str = ""


def split(text: str) -> Parts:
    """Reasoning and answer of a whole completion, in whichever form it has.

    A block may lack its opening mark (the prompt held it). A text without any mark is the answer, unchanged.
    """
    if "<|channel|>" in text:
        return _split_channels(text)
    if "assistantfinal" in text and (
        bare := _BARE_CHANNELS.match(text)
    ):  # without it the search takes its square
        return _checked(bare["reasoning"].strip(), bare["answer"].strip(), "")
    opening, closing = _marks_of(text)
    if not opening:
        return Parts("", text)
    body = text.lstrip()
    if body.startswith(opening):
        body = body.removeprefix(opening)
    elif 0 <= text.find(opening) < text.find(closing) or closing not in text:
        return Parts("", text, "its reasoning begins behind other text")
    reasoning, found, answer = body.partition(closing)
    if not found:
        return Parts(reasoning.strip(), "", "its reasoning has no end")
    for mark in _AROUND_ANSWER:
        answer = answer.replace(mark, "")
    return _checked(reasoning.strip(), answer.strip(), "")


def join(reasoning: str, answer: str, marks: tuple[str, str] = THINK) -> str:
    """Both parts in the normal form, or in that of other marks (Magistral writes no line breaks around its own)."""
    opening, closing = marks
    if not reasoning:
        return answer
    if opening == "[THINK]":
        return f"{opening}{reasoning}{closing}{answer}"
    return f"{opening}\n{reasoning}\n{closing}\n\n{answer}"


def normal_form(text: str, opened: str = "") -> str:
    """A completion in the normal form; a text without reasoning marks, or that begins with a `<think>` block, stays as it is.

    Args:
        opened: what `opened_by` found at the end of the prompt: the completion then begins inside the reasoning.
    """
    whole = text if opened and text.lstrip().startswith(opened.strip()) else opened + text
    if whole.lstrip().startswith(THINK[0]):
        return whole
    parts = split(whole)
    if not parts.flaw:
        return join(parts.reasoning, parts.answer)
    return f"{THINK[0]}\n{parts.reasoning}" if parts.reasoning and not parts.answer else whole


def opened_by(prompt: str) -> str:
    """The end of a rendered prompt that opens a block of reasoning, such as `<think>\\n`; empty where it opens none."""
    end = prompt.rstrip()
    for opening in (*(pair[0] for pair in MARKS), HARMONY_REASONING):
        if end.endswith(opening):
            return prompt[len(end) - len(opening) :]
    return ""


def turned_off_by(prompt: str) -> bool:
    """Whether a rendered prompt ends behind a closed block: the template tells the model not to reason."""
    end = prompt.rstrip()
    return any(end.endswith(closing) for _, closing in MARKS) or end.endswith(HARMONY_ANSWER)


def reasoning_tokens(special: Collection[str]) -> frozenset[str]:
    """The special tokens of a tokenizer that separate reasoning from answer: decoding must keep them."""
    return _BLOCK_TOKENS.union(_HARMONY if "<|channel|>" in special else ()).intersection(special)


def form_of(template: str) -> tuple[str, str]:
    """The marks that a chat template's text mentions; `<think>` where it mentions none, HARMONY_REASONING and what follows it for channels."""
    if "<|channel|>" in template:
        return HARMONY_REASONING, HARMONY_NEXT + HARMONY_ANSWER
    return next((pair for pair in MARKS if any(mark in template for mark in pair)), THINK)


def _marks_of(text: str) -> tuple[str, str]:
    """The pair whose mark comes first in the text; empty strings where there is none."""
    found = [(place, pair) for pair in MARKS for mark in pair if (place := text.find(mark)) >= 0]
    return min(found)[1] if found else ("", "")


def _split_channels(text: str) -> Parts:
    reasoning: list[str] = []
    answer: list[str] = []
    at, flaw = 0, ""
    for channel in _CHANNEL.finditer(text):
        if _BETWEEN_CHANNELS.sub("", text[at : channel.start()]).strip():
            flaw = "it has text outside of its channels"
        (answer if channel["name"] == "final" else reasoning).append(channel["text"].strip())
        at = channel.end()
    if _BETWEEN_CHANNELS.sub("", text[at:]).strip():
        flaw = "it has text outside of its channels"
    if not answer:
        flaw = flaw or "its reasoning has no end"
    return _checked("\n\n".join(filter(None, reasoning)), "\n\n".join(answer), flaw)


def _checked(reasoning: str, answer: str, flaw: str) -> Parts:
    """The parts, with a flaw where marks are left in them."""
    left = any(mark in part for pair in MARKS for mark in pair for part in (reasoning, answer))
    return Parts(reasoning, answer, flaw or ("its reasoning marks do not form one block" if left else ""))
