"""serve: one teacher server of the run's own; the generation shards are its clients. It ends when they are complete.

It has no manifest and leaves nothing behind: a server that is lost is only started again.
"""

from __future__ import annotations

import heapq
import time

from undo_hpc.engines.service import serve
from undo_hpc.errors import Requeue
from undo_hpc.pipeline.workload import longest
from undo_hpc.stages.context import StageContext
from undo_hpc.stages.targets import Targets, planned_prompts, prompt_of

LOOK_EVERY_S = 5.0
LONGEST_PROMPTS = 256  # that the engine measures in tokens, to know its context length


def run_stage(ctx: StageContext) -> None:
    """Serves until all shards of generate are complete.

    Raises:
        Requeue: asked to stop while clients still need it.
        EngineError: the server does not come up, or dies.
    """
    shards = ctx.graph["generate"].tasks
    last_look = 0.0

    def complete() -> bool:
        return all((ctx.run.layout.root / task.manifest).exists() for task in shards)

    def enough() -> bool:
        nonlocal last_look
        if ctx.should_stop():
            return True
        if time.monotonic() - last_look < LOOK_EVERY_S:
            return False
        last_look = time.monotonic()
        return complete()

    if complete():
        return
    config, iteration = ctx.run.config, ctx.plan.iteration
    templates = planned_prompts(ctx.plan, "generate", config.teacher.prompt)
    asked = (prompt_of(t, templates, config.teacher.instruction) for t in Targets(ctx.run, iteration))
    ctx.before_loading("teacher")
    serve(
        ctx.run.layout.root,
        ctx.plan.iteration,
        ctx.task.index,
        config.generate.engine,
        ctx.run.model("teacher"),
        enough,
        prompts=heapq.nlargest(LONGEST_PROMPTS, asked, key=len),
        max_tokens=longest(config.generate.sampling, iteration),
    )
    if not complete():
        raise Requeue("the server stops while generation still needs it")
