"""A stage that campaigns register: the student of an iteration answers the benchmarks again, in batches of another size.

Greedy answers should be the same. Where they are not, as many differ by nothing but the composition of batches: no difference
between two students that small means anything.
"""

from __future__ import annotations

from undo_hpc.config.schema import EngineConfig
from undo_hpc.records import SPLITS
from undo_hpc.stages.context import StageContext
from undo_hpc.stages.evaluate import answer_slices


def run_stage(ctx: StageContext) -> None:
    """Answers this task's share of the slices of all benchmarks. Raises as `evaluate.run_stage`."""
    slices = [part for task in ctx.plan.evaluate for part in task if part.problem_set not in SPLITS]
    mine = slices[ctx.task.index :: len(ctx.stage.tasks)]
    answer_slices(ctx, mine, other_batches(ctx.run.config.evaluate.engine))


def other_batches(engine: EngineConfig) -> EngineConfig:
    """The same engine with batches of three eighths of the size."""

    def fewer(rows: int) -> int:
        return max(1, rows * 3 // 8)

    return engine.model_copy(
        update={
            "transformers": engine.transformers.model_copy(
                update={"max_batch": fewer(engine.transformers.max_batch)}
            ),
            "vllm": engine.vllm.model_copy(update={"max_num_seqs": fewer(engine.vllm.max_num_seqs)}),
            "openai": engine.openai.model_copy(update={"concurrency": fewer(engine.openai.concurrency)}),
        }
    )
