"""The stages of an iteration, one a file. Each reads its inputs' manifests, does its work, and writes its own manifest last."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from undo_hpc.config.schema import RunConfig
from undo_hpc.pipeline.stages import STAGES, stage_entry
from undo_hpc.system.plugins import load_object, require_call

if TYPE_CHECKING:
    from undo_hpc.stages.context import StageContext

GROUP = "undo_hpc.stages"  # of entry points


def load_stage(config: RunConfig, name: str) -> Callable[[StageContext], None]:
    """What does the work of a stage: `run_stage` of its module, or what the configuration registers.

    Raises:
        ConfigError: a stage of the user's that cannot be imported, or cannot be called with a context.
    """
    key = f"stages.{name}.module" if name not in STAGES else name
    found = load_object(stage_entry(config, name), group=GROUP, key=key, attribute="run_stage")
    return require_call(found, "ctx", key=key, what="run_stage")
