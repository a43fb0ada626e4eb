"""Whether a rationale is good enough to learn from: pure, and every reason to drop it has a name that the manifest
counts.
"""

from __future__ import annotations

import re
from functools import cache

from undo_hpc.chat.plain_text import control_tokens
from undo_hpc.chat.reasoning import normal_form
from undo_hpc.config.schema import QualityConfig
from undo_hpc.records import FinishReason, Verdict

REASONS = ("error", "wrong", "truncated", "leak", "control_token", "too_short", "too_long", "repetition")

# A rationale that speaks of what only the teacher saw teaches the student to speak of it too.
_LEAKS = (
    r"(?:the|this|a) (?:given|provided|reference|expected|stated|supplied) (?:final )?(?:answer|solution)\b",
    r"(?:correct|right|final) answer (?:is|was|has been) (?:given|provided|known)\b",
    r"(?:answer|solution) (?:that )?(?:is |was )?(?:given|provided) (?:above|in the prompt)\b",
    r"ground[- ]truth\b",
    r"(?:the|this|that) student(?:'s|’s)?\b",
    r"(?:the|this|that) (?:learner|attempt)(?:'s|’s)?\b",
    r"(?:previous|earlier|old|original) (?:solution|rationale|attempt|explanation)\b",
    r"solution used so far\b",
)
_SENTENCE_END = re.compile(r"\n+|(?<=[.!?])\s+")


def assess(
    text: str, *, verdict: Verdict, finish_reason: FinishReason, config: QualityConfig, problem: str = ""
) -> tuple[str, ...]:
    """The reasons to drop a rationale, in the order of `REASONS`; empty where it is kept.

    Args:
        text: the rationale.
        problem: its problem. A word of the problem is no leak ("the student" in a problem about students).
    """
    if finish_reason == "error":
        return ("error",)
    found = {
        "wrong": verdict != "correct",
        "truncated": config.drop_truncated and finish_reason == "length",
        "leak": config.drop_leaks and leaks(text, problem, tuple(config.leak_phrases)),
        "control_token": config.drop_control_tokens
        and not set(control_tokens(normal_form(text))) <= set(control_tokens(problem)),
        "too_short": len(text.strip()) < config.min_chars,
        "too_long": 0 < config.max_chars < len(text.strip()),
        "repetition": repeated_share(text) > config.max_repeated_lines,
    }
    return tuple(reason for reason, applies in found.items() if applies)


def leaks(text: str, problem: str = "", further: tuple[str, ...] = ()) -> bool:
    """Whether a text speaks of the given answer, the student, or one of the `further` phrases, and the problem does
    not.
    """
    text, problem = _plain(text), _plain(problem)
    return any(match[0] not in problem for match in _leak_pattern(further).finditer(text))


def repeated_share(text: str) -> float:
    """Share of the lines and sentences that stood there before, 0 to 1; a model caught in a loop comes near 1."""
    lines = [line for line in (_plain(part) for part in _SENTENCE_END.split(text)) if line]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


@cache
def _leak_pattern(further: tuple[str, ...]) -> re.Pattern[str]:
    phrases = [re.escape(_plain(phrase)) for phrase in further if phrase.strip()]
    return re.compile("|".join([r"\b(?:" + "|".join(_LEAKS) + ")", *phrases]))
