"""PURE: what a canary of the teacher has measured, in words, and what of it is too bad for the array to be released."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from undo_hpc.config.canary import CanaryConfig
from undo_hpc.method.metrics import share

Counts = Mapping[str, Any]


def figures(counts: Counts) -> str:
    """A canary's figures from the counts of its manifest."""
    parts = [
        f"{counts['correct']} of {counts['rows']} attempts at {counts['problems']} problems right",
        f"{counts['truncated']} cut off",
    ]
    if counts.get("to_encode"):
        parts.append(
            f"the student's encoding takes {counts['encoded']} of {counts['to_encode']} right rationales"
        )
    if counts.get("seconds"):
        parts.append(f"{counts['new_tokens'] / counts['seconds']:,.0f} tokens/s")
    return ", ".join(parts)


def problems(counts: Counts, wanted: CanaryConfig) -> list[str]:
    """What does not reach the thresholds, each with its key and what may be changed; nothing where all is well."""
    found = []
    rows, limit = counts["rows"], "generate.sampling.max_new_tokens"
    right, cut = share(counts["correct"], rows), share(counts["truncated"], rows)
    if right < wanted.min_right:
        advice = "are the ground truths what you meant (data.train.fields)? Another teacher, prompt or chat template may be needed"
        found.append(f"{_percent(right)} of its attempts are right, below min_right {_percent(wanted.min_right)}: {advice}")  # fmt: skip
    if cut > wanted.max_cut_off:
        found.append(f"{_percent(cut)} of its attempts are cut off, above max_cut_off {_percent(wanted.max_cut_off)}: raise {limit}")  # fmt: skip
    taken = share(counts.get("encoded", 0), counts.get("to_encode", 0))
    if counts.get("to_encode") and taken < wanted.min_encoded:
        advice = "train.max_length, train.too_long and student.reasoning decide what is left out"
        found.append(
            f"the student's encoding takes {_percent(taken)} of its right rationales, below min_encoded {_percent(wanted.min_encoded)}: {advice}"
        )
    speed = counts["new_tokens"] / counts["seconds"] if counts.get("seconds") else None
    if speed is not None and speed < wanted.min_tokens_per_second:
        advice = "undo-hpc probe measures the engine's settings"
        found.append(
            f"the task writes {speed:,.0f} tokens/s, below min_tokens_per_second {wanted.min_tokens_per_second:g}: {advice}"
        )
    return found


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
