"""The cards of what a run publishes. The same run gives the same card: no times, no host."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undo_hpc import __version__
from undo_hpc.data.cards import FIELDS, front_matter, provenance, rationale_licence, source_licence
from undo_hpc.observe.summary import all_metrics
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.workload import longest
from undo_hpc.records import SPLITS
from undo_hpc.storage.atomic import read_json

PREDICTIONS = {
    "problem, gt, idx, id": "as above",
    "teacher_solution": "the rationale that the student learned from; empty where none was kept",
    "student_solution": "the student's answer to the training problem",
    "attempt, verdict, answer, finish_reason": "which answer it is, the checker's word, what was extracted, why it ended",
}
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")


def hub_id(name: str) -> bool:
    """Whether a model's name is an id on the Hub (a local path, or tiny:..., is not)."""
    return bool(_HUB_ID.match(name)) and not name.startswith((".", "/"))


def licences(run: Run) -> list[tuple[str, str]]:
    """Sources and their licences, the training problems first."""
    found = [("training problems", source_licence(run))]
    if run.layout.prepared.exists():
        benchmarks = read_json(run.layout.prepared).get("details", {}).get("benchmarks", {})
        found += [
            (str(b.get("title") or name), str(b.get("licence") or "not stated"))
            for name, b in benchmarks.items()
        ]
    return found


def public_name(model: str) -> str:
    """A model as strangers may read it: an id as it is, a local folder by its last name."""
    return model if hub_id(model) or model.startswith("tiny:") else Path(model).name


def command(run: Run) -> str:
    """The command that made the run, without the folders of this machine."""
    words = list(run.environment.get("command", [])) or ["python", "launchers/run_iteration.py"]
    shown: list[str] = []
    for word in words:
        key, equals, value = word.rpartition("=")
        value = Path(value).name if value.startswith(("/", "~")) else value
        shown.append(shlex.quote(f"{key}{equals}{value}") if key or value else "''")
    return " ".join(shown)


def interval(item: dict[str, Any] | None) -> str:
    """An accuracy in per cent with its interval."""
    if not item:
        return "not measured"
    return f"{100 * item['accuracy']:.1f} [{100 * item['low']:.1f}, {100 * item['high']:.1f}]"


def data_card(run: Run, iterations: Sequence[int]) -> str:
    """README.md of the data set: fields, counts, yield, licences, and the command that makes it again."""
    config, metrics = run.config, {int(m["iteration"]): m for m in all_metrics(run)}
    best = int(max(metrics.items())[1]["decision"]["best_iteration"]) if metrics else max(iterations)
    configs: list[dict[str, Any]] = [
        {"config_name": f"iteration_{k:03d}", "data_files": f"data/iteration_{k:03d}/*.parquet"}
        | ({"default": True} if k == best else {})
        for k in iterations
    ]
    configs += [
        {"config_name": f"predictions_{k:03d}", "data_files": f"predictions/iteration_{k:03d}.parquet"}
        for k in iterations
        if k in metrics and run.layout.iteration(k).predictions.exists()
    ]
    head = front_matter(
        {
            "license": _licence_tag(source_licence(run)),
            "task_categories": ["text-generation"],
            "tags": ["distillation", "mathematics", "undo", "synthetic"],
            "configs": configs,
        }
    )
    rows = []
    for number in iterations:
        counts = read_json(run.layout.iteration(number).stage_manifest("merge"))["counts"]
        made = metrics.get(number, {}).get("generate", {})
        right = f"{made['correct']:g} of {made['rows']:g}" if made else f"of {counts.get('attempts', '?')}"
        mark = " (chosen)" if number == best and metrics else ""
        rows.append(
            f"| {number}{mark} | {counts.get('rows', 0)} | {counts.get('carried', 0)} | {right} | {_drops(counts)} |"
        )
    fields = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in FIELDS.items())
    predicted = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in PREDICTIONS.items())
    sources = "\n".join(f"- {name}: {licence}" for name, licence in licences(run))
    return f"""{head}
# {config.name}: distilled sets

{provenance(config, public_name(config.teacher.model), public_name(config.student.model))}
Made iteration by iteration (UNDO, arXiv 2504.02521; condition {config.method.condition}) by undo-hpc {__version__}.
Each rationale's answer was checked against the ground truth.

```python
from datasets import load_dataset
data = load_dataset("{config.hub.dataset_repo or "REPOSITORY"}", "iteration_{best:03d}", split="train")
```

| iteration | rows | of which from before | attempts that are right | left out |
|---:|---:|---:|---:|---|
{chr(10).join(rows)}

## Distilled sets (`data/`)

| field | meaning |
|---|---|
{fields}

## Predictions (`predictions/`)

The student's answers to the training problems.

| field | meaning |
|---|---|
{predicted}

## Licences

{sources}

{rationale_licence(config, public_name(config.teacher.model))}

## Made by

`{command(run)}` (seed {config.seed})
"""


def _licence_tag(name: str) -> str:
    """A licence as the Hub names it; what it does not know is 'other'."""
    plain = name.strip().lower().replace(" ", "-")
    known = {
        "mit",
        "apache-2.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "cc-by-nc-4.0",
        "cc0-1.0",
        "bsd-3-clause",
        "odc-by",
        "openrail",
        "unknown",
    }
    return plain if plain in known else "other"


def _drops(counts: dict[str, Any]) -> str:
    return (
        ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in counts.get("dropped", {}).items())
        or "none"
    )


def student_card(run: Run, metrics: list[dict[str, Any]], best: int) -> str:
    """README.md of the student: metrics with n and intervals, parent, data, and how it was chosen."""
    config = run.config
    chosen = next(m for m in metrics if int(m["iteration"]) == best)
    baseline = metrics[0].get("baseline", {})
    head: dict[str, Any] = {
        "license": "other",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["distillation", "mathematics", "undo"],
    }
    if hub_id(config.student.model):
        head["base_model"] = config.student.model
    if config.hub.dataset_repo:
        head["datasets"] = [config.hub.dataset_repo]
    tests = [n for n in chosen["sets"] if n not in SPLITS]
    head["model-index"] = [
        {
            "name": f"{config.name}, iteration {best}",
            "results": [
                {
                    "task": {"type": "text-generation"},
                    "dataset": {"name": name, "type": name},
                    "metrics": [
                        {
                            "type": "accuracy",
                            "value": round(100 * chosen["sets"][name]["accuracy"], 2),
                            "name": "accuracy in %",
                        }
                    ],
                }
                for name in ("validation", *tests)
                if name in chosen["sets"]
            ],
        }
    ]
    rows = [
        f"| {name} | {item['n']} | {interval(baseline.get(name))} | {interval(item)} | {item['truncated']} of {item['answers']} |"
        for name, item in ((n, chosen["sets"][n]) for n in ("validation", *tests) if n in chosen["sets"])
    ]
    start = (
        "the untrained student"
        if config.method.start_from == "base" or not best
        else f"the student of iteration {best - 1}"
    )
    data = (
        f"`{config.hub.dataset_repo}`, configuration `iteration_{best:03d}`"
        if config.hub.dataset_repo
        else f"distilled set of iteration {best}"
    )
    train = chosen.get("train", {})
    teacher = (
        "the data's own solutions"
        if config.method.condition == "ground_truth"
        else f"`{public_name(config.teacher.model)}`"
    )
    choice = "The iteration was chosen on the validation split; the other sets chose nothing."
    if "validation" not in chosen["sets"]:
        choice = "There was no validation split: this is the last iteration, not a chosen one."
    return f"""{front_matter(head)}
# {config.name}: student of iteration {best}

`{public_name(config.student.model)}`, taught by {teacher} with UNDO (arXiv 2504.02521;
condition {config.method.condition}), made by undo-hpc {__version__}.

| set | n | untrained, % [95 % interval] | this model, % [95 % interval] | cut off |
|---|---:|---:|---:|---:|
{chr(10).join(rows)}

Answers were sampled at temperature {config.evaluate.sampling.temperature:g} with at most
{longest(config.evaluate.sampling, best)} new tokens and checked by undo-hpc's own
checker. {choice}

- Parent: `{public_name(config.student.model)}`; the weights start from {start}.
- Data: {data}, {chosen["distilled"].get("rows", "?")} rows.
- Training: {train.get("step", "?")} steps, {float(train.get("tokens", 0)):,.0f} tokens, learning rate {config.train.learning_rate:g}, seed {config.seed}.
- Made by `{command(run)}`.
- Licences: the parent's, and those of the data ({"; ".join(f"{name}: {licence}" for name, licence in licences(run))}).
"""
