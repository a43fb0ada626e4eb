"""PURE: whether the loop goes on, and which iteration is the best. Only the validation split is looked at, never a test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from undo_hpc.config.schema import StopConfig

_ROUNDING = 1e-9  # far below one problem of any split: 0.07 - 0.06 is more than 0.01 in floating point


@dataclass(frozen=True)
class Decision:
    """What is to be done after an iteration, and why."""

    action: Literal["continue", "converged", "finished"]
    best_iteration: int
    why: str

    def to_dict(self) -> dict[str, Any]:
        """The decision as it stands in metrics.json."""
        return asdict(self)


def decide_by_sets(history: Sequence[Mapping[str, Any]], stop: StopConfig, max_iterations: int) -> Decision:
    """The decision from the summaries (`sets` of metrics.json) of all iterations so far, oldest first.

    Without a validation split there is nothing to decide by: every iteration runs, and the last stands for the best.
    """
    if any("validation" in sets for sets in history):
        validation = [sets.get("validation", {}).get("accuracy") for sets in history]
        return decide(validation, stop, max_iterations)
    last = len(history) - 1
    if len(history) >= max_iterations:
        return Decision("finished", last, f"{_all_done(max_iterations)}; no validation split tells the best")
    return Decision("continue", last, "no validation split to decide by: every iteration runs")


def decide(validation: Sequence[float | None], stop: StopConfig, max_iterations: int) -> Decision:
    """The decision after the last of the iterations whose validation accuracies (0 to 1) are given, oldest first.

    An iteration gains where it lies by more than epsilon above the last one that gained (at first: iteration 0). `patience`
    iterations in a row without gain end the loop. The best iteration is the first with the highest accuracy. One whose validation nobody
    answered (None, by a policy for evaluate) tells nothing.
    """
    known = {k: accuracy for k, accuracy in enumerate(validation) if accuracy is not None}
    best = max(known, key=lambda k: (known[k], -k))
    peak, *others = known.values()
    without_gain = 0
    for accuracy in others:
        if accuracy - peak > stop.epsilon + _ROUNDING:
            peak, without_gain = accuracy, 0
        else:
            without_gain += 1
    current = len(validation) - 1
    if stop.enabled and without_gain >= stop.patience:
        times = "iteration" if without_gain == 1 else f"{without_gain} iterations"
        why = f"validation did not gain more than {100 * stop.epsilon:g} points over {100 * peak:.1f} % in the last {times}"
        return Decision("converged", best, why)
    if len(validation) >= max_iterations:
        return Decision("finished", best, _all_done(max_iterations))
    now = f"validation {100 * known[current]:.1f} %" if current in known else "validation was not answered"
    if best == current:
        return Decision("continue", best, f"{now}, the best so far")
    return Decision(
        "continue", best, f"{now}; the best so far is {100 * known[best]:.1f} % of iteration {best}"
    )


def _all_done(iterations: int) -> str:
    return "the only iteration is done" if iterations == 1 else f"all {iterations} iterations are done"
