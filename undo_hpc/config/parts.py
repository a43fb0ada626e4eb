"""PURE: what of the loop a run does, and which models it asks for that. A part alone (`until`) is an ordinary run whose last iteration is cut."""

from __future__ import annotations

from typing import Literal

from undo_hpc.config.schema import RunConfig

Role = Literal["teacher", "student"]
CANARY_PROBLEMS = 16
CANARY_ABOVE = 4  # tasks of an array: more are worth a wait for one task first


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


def canary_problems(config: RunConfig, iteration: int, problems: int, shards: int) -> int:
    """Problems that the teacher answers on one task before an iteration's array is released (`generate.canary`); 0 for none.

    It is tried where it is asked first. Its own servers (`generate.service`) would be started for it, and again for the array: no canary.
    """
    served = config.generate.engine.name == "openai" and config.generate.service
    if iteration != int(has_rationales(config)) or config.method.condition == "ground_truth" or served:
        return 0
    asked = config.generate.canary.problems
    if asked is None:
        real = config.cluster.kind == "slurm" and not config.teacher.model.startswith("tiny:")
        asked = CANARY_PROBLEMS if real and shards > CANARY_ABOVE else 0
    return asked if asked < problems else 0


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
