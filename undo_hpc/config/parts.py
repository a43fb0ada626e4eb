"""PURE: what of the loop a run does, and which models it asks for that. A part alone (`until`) is an ordinary run whose last iteration is cut."""

from __future__ import annotations

from typing import Literal

from undo_hpc.config.schema import RunConfig

Role = Literal["teacher", "student"]


def refines(config: RunConfig) -> bool:
    """Whether there are iterations after the first: the controls `one_shot` and `ground_truth` have none where text is the signal."""
    return config.method.condition not in ("one_shot", "ground_truth") or config.method.signal == "on_policy"


def effective_iterations(config: RunConfig) -> int:
    """Iterations at most: one where the condition never refines."""
    return config.iterations if refines(config) else 1


def ends_behind(config: RunConfig, iteration: int) -> str:
    """The stage that an iteration ends behind; empty for a whole one. Only the last iteration is cut."""
    return config.until if iteration == effective_iterations(config) - 1 else ""


def has_rationales(config: RunConfig) -> bool:
    """Whether the rationales of iteration 0 are given: the data's own solutions (`ground_truth`), or those of `data.rationales`."""
    given = config.data.rationales
    return config.method.condition == "ground_truth" or bool(given.path or given.hub or given.run)


def only_evaluates(config: RunConfig) -> bool:
    """Whether nothing is taught: a model answers benchmarks, and training problems are not needed."""
    return effective_iterations(config) == 1 and config.until == "baseline"


def asks(config: RunConfig, role: Role) -> bool:
    """Whether the run ever asks its teacher, or its student."""
    once = effective_iterations(config) == 1
    if role == "student":
        return not (once and config.until in ("generate", "merge"))
    scores = config.method.signal != "text"  # the teacher is read, whoever wrote
    return not only_evaluates(config) and (scores or not (once and has_rationales(config)))
