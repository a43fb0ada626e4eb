"""An iteration in the shapes that others read: lm-evaluation-harness's results, and the `messages` chat format by option."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from undo_hpc.config.parts import ends_behind
from undo_hpc.data.cards import benchmark_details
from undo_hpc.data.formats import llama_factory_info, lm_eval_file_names, lm_eval_results, lm_eval_samples
from undo_hpc.observe.training_sets import rows_of
from undo_hpc.pipeline.run import Run
from undo_hpc.prompts import load_prompts
from undo_hpc.records import SPLITS, Attempt
from undo_hpc.stages.answered_problems import counted_slices
from undo_hpc.storage.atomic import write_bytes, write_json
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.storage.shards import dump_rows, read_rows


def write_chat(run: Run, iteration: int) -> Path:
    """iter_N/chat.jsonl: the distilled set as conversations, with the prompt that the student is trained on.

    The dataset_info.json beside it describes it to LLaMA-Factory as the dataset `undo` of the folder iter_N.

    Raises:
        DataError: there is no distilled set yet.
    """
    at = run.layout.iteration(iteration)
    write_bytes(at.chat, chat_bytes(run, iteration))
    write_json(at.chat.with_name("dataset_info.json"), llama_factory_info("undo", at.chat.name))
    return at.chat


def chat_bytes(run: Run, iteration: int) -> bytes:
    """What `write_chat` writes. Raises DataError where there is no distilled set yet."""
    return dump_rows(rows_of(run, iteration))


def write_lm_eval(run: Run, iteration: int) -> Path | None:
    """iter_N/lm_eval/STUDENT/results_*.json and samples_*.jsonl of the benchmarks; None where there is no benchmark.

    Raises:
        StorageError: a shard is damaged.
    """
    config, at = run.config, run.layout.iteration(iteration)
    plan, manifest = run.plan(iteration), read_manifest(at.stage_manifest("advance"))
    if plan is None:
        return None
    benchmarks = benchmark_details(run)
    prompts = load_prompts(config.student.prompt)

    def drawn(name: str) -> dict[str, Any]:
        return config.evaluate.asked(name)[1].model_dump(mode="json")

    samples = {}
    stage = "baseline" if ends_behind(config, iteration) == "baseline" else "evaluate"
    parts = [part for part in counted_slices(run, iteration, stage) if part.problem_set not in SPLITS]
    for name in dict.fromkeys(part.problem_set for part in parts):
        paths = [at.shard(stage, part.shard, name) for part in parts if part.problem_set == name]
        rows = [row for path in paths if path.exists() for row in read_rows(path)]
        problems = run.problems(name)
        samples[name] = lm_eval_samples(
            problems,
            [Attempt.from_dict(row) for row in rows],
            prompts={p.problem_id: prompts.student(p.problem, config.student.instruction) for p in problems},
            generation=drawn(name),
        )
    if not samples:
        return None
    model = f"{config.name}/{'untrained' if stage == 'baseline' else f'iteration_{iteration:03d}'}"
    when = datetime.fromtimestamp(manifest.finished if manifest else at.metrics.stat().st_mtime, UTC)
    results = lm_eval_results(
        samples,
        model=model,
        titles={name: str(benchmarks.get(name, {}).get("title") or name) for name in samples},
        sizes={name: int(benchmarks.get(name, {}).get("of") or len(rows)) for name, rows in samples.items()},
        generation=drawn(""),
        by_task={name: drawn(name) for name in samples},
        started=when,
        seed=config.seed,
        limit=config.evaluate.limit,
        engine=config.evaluate.engine.name,
        git_hash=str(run.environment.get("git", "")),
    )
    shutil.rmtree(at.lm_eval, ignore_errors=True)
    path = at.lm_eval / lm_eval_file_names(model, "", when)[0]
    write_json(path, results)
    for name, rows in samples.items():
        write_bytes(at.lm_eval / lm_eval_file_names(model, name, when)[1], dump_rows(rows))
    return path
