"""The graphs of plans, each built once for all processes of a simulation."""

from __future__ import annotations

from undo_hpc.config.schema import RunConfig
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.plan import IterationPlan, Stage, build_graph


class Graphs:
    """The graph of a plan is built once: it is a matter of the plan alone, and each process reads the same few."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Stage, ...]] = {}

    def build(self, config: RunConfig, layout: Layout, plan: IterationPlan) -> tuple[Stage, ...]:
        """As `build_graph`."""
        key = repr(plan)
        if key not in self._known:
            self._known[key] = build_graph(config, layout, plan)
        return self._known[key]
