"""PURE: figures and settings as people read them, in the same words in every view. What they are is defined in `method.metrics`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from undo_hpc.config.schema import RunConfig
from undo_hpc.method.metrics import rows_learned, share
from undo_hpc.system.wording import counted

NONE_BEATS_UNTRAINED = "no iteration beats the untrained student on validation"


def percent(k: int, n: int, digits: int = 0) -> str:
    """k of n in per cent."""
    return f"{100 * share(k, n):.{digits}f} %"


def accuracy(item: Mapping[str, Any]) -> str:
    """An accuracy with its 95 % interval: `45.0 % [38.3, 51.9]`."""
    return f"{100 * item['accuracy']:.1f} % [{100 * item['low']:.1f}, {100 * item['high']:.1f}]"


def learned(train: Mapping[str, Any], distilled: Mapping[str, Any]) -> str:
    """`38 rows learned`, or `4 of 38 rows learned (34: longer than max_length (40))`."""
    number, given = rows_learned(train, distilled)
    if number == given:
        return f"{counted(number, 'row')} learned"
    reasons = "; ".join(f"{count:,}: {reason}" for reason, count in train.get("rows_left_out", {}).items())
    return f"{number:,} of {counted(given, 'row')} learned ({reasons or 'reasons unknown'})"


def evaluation_settings(config: RunConfig) -> str:
    """How the student answers: temperature, samples, limits. These decide what an accuracy means."""
    settings, sampling = config.evaluate, config.evaluate.sampling
    drawn = "temperature 0 (greedy)"
    if sampling.temperature:
        top = [f"top_p {sampling.top_p:g}"] * (sampling.top_p < 1) + [f"top_k {sampling.top_k}"] * (
            sampling.top_k > 0
        )
        drawn = f"temperature {sampling.temperature:g}" + (f" ({', '.join(top)})" if top else "")
    limits = {0: sampling.max_new_tokens} | sampling.max_new_tokens_by_iteration
    first, *later = sorted(limits.items())
    most = f"at most {first[1]:,} new tokens"
    most += "".join(f", {limit:,} from iteration {number}" for number, limit in later)
    parts = [drawn, f"{counted(settings.samples, 'sample')} a problem", most]
    if settings.limit:
        parts.append(f"first {counted(settings.limit, 'problem')} of each benchmark")
    return ", ".join(parts)
