"""The cards of what a run publishes. The same run gives the same card: no times, no host."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from undo_hpc import __version__
from undo_hpc.checkers.command import PREFIX
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.finished import all_metrics
from undo_hpc.data.cards import (
    FIELDS,
    TAGS,
    benchmark_details,
    drops,
    licence_tag,
    provenance,
    rationale_licence,
    source_licence,
)
from undo_hpc.method.metrics import beats_untrained
from undo_hpc.models.resolve import hub_id, public_name
from undo_hpc.observe.wording import NONE_BEATS_UNTRAINED, accuracy, chosen_word, evaluation_settings, learned
from undo_hpc.pipeline.run import Run
from undo_hpc.records import SPLITS
from undo_hpc.stages.train import train_settings
from undo_hpc.storage.atomic import read_json
from undo_hpc.storage.events import read_events
from undo_hpc.system.templates import render_card

PREDICTIONS = {
    "problem, gt, idx, id": "as above",
    "teacher_solution": "the rationale that the student learned from; empty where none was kept",
    "student_solution": "the student's answer to the training problem",
    "attempt, verdict, answer, finish_reason": "which answer it is, the checker's word, what was extracted, why it ended",
}
_HERE = Path(__file__).resolve().parent


def licences(run: Run) -> list[tuple[str, str]]:
    """Sources and their licences, the training problems first."""
    return [("training problems", source_licence(run))] + [
        (str(b.get("title") or name), str(b.get("licence") or "not stated"))
        for name, b in benchmark_details(run).items()
    ]


def command(run: Run) -> str:
    """The command that made the run, without the folders of this machine; with the iterations that it was last asked for."""
    words = list(run.environment.get("command", [])) or ["python", "launchers/run_iteration.py"]
    changed = (e.get("changes") for e in read_events(run.layout.events) if e["kind"] == "reconfigured")
    if any(isinstance(keys, dict) and "iterations" in keys for keys in changed):
        words += ["--iterations", str(run.config.iterations)]
    shown: list[str] = []
    for word in words:
        key, equals, value = word.rpartition("=")
        value = Path(value).name if value.startswith(("/", "~")) else value
        shown.append(shlex.quote(f"{key}{equals}{value}") if key or value else "''")
    return " ".join(shown)


def interval(item: dict[str, Any] | None) -> str:
    """An accuracy in per cent with its interval."""
    return accuracy(item) if item else "not measured"


def checked_by(config: RunConfig, shown: Iterable[Mapping[str, Any]]) -> str:
    """Whose the verdicts of these sets are, in words; of a command of the user's no folder of this machine is told."""
    name, judge = config.grading.checker, config.grading.judge.model
    text = f"`{name}`" if name else "undo-hpc's own checker, which counts right ones without a box as right"
    if name.startswith(PREFIX):
        text = "a command of the user's"
    if judge:
        sets = list(shown)
        judged, answers = sum(s.get("judged", 0) for s in sets), sum(s["answers"] for s in sets)
        text += (
            f", and by the judge `{public_name(judge)}` where that left them open: {judged:,} of {answers:,}"
        )
    return text


def data_card(run: Run, iterations: Sequence[int]) -> str:
    """README.md of the data set: fields, counts, yield, licences, and the command that makes it again."""
    from huggingface_hub import DatasetCardData

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
    rows = []
    for number in iterations:
        counts = read_json(run.layout.iteration(number).stage_manifest("merge"))["counts"]
        made = metrics.get(number, {}).get("generate", {})
        right = f"{made['correct']:,} of {made['rows']:,}" if made else f"of {counts.get('attempts', '?')}"
        mark = (
            ("last" if chosen_word([*metrics.values()]) == "last" else "chosen")
            if number == best and metrics
            else ""
        )
        rows.append((number, mark, counts, right, drops(counts)))
    return render_card(
        _HERE / "data_card.md.jinja",
        DatasetCardData(
            license=licence_tag(source_licence(run)),
            task_categories=["text-generation"],
            tags=[*TAGS, "synthetic"],
            configs=configs,
        ),
        config=config,
        version=__version__,
        provenance=provenance(config),
        best=best,
        rows=rows,
        fields=FIELDS,
        predictions=PREDICTIONS,
        licences=licences(run),
        rationale_licence=rationale_licence(config),
        command=command(run),
    )


def student_card(run: Run, metrics: list[dict[str, Any]], best: int) -> str:
    """README.md of the student: metrics with n and intervals, parent, data, and how it was chosen."""
    from huggingface_hub import EvalResult, ModelCardData

    config = run.config
    chosen = next(m for m in metrics if int(m["iteration"]) == best)
    shown = {n: chosen["sets"][n] for n in ("validation", *chosen["sets"]) if n in chosen["sets"]}
    shown = {name: item for name, item in shown.items() if name == "validation" or name not in SPLITS}
    baseline = metrics[0].get("baseline", {})
    plan = run.plan(best)
    trained = train_settings(config, plan) if plan else config.train.model_dump(mode="json")
    return render_card(
        _HERE / "student_card.md.jinja",
        ModelCardData(
            license="other",
            library_name="transformers",
            pipeline_tag="text-generation",
            tags=TAGS,
            base_model=config.student.model if hub_id(config.student.model) else None,
            datasets=[config.hub.dataset_repo] if config.hub.dataset_repo else None,
            model_name=f"{config.name}, iteration {best}",
            eval_results=[
                EvalResult(
                    "text-generation",
                    name,
                    name,
                    "accuracy",
                    round(100 * item["accuracy"], 2),
                    metric_name="accuracy in %",
                )
                for name, item in shown.items()
            ],
        ),
        config=config,
        version=__version__,
        best=best,
        student=public_name(config.student.model),
        teacher=public_name(config.teacher.model),
        rows=[(name, item, interval(baseline.get(name)), interval(item)) for name, item in shown.items()],
        evaluation=evaluation_settings(config),
        checked_by=checked_by(config, shown.values()),
        learning_rate=trained["learning_rate"],
        own_answers=bool(plan and plan.sample),
        beaten=None if beats_untrained(metrics) is not False else NONE_BEATS_UNTRAINED,
        train={"step": "?", "tokens": 0} | chosen.get("train", {}),
        learned=learned(chosen.get("train", {}), chosen["distilled"]),
        licences=licences(run),
        command=command(run),
    )
