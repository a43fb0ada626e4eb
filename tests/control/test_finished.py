"""Figures of finished iterations as they hold now: after more iterations, other verdicts, added evaluations, damage."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

import undo_hpc
from tests.observe.synthetic import RunBuilder, make_problem, set_metrics
from undo_hpc.campaign.answers import has_ended
from undo_hpc.cli.verbs.list import _facts
from undo_hpc.config.load import override
from undo_hpc.control.added import add_evaluations
from undo_hpc.control.finished import all_metrics, left_out
from undo_hpc.control.position import discard_stale, read_state
from undo_hpc.errors import EvidenceError
from undo_hpc.hub.cards import data_card
from undo_hpc.hub.contents import packages
from undo_hpc.observe.report import write_report
from undo_hpc.observe.report.collect import collect
from undo_hpc.observe.status import collect_status
from undo_hpc.observe.training_sets import export
from undo_hpc.pipeline.run import Run, create_or_open, open_run
from undo_hpc.records import Attempt
from undo_hpc.storage.atomic import write_bytes
from undo_hpc.storage.manifest import describe_output, read_manifest, write_manifest
from undo_hpc.storage.shards import dump_rows, read_rows


@pytest.fixture
def built(tmp_path: Path) -> RunBuilder:
    """Two whole iterations: the first is worse than the untrained student, the second far better."""
    sets = ["iterations=2", "display.report=false", "hub.dataset_repo=me/data", "hub.model_repo=me/model"]
    builder = RunBuilder(tmp_path / "run", problems=20, sets=sets, benchmarks={"gsm": 12}, skills=(-0.5, 1.5))
    builder.play(2)
    return builder


def change_verdicts(built: RunBuilder, stage: str, verdict: str) -> None:
    """What regrading does to a stage of the last iteration: other verdicts in its shards, and manifests that say so."""
    plan = built.run.plan(1)
    assert plan is not None
    for task in built.graph(plan)[stage].tasks:
        manifest = read_manifest(built.root / task.manifest)
        assert manifest is not None
        for name in task.outputs:
            rows = [Attempt.from_dict(row) for row in read_rows(built.root / name)]
            rows[0] = replace(rows[0], verdict=verdict)  # type: ignore[arg-type]
            write_bytes(built.root / name, dump_rows([row.to_dict() for row in rows]))
        outputs = {name: describe_output(built.root / name) for name in task.outputs}
        write_manifest(built.root / task.manifest, replace(manifest, outputs=outputs))


def accuracies(built: RunBuilder) -> list[float]:
    return [item["accuracy"] for item in collect_status(open_run(built.root), scheduler=False).accuracy]


def test_a_run_whose_iterations_were_raised_has_not_ended(built: RunBuilder) -> None:
    run = built.run
    assert has_ended(run) and all_metrics(run)[1]["decision"]["why"] == "all 2 iterations are done"
    more = create_or_open(override(run.config, ["iterations=4"]), built.root, command=[])
    assert not has_ended(more)
    assert [metrics["decision"]["action"] for metrics in all_metrics(more)] == ["continue", "continue"]
    write_report(more)
    text = (built.root / "report" / "summary.md").read_text()
    assert "The loop continues" in text and "has ended" not in text and "iterations are done" not in text


@pytest.mark.parametrize("stage", ["evaluate", "generate"])
def test_figures_of_verdicts_that_have_changed_are_left_out_everywhere(built: RunBuilder, stage: str) -> None:
    before = accuracies(built)
    assert left_out(built.run) is None and len(before) == 2 and len(packages(built.run)) == 3
    change_verdicts(built, stage, "wrong")
    ends = left_out(built.run)
    assert ends is not None and ends[0] == 1 and f"stage {stage} has other results now" in ends[1]
    assert accuracies(built) == before[:1]
    view = collect_status(built.run, scheduler=False)
    assert any("figures from iteration 1 on are left out" in note for note in view.notes)
    assert (
        write_report(built.run) and "iteration 1 |" not in (built.root / "report" / "summary.md").read_text()
    )
    with pytest.raises(EvidenceError, match="from iteration 1 on do not hold"):
        packages(built.run)
    state = read_state(built.run)
    assert state is not None
    discard_stale(built.run, state)
    assert accuracies(built) == before[:1], "nor while they are made again"


def add_extra(built: RunBuilder) -> Run:
    """A benchmark of five problems is added to the run."""
    path = built.root.parent / "extra.jsonl"
    problems = [make_problem(900 + k, random.Random(k)) for k in range(5)]
    path.write_text(
        "".join(json.dumps({"problem": p.problem, "answer": p.ground_truth}) + "\n" for p in problems)
    )
    added = json.dumps({"extra": {"benchmark": str(path), "samples": 2, "temperature": 0.5}})
    built.run = create_or_open(
        override(built.run.config, [f"evaluate.added={added}"]), built.root, command=[]
    )
    add_evaluations(built.run)
    built.sets["extra"] = built.run.problems("extra")
    return built.run


def test_added_evaluations_hide_no_figure_while_they_are_made(built: RunBuilder) -> None:
    """`latest_planned` is the first iteration that lacks them then: its figures alone told that none beats the untrained student."""
    before = accuracies(built)
    shown = _facts(built.root)[1]
    assert before[1] > before[0] and "untrained" not in shown
    run = add_extra(built)
    for number in (0, 1):
        state = read_state(run)
        assert state is not None and state.iteration == number
        assert accuracies(built) == before and _facts(built.root)[1] == shown
        discard_stale(run, state)
        assert accuracies(built) == before and _facts(built.root)[1] == shown and left_out(run) is None
        for stage in ("baseline", "evaluate"):
            if only := [s.index for s in state.missing if s.stage == stage]:
                built.evaluate(state.plan, stage, only=only)
        built.single(state.plan, "advance")
    assert accuracies(built) == before and all_metrics(run)[1]["sets"]["extra"]["answers"] == 10
    card = next(item for item in packages(run)[-1].items if item.path == "README.md").data.decode()
    assert (
        "extra: temperature 0.5 (top_p 0.95), 2 samples a problem" in card
        and "extra.jsonl: not stated" in card
    )


def test_counts_of_a_million_rows_keep_all_their_digits(built: RunBuilder) -> None:
    """Six digits were told: 1.23457e+06."""
    metrics = all_metrics(built.run)[1]
    made = metrics["generate"] | {"rows": 2345678, "correct": 1234567, "truncated": 1034567}
    set_metrics(built.run, 1, metrics | {"generate": made})
    card = data_card(built.run, [0, 1])
    assert "1,234,567 of 2,345,678" in card
    page = write_report(built.run).read_text()
    text = (built.root / "report" / "summary.md").read_text()
    assert "| 2345678 | 1234567 | 1034567 |" in text and "1,234,567" in page
    assert "e+0" not in card + text and "e+06" not in page


def test_damaged_metrics_and_those_behind_them_are_left_out(built: RunBuilder) -> None:
    before = accuracies(built)
    path = built.run.layout.iteration(0).metrics
    path.write_bytes(path.read_bytes().replace(b'"correct"', b'"c0rrect"', 1))
    assert all_metrics(built.run) == [] and left_out(built.run) is not None
    assert accuracies(built) == [] and len(before) == 2


def test_figures_stay_those_that_were_counted_while_advance_counts_again(built: RunBuilder) -> None:
    """Its manifest, which names their digest, is away then."""
    run, expected = add_extra(built), accuracies(built)
    state = read_state(run)
    assert state is not None and discard_stale(run, state) and accuracies(built) == expected
    path = run.layout.iteration(0).metrics
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"n": 12', b'"n": 13', 1))
    assert path.read_bytes() != before and all_metrics(run) == []
    ends = left_out(run)
    assert ends is not None and ends[0] == 0 and "changed" in ends[1]
    path.write_bytes(before)
    path.unlink()
    assert all_metrics(run) == [], "the second iteration's figures are nobody else's"
    assert (ends := left_out(run)) is not None and ends[0] == 0 and "missing" in ends[1]
    assert any("iteration 0 on are left out" in note for note in collect(run).notes)


def test_a_last_iteration_whose_metrics_are_gone_is_told(built: RunBuilder) -> None:
    built.run.layout.iteration(1).metrics.unlink()
    assert (ends := left_out(built.run)) is not None and ends[0] == 1
    assert [item["iteration"] for item in all_metrics(built.run)] == [0]


def test_a_distilled_set_that_is_to_be_made_again_is_not_taken_out(tmp_path: Path) -> None:
    sets = ["iterations=2", "display.report=false", "hub.dataset_repo=me/data"]
    built = RunBuilder(tmp_path / "run", problems=20, sets=sets)
    built.play(1)
    plan = built.plan(1)
    built.generate(plan)
    built.single(plan, "merge")
    run = open_run(built.root)
    assert len(packages(run)) == 2 and len(undo_hpc.distilled(run, 1))
    built.generate(plan, only=[0])
    for take in (packages, lambda run: export(run, "chat"), lambda run: undo_hpc.distilled(run, 1)):
        with pytest.raises(EvidenceError, match="stage generate has other results now"):
            take(run)
    assert export(run, "chat", 0).rows
