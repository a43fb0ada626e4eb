"""PURE: figures and settings as people read them, in the same words in every view. What they are is defined in `method.metrics`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from undo_hpc.config.schema import RunConfig, SamplingConfig
from undo_hpc.method.metrics import beats_untrained, best_validation, rows_learned, share
from undo_hpc.system.wording import counted, percentage

NONE_BEATS_UNTRAINED = "no iteration beats the untrained student on validation"


def chosen_word(history: Sequence[Mapping[str, Any]]) -> str:
    """What the iteration is called that the run's decision names: best, chosen (where it does not beat the untrained student), or last (where
    no validation has chosen any)."""
    if best_validation(history) is None:
        return "last"
    return "chosen" if beats_untrained(history) is False else "best"


def percent(k: int, n: int, digits: int = 0) -> str:
    """k of n in per cent."""
    return f"{percentage(share(k, n), digits)} %"


def accuracy(item: Mapping[str, Any]) -> str:
    """An accuracy with its 95 % interval: `45.0 % [38.3, 51.9]`."""
    return f"{percentage(item['accuracy'], 1)} % [{100 * item['low']:.1f}, {100 * item['high']:.1f}]"


def learned(train: Mapping[str, Any], distilled: Mapping[str, Any]) -> str:
    """`38 rows learned`, or `4 of 38 rows learned (34: longer than max_length (40))`."""
    number, given = rows_learned(train, distilled)
    if number == given:
        return f"{counted(number, 'row')} learned"
    reasons = "; ".join(f"{count:,}: {reason}" for reason, count in train.get("rows_left_out", {}).items())
    return f"{number:,} of {counted(given, 'row')} learned ({reasons or 'reasons unknown'})"


def evaluation_settings(config: RunConfig) -> str:
    """How the student answers: temperature, samples, limits. These decide what an accuracy means."""
    settings = config.evaluate

    def drawn(name: str) -> str:
        samples, sampling = settings.asked(name)
        return f"{_drawn(sampling)}, {counted(samples, 'sample')} a problem"

    text = f"{drawn('')}, {_limit(settings.sampling)}"
    if settings.limit:
        text += f", first {counted(settings.limit, 'problem')} of each benchmark"
    for name, added in settings.added.items():
        parts = [drawn(name)] if drawn(name) != drawn("") else []
        if added.limit != settings.limit:
            parts.append(f"first {counted(added.limit, 'problem')}" if added.limit else "all problems")
        text += f"; {name}: {', '.join(parts)}" if parts else ""
    return text


def generation_settings(config: RunConfig) -> str:
    """How the teacher answers."""
    settings = config.generate
    attempts = f"{counted(settings.samples, 'sample')} a problem"
    if settings.max_attempts > settings.samples:
        attempts += f", up to {settings.max_attempts} attempts until one is right"
        if settings.retry_temperature_step:
            attempts += f" (temperature +{settings.retry_temperature_step:g} with each)"
    return ", ".join([_drawn(settings.sampling), attempts, _limit(settings.sampling)])


def figures_left_out(ends: tuple[int, str] | None) -> list[str]:
    """What is said of the first iteration whose figures do not hold (`control.finished.left_out`); nothing where all do."""
    if ends is None:
        return []
    return [f"figures from iteration {ends[0]} on are left out until the run is resumed ({ends[1]})"]


def told_rationales(counts: Mapping[str, Any]) -> str:
    """What became of the rows of `data.rationales`: how many fit, and why others do not."""
    problems, rows = int(counts["problems"]), int(counts["rows"])
    others = {
        "of problems that the run holds out": counts["held_out"],
        "of problems that the run does not have": counts["unknown"],
        "without a problem or a rationale": counts["unusable"],
        "twice": counts["twice"],
    }
    used = rows - sum(others.values())
    left = "; ".join(f"{number:,} {what}" for what, number in others.items() if number)
    return f"{used:,} of {counted(rows, 'row')}, for {counted(problems, 'training problem')}" + (
        f" (not used: {left})" if left else ""
    )


def _drawn(sampling: SamplingConfig) -> str:
    if not sampling.temperature:
        return "greedy (temperature 0)"
    top = [f"top_p {sampling.top_p:g}"] * (sampling.top_p < 1) + [f"top_k {sampling.top_k}"] * (
        sampling.top_k > 0
    )
    return f"temperature {sampling.temperature:g}" + (f" ({', '.join(top)})" if top else "")


def _limit(sampling: SamplingConfig) -> str:
    limits = sorted(({0: sampling.max_new_tokens} | sampling.max_new_tokens_by_iteration).items())
    later = "".join(f", {limit:,} from iteration {number}" for number, limit in limits[1:])
    return f"at most {limits[0][1]:,} new tokens{later}"


def in_flight(progress: dict[str, Any]) -> str:
    """Requests under way, and the tokens that they have so far where the engine tells: '12 under way (1,840 tokens)'."""
    if not progress.get("under_way"):
        return ""
    tokens = progress.get("writing")
    return f"{progress['under_way']:,} under way" + (f" ({tokens:,} tokens)" if tokens else "")
