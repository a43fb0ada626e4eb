"""serve: one teacher server of the run's own; the generation shards are its clients. It ends when they are complete.

It vouches for nothing and leaves nothing behind: a server that is lost is only started again.
"""

from __future__ import annotations

import time

from undo_hpc.engines.service import serve
from undo_hpc.errors import Requeue
from undo_hpc.pipeline.workload import longest
from undo_hpc.stages.context import StageContext
from undo_hpc.stages.targets import planned_prompts, prompts_of, targets_of

LOOK_EVERY_S = 5.0


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
    serve(
        ctx.run.layout.root,
        ctx.plan.iteration,
        ctx.task.index,
        config.generate.engine,
        ctx.run.model("teacher"),
        enough,
        prompts=list(prompts_of(ctx.run, iteration, targets_of(ctx.run, iteration), templates)),
        max_tokens=longest(config.generate.sampling, iteration),
    )
    if not complete():
        raise Requeue("the server stops while generation still needs it")
