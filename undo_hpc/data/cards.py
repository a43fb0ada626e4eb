"""The cards (README.md) of what a run publishes. The same run always gives the same card: no times, no host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from undo_hpc import __version__
from undo_hpc.config.schema import RunConfig
from undo_hpc.pipeline.run import Run
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


# What the teacher saw from the second iteration on; the other conditions have no second one.
_SEEN = {
    "undo": "From the second iteration on the teacher saw what the student had made of its last rationale.",
    "blind": "From the second iteration on the teacher saw its last rationale and nothing of the student's attempt (a control).",
    "shuffled": "From the second iteration on the teacher saw the student's attempt at another problem (a control).",
}


def provenance(config: RunConfig, teacher: str, student: str) -> str:
    """Who wrote the rationales, for whom, and what the teacher saw, in sentences."""
    if config.method.condition == "ground_truth":
        return f"The data's own solutions (a control: no teacher wrote them), for the student `{student}`."
    return f"Rationales by `{teacher}` for the student `{student}`. {_SEEN.get(config.method.condition, '')}".strip()


def rationale_licence(config: RunConfig, teacher: str) -> str:
    """Whose licence applies to the rationales, beside that of the problems, in a sentence; empty where it is the same."""
    if config.method.condition == "ground_truth":
        return ""
    return f"The rationales are the teacher's output: the licence of `{teacher}` applies to them too."


def distilled_card(run: Run, iteration: int, shards: Sequence[Manifest], counts: Mapping[str, Any]) -> str:
    """Card of a distilled set: fields, counts, yield, licence, and the command that makes it again.

    Args:
        shards: manifests of the iteration's generation.
        counts: of the merge: `rows`, `carried`, and `dropped` by reason.
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
    left_out = (
        ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in counts["dropped"].items())
        or "none"
    )
    rows, carried = counts["rows"], counts["carried"]
    fields = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in FIELDS.items())
    return f"""{head}
# {config.name}: distilled set of iteration {iteration}

{provenance(config, config.teacher.model, config.student.model)}
Made by undo-hpc {__version__} (UNDO, arXiv 2504.02521). Condition: {config.method.condition}; new rationales are combined by
`{config.method.combine}`.

In this iteration there were {attempts} attempts at {problems} problems; {correct} attempts are right, and {solved} of
the problems have at least one that is. Each answer was checked against the ground truth.

The set holds {rows} rows: {rows - carried} of this iteration, {carried} carried over from earlier ones. Attempts left out, by
the first reason that applies (thresholds: `generate.quality`): {left_out}.

| field | meaning |
|---|---|
{fields}

Licence of the problems: {source_licence(run)}. {rationale_licence(config, config.teacher.model)}

Made again by `python launchers/run_iteration.py` with the run's `config.resolved.json` (seed {config.seed}).
"""
