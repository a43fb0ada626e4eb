"""The cards (README.md) of what a run publishes. The same run always gives the same card: no times, no host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from undo_hpc import __version__
from undo_hpc.run import Run
from undo_hpc.storage.atomic import read_json
from undo_hpc.storage.manifest import Manifest

FIELDS = {
    "id": "stable id of the problem, from its text",
    "idx": "row of the problem in its source",
    "problem": "the problem",
    "teacher_solution": "the teacher's rationale",
    "gt": "ground truth",
    "iteration": "iteration that the rationale was written in",
    "attempt": "number of the teacher's attempt",
    "style": "plain (first rationale) or refine (written in view of the student's error)",
    "verdict": "the checker's word on the rationale's answer",
    "completion_tokens": "length of the rationale in the teacher's tokens",
    "source": "where the problem comes from",
}


def source_licence(run: Run) -> str:
    """Licence of the training problems, as the source states it."""
    prepared = read_json(run.layout.prepared) if run.layout.prepared.exists() else {}
    return str(prepared.get("details", {}).get("train_source", {}).get("licence", "")) or "unknown"


def front_matter(data: dict[str, Any]) -> str:
    """The YAML head that the Hub reads."""
    return "---\n" + yaml.safe_dump(data, sort_keys=False, allow_unicode=True) + "---\n"


def distilled_card(run: Run, iteration: int, shards: Sequence[Manifest], counts: Mapping[str, Any]) -> str:
    """Card of a distilled set: fields, counts, yield, licence, and the command that makes it again.

    Args:
        shards: manifests of the iteration's generation.
        counts: of the merge: `rows`, `refreshed`, `carried`, and `dropped` by reason.
    """
    config = run.config
    attempts = sum(m.counts.get("rows", 0) for m in shards)
    correct = sum(m.counts.get("correct", 0) for m in shards)
    problems = sum(m.counts.get("problems", 0) for m in shards)
    solved = sum(m.counts.get("solved", 0) for m in shards)
    head = front_matter(
        {
            "license": source_licence(run),
            "task_categories": ["text-generation"],
            "tags": ["distillation", "mathematics", "undo"],
            "configs": [{"config_name": "default", "data_files": "distilled-*.parquet"}],
        }
    )
    left_out = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in counts["dropped"].items()) or "none"
    fields = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in FIELDS.items())
    return f"""{head}
# {config.name}: distilled set of iteration {iteration}

Rationales by `{config.teacher.model}` for the student `{config.student.model}`, made by undo-hpc {__version__}
(UNDO, arXiv 2504.02521). Condition: {config.method.condition}; new rationales are combined by `{config.method.combine}`.

The teacher wrote {attempts} attempts at {problems} problems in this iteration; {correct} attempts are right, and {solved} of
the problems have at least one that is. Each answer was checked against the ground truth.

The set holds {counts["rows"]} rows: {counts["refreshed"]} of this iteration, {counts["carried"]} carried over from earlier ones. Attempts left out, by
the first reason that applies (thresholds: `generate.quality`): {left_out}.

| field | meaning |
|---|---|
{fields}

Licence of the problems: {source_licence(run)}. The rationales are the teacher's output: its licence applies too.

Made again by `python launchers/run_iteration.py` with the run's `config.resolved.json` (seed {config.seed}).
"""
