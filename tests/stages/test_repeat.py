"""An evaluation is repeated in batches of another size: by the same engine, otherwise as before."""

from __future__ import annotations

import json
from pathlib import Path

from tests.observe.synthetic import RunBuilder
from undo_hpc.campaign.definition import REPEATED
from undo_hpc.config.load import load_config
from undo_hpc.records import SPLITS
from undo_hpc.stages import evaluate, repeat
from undo_hpc.stages.repeat import other_batches


def test_only_the_size_of_batches_differs() -> None:
    engine = load_config("tiny", ["evaluate.engine.transformers.max_batch=64"]).evaluate.engine
    again = other_batches(engine)
    assert (again.transformers.max_batch, again.vllm.max_num_seqs, again.openai.concurrency) == (24, 192, 24)
    assert again.name == engine.name and again.transformers.batch_invariant
    least = engine.model_copy(
        update={"transformers": engine.transformers.model_copy(update={"max_batch": 1})}
    )
    assert other_batches(least).transformers.max_batch == 1


def test_answers_are_drawn_by_the_same_seeds(tmp_path: Path) -> None:
    """At a temperature above 0 other seeds give other answers, whatever the batches: what is counted would not be what is said."""
    sets = [
        f"stages.repeat={json.dumps(REPEATED)}", "iterations=1", "display.report=false", "evaluate.baseline=false", "student.prompt=tiny",
        "evaluate.engine.name='tests.chaos.engine:Answers'", "evaluate.engine.options={seconds: 0}", "evaluate.sampling.temperature=0.7",
    ]  # fmt: skip
    built = RunBuilder(tmp_path / "run", problems=10, sets=sets)
    plan = built.plan(0)
    at, graph = built.run.layout.iteration(0), built.graph(plan)
    built.generate(plan)
    built.single(plan, "merge")
    built.train(plan)
    for name, work in {"evaluate": evaluate, "repeat": repeat}.items():
        for task in graph[name].tasks:
            context = built.context(plan, graph[name], task)
            with context.lease:
                work.run_stage(context)
    parts = [part for part in plan.slices("evaluate") if part.problem_set not in SPLITS]
    assert parts
    for part in parts:
        first, again = (
            at.shard(name, part.shard, part.problem_set).read_text()
            for name in graph
            if name in ("evaluate", "repeat")
        )
        assert first == again
