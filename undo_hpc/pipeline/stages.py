"""PURE: the stages of a run: THE table (config/stages.py, for the configuration's keys derive from it too) and what the user registers."""

from __future__ import annotations

from undo_hpc.config.schema import RunConfig, StageConfig, StageResources
from undo_hpc.config.stages import (
    LAST_STAGE,
    RESUBMITTING_STAGES,
    ROW_STAGES,
    STAGES,
    StageSpec,
    followers,
    spec_of,
)

__all__ = [
    "LAST_STAGE",
    "RESUBMITTING_STAGES",
    "ROW_STAGES",
    "STAGES",
    "StageSpec",
    "followers",
    "is_graded",
    "ordered_own_stages",
    "resources_of",
    "spec_of",
    "stage_entry",
]


def resources_of(config: RunConfig, stage: str) -> StageResources:
    """What the configuration says that a task of a stage needs."""
    given = [config.cluster.resources.get(name) for name in (spec_of(stage).resources_of, stage)]
    return StageResources(
        **{k: v for layer in given if layer for k, v in layer.model_dump(exclude_none=True).items()}
    )


def is_graded(config: RunConfig, stage: str) -> bool:
    """Whether a stage's rows are answers that one checker judges and `regrade` judges again; so are those of the stage that campaigns register."""
    return spec_of(stage).graded or stage_entry(config, stage) == "undo_hpc.stages.repeat"


def stage_entry(config: RunConfig, stage: str) -> str:
    """Where a stage's `run_stage` is: a module of the table, or what the configuration registers."""
    return STAGES[stage].module if stage in STAGES else config.stages[stage].module or stage


def ordered_own_stages(config: RunConfig) -> list[tuple[str, StageConfig]]:
    """The user's stages, each behind those that it follows."""
    waiting, found = dict(config.stages), []
    while waiting:
        name = next(name for name, own in waiting.items() if not set(own.after) & waiting.keys())
        found.append((name, waiting.pop(name)))
    return found
