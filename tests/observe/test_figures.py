"""Every figure that is shown, computed another way: from the rows of a run, without the code that shows it."""

from __future__ import annotations

import io
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.observe.synthetic import RunBuilder
from undo_hpc.cli import main
from undo_hpc.control.finished import all_metrics
from undo_hpc.control.spent import measure
from undo_hpc.hub.cards import data_card, student_card
from undo_hpc.observe.report import write_report
from undo_hpc.observe.report.collect import collect
from undo_hpc.observe.report.page import _yields
from undo_hpc.observe.status import collect_status
from undo_hpc.observe.status_view import render_status
from undo_hpc.observe.summary import show_summary
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.records import Attempt
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.progress import ProgressFile

Row = dict[str, Any]
SAMPLES = 2
SETTINGS = "temperature 0.7 (top_p 0.95), 2 samples a problem, at most 512 new tokens, 900 from iteration 1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two iterations, two samples a problem, three rows that training left out."""
    sets = ["iterations=2", f"evaluate.samples={SAMPLES}", "evaluate.sampling.temperature=0.7", "evaluate.sampling.top_p=0.95",
            "evaluate.sampling.max_new_tokens=512", "evaluate.sampling.max_new_tokens_by_iteration={1: 900}"]  # fmt: skip
    return RunBuilder(tmp_path_factory.mktemp("figures") / "run", problems=50, sets=sets, left_out=3).play(2)


def rows_of(folder: Path) -> list[Row]:
    return [
        json.loads(line)
        for path in sorted(folder.glob("shard-*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def answers(run: Run, iteration: int, stage: str = "evaluate") -> dict[str, list[Row]]:
    folder = run.layout.iteration(iteration).root / stage
    return {path.name: rows_of(path) for path in sorted(folder.iterdir()) if path.is_dir() and rows_of(path)}


def students(run: Run) -> Iterator[tuple[str, dict[str, list[Row]]]]:
    yield "untrained", answers(run, 0, "baseline")
    yield from ((str(k), answers(run, k)) for k in run.layout.iterations())


def right(rows: list[Row]) -> int:
    return len([row for row in rows if row["verdict"] == "correct"])


def interval(rows: list[Row]) -> tuple[float, float]:
    """Wilson's with the number of answers that the clustered error is worth; here with numbers of its own."""
    problems: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        problems[row["problem_id"]].append(row["verdict"] == "correct")
    p, square = right(rows) / len(rows), 1.96**2
    error = math.sqrt(sum(sum(x - p for x in mine) ** 2 for mine in problems.values())) / len(rows)
    n = min(len(rows), p * (1 - p) / error**2)
    middle, half = p + square / 2 / n, 1.96 * math.sqrt(p * (1 - p) / n + square / 4 / n / n)
    return (middle - half) / (1 + square / n), (middle + half) / (1 + square / n)


def in_words(rows: list[Row]) -> str:
    low, high = interval(rows)
    return f"{100 * right(rows) / len(rows):.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def percent(k: int, n: int) -> str:
    return f"{100 * k / n:.0f} %"


def unboxed(rows: list[Row]) -> int:
    return len([row for row in rows if row["verdict"] == "correct" and "boxed{" not in row["text"]])


def best_of(run: Run) -> int:
    shares = [right(answers(run, k)["validation"]) for k in run.layout.iterations()]
    return shares.index(max(shares))


def test_metrics_json_counts_the_rows(run: Run) -> None:
    for iteration, metrics in enumerate(all_metrics(run)):
        for stage, key in (("evaluate", "sets"), ("baseline", "baseline")):
            if not metrics[key]:
                continue
            found = answers(run, iteration, stage)
            assert metrics[key].keys() == found.keys()
            for name, rows in found.items():
                told = metrics[key][name]
                assert (told["correct"], told["answers"]) == (right(rows), len(rows)) and told[
                    "n"
                ] * SAMPLES == len(rows)
                assert told["accuracy"] == right(rows) / len(rows), "a share is k of n"
                assert (told["low"], told["high"]) == pytest.approx(interval(rows))
                assert told["right_unboxed"] == unboxed(rows)
                assert told["truncated"] == len([row for row in rows if row["finish_reason"] == "length"])
        made = rows_of(run.layout.iteration(iteration).root / "generate")
        assert (metrics["generate"]["rows"], metrics["generate"]["correct"]) == (len(made), right(made))
        assert metrics["generate"]["solved"] == len(
            {row["problem_id"] for row in made if row["verdict"] == "correct"}
        )
        assert metrics["train"]["rows_learned"] == metrics["distilled"]["rows"] - 3
        assert sum(map(unboxed, answers(run, iteration).values())) > 0, "the test has some to find"


def text_of_status(run: Run) -> str:
    console = Console(width=250, file=io.StringIO(), record=True)
    console.print(render_status(collect_status(run), 250))
    return console.export_text()


def test_status_shows_them(run: Run) -> None:
    text, last = text_of_status(run), answers(run, 1)
    made = rows_of(run.layout.iteration(1).root / "generate")
    assert f"{len(made)} attempts, {percent(right(made), len(made))} right" in text
    everything = [row for rows in last.values() for row in rows]
    assert f"{len(everything)} answers, {percent(right(everything), len(everything))} right" in text
    for name, sets in students(run):
        assert f"{name}: {in_words(sets['validation'])}" in text
    assert SETTINGS in text
    learned = all_metrics(run)[1]["distilled"]["rows"]
    assert f"{learned - 3} of {learned} rows learned (3: longer than max_length (512))" in text


def test_list_shows_the_best(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert main(["list", str(run.layout.root.parent)]) == 0
    assert in_words(answers(run, best_of(run))["validation"]) in capsys.readouterr().out


def test_the_report_shows_them(run: Run) -> None:
    page = re.sub(r"<[^>]*>", " ", run.layout.report_page.read_text().split("<body>")[1])
    text = re.sub(r"\s+", " ", page)
    summary = (run.layout.report / "summary.md").read_text()
    chosen = answers(run, best_of(run))["validation"]
    assert in_words(chosen) in text and in_words(chosen) in summary
    for _, sets in students(run):
        for rows in sets.values():
            cut = len([row for row in rows if row["finish_reason"] == "length"])
            none = len([row for row in rows if row["verdict"] == "no_answer"])
            tokens = sum(row["completion_tokens"] for row in rows) / len(rows)
            figures = f"{percent(cut, len(rows))} cut, {percent(none, len(rows))} none, {percent(unboxed(rows), right(rows))} unboxed, {tokens:.0f} tok"
            assert figures in text
            assert (
                in_words(rows).replace(" % [", " [") in summary
                and in_words(rows).replace(" % [", " [") in text
            )
            assert f" {unboxed(rows)} of {right(rows)} |" in summary
    made = [row for k in (0, 1) for row in rows_of(run.layout.iteration(k).root / "generate")]
    assert f"Rationales right {percent(right(made), len(made))} {right(made)} of {len(made)} attempts" in text
    gained = 100 * (right(chosen) - right(answers(run, 0, "baseline")["validation"])) / len(chosen)
    assert f"Gain over untrained {gained:+.1f} points".replace("-", "−") in text
    assert SETTINGS in text and f"Evaluation: {SETTINGS}." in summary
    for metrics in all_metrics(run):
        rows = metrics["distilled"]["rows"]
        assert (
            f"{rows - 3} of {rows} rows learned (3: longer than max_length (512))" in text
            and f" {rows - 3} of {rows} |" in summary
        )


def test_the_paired_difference_is_of_the_problems_that_differ(run: Run) -> None:
    def solved(rows: list[Row]) -> dict[str, bool]:
        found: dict[str, int] = defaultdict(int)
        for row in rows:
            found[row["problem_id"]] += row["verdict"] == "correct"
        return {key: count > SAMPLES / 2 for key, count in found.items()}

    old, new = (
        solved(answers(run, 0, "baseline")["validation"]),
        solved(answers(run, best_of(run))["validation"]),
    )
    differ, n = sum(old[key] != new[key] for key in new), len(new)
    flips = collect(run).headline_flips
    assert flips is not None and (flips.fixed + flips.broken, flips.n) == (differ, n)
    d, psi = flips.detectable, differ / n
    at_least = 1.959964 * math.sqrt(max(psi, d)) + 0.841621 * math.sqrt(max(psi, d) - d * d)
    assert math.sqrt(n) * d == pytest.approx(at_least, rel=1e-4)
    text = run.layout.report_page.read_text()
    assert f"on {differ} of {n} just one of" in text and f"a difference of {100 * d:.1f} points" in text


def test_the_card_shows_them(run: Run) -> None:
    best = best_of(run)
    card = student_card(run, all_metrics(run), best)
    for name, rows in answers(run, best).items():
        if name in ("validation", "gsm", "hard"):
            before = in_words(answers(run, 0, "baseline")[name])
            cut = len([row for row in rows if row["finish_reason"] == "length"])
            line = f"| {name} | {len(rows) // SAMPLES} | {before} | {in_words(rows)} | {cut} of {len(rows)} | {unboxed(rows)} of {right(rows)} |"
            assert line in card
    learned = all_metrics(run)[best]["distilled"]["rows"]
    assert f"{learned - 3} of {learned} rows learned" in card and f"Evaluation: {SETTINGS};" in card


def test_costs_are_of_the_rationales_kept_and_the_points_gained(run: Run) -> None:
    cost, hours = measure(run), 0.0
    for k in (0, 1):
        merged = json.loads(run.layout.iteration(k).stage_manifest("merge").read_text())["counts"]
        seconds = 0.0
        for path in run.layout.iteration(k).events_folder.glob("*.jsonl"):
            spent = sum(e["seconds"] * e0["gpus"] for e0, e in pairs(path))
            hours += spent / 3600
            seconds += spent if path.name.startswith("generate-") else 0.0
        assert cost.per_rationale_s[k] == pytest.approx(seconds / (merged["rows"] - merged["carried"]))
    chosen, before = answers(run, best_of(run))["validation"], answers(run, 0, "baseline")["validation"]
    points = 100 * (right(chosen) / len(chosen) - right(before) / len(before))
    assert points > 0 and cost.per_point_h == pytest.approx(hours / points)


def pairs(path: Path) -> list[tuple[Row, Row]]:
    events = [json.loads(line) for line in path.read_text().splitlines()]
    starts, ends = ([e for e in events if e["kind"] == kind] for kind in ("start", "end"))
    return list(zip(starts, ends, strict=True))


def test_every_per_cent_is_a_count_over_a_count(run: Run) -> None:
    """Whatever number stands before a per cent sign in status, terminal, summary and card is k of n of rows, or an interval's 95."""
    allowed = {"95"}
    groups = [rows for _, sets in students(run) for rows in sets.values()]
    groups += [[row for rows in sets.values() for row in rows] for _, sets in students(run)]
    groups += [rows_of(run.layout.iteration(k).root / "generate") for k in (0, 1)]
    for rows in groups:
        for k in (right(rows), unboxed(rows), len([row for row in rows if row["finish_reason"] == "length"])):
            for n in {len(rows), right(rows)}:
                allowed |= {f"{100 * k / n:.0f}", f"{100 * k / n:.1f}"}
    console = Console(width=250, file=io.StringIO(), record=True)
    show_summary(run, console)
    views = [
        text_of_status(run),
        console.export_text(),
        (run.layout.report / "summary.md").read_text(),
        student_card(run, all_metrics(run), best_of(run)),
    ]
    for text in views:
        shown = re.findall(r"([\d.]+) %", text)
        assert shown and set(shown) <= allowed, set(shown) - allowed


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose students are all worse than the untrained one."""
    root = tmp_path_factory.mktemp("worse") / "run"
    return RunBuilder(root, problems=30, sets=["iterations=2"], benchmarks={}, skills=(0.02,)).play(2)


def test_a_student_that_is_worse_than_the_untrained_one_is_not_called_best(
    worse: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    before = in_words(answers(worse, 0, "baseline")["validation"])
    page, summary = worse.layout.report_page.read_text(), (worse.layout.report / "summary.md").read_text()
    for text in (page, summary):
        assert "No iteration beats the untrained student on validation" in text and "did best" not in text
    status = text_of_status(worse)
    assert "no iteration beats the untrained student" in status and f"untrained: {before}" in status
    console = Console(width=200, file=io.StringIO(), record=True)
    show_summary(worse, console)
    told = console.export_text()
    assert (
        "no iteration beats the untrained student" in told
        and "chosen student" in told
        and "best student" not in told
    )
    assert main(["list", str(worse.layout.root.parent)]) == 0
    assert f"untrained {before}" in capsys.readouterr().out
    assert "no iteration beats the untrained student" in student_card(
        worse, all_metrics(worse), best_of(worse)
    )


def test_list_calls_a_running_task_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last start has no end event, as that of a task that was killed."""
    monkeypatch.setenv("COLUMNS", "250")
    builder = RunBuilder(tmp_path / "run")
    plan = builder.plan(0)
    generate = builder.graph(plan)["generate"]
    builder.events(generate, generate.tasks[0], ends=False)
    at = builder.run.layout.iteration(0)
    with Lease(at.lease("generate", 0), "generate 0"):
        ProgressFile(at.progress("generate", 0)).update(force=True, done=1, total=9, correct=1, unit="rows")
        assert main(["list", str(tmp_path)]) == 0
        told = capsys.readouterr().out
    assert "generate running" in told and "failed" not in told
    assert main(["list", str(tmp_path)]) == 0
    assert "1 failed" in capsys.readouterr().out, "and without an owner it has failed"


def test_a_queue_that_was_not_asked_is_no_failure(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run", sets=["cluster.kind=slurm"])
    plan = builder.plan(0)
    generate = builder.graph(plan)["generate"]
    builder.events(generate, generate.tasks[0], status="failed")
    view = collect_status(open_run(builder.root), scheduler=False)
    assert "1 failed or wait in the queue" in view.headline and "unknown what is running" in view.headline


def test_a_held_out_problem_s_solution_is_no_rationale(run: Run) -> None:
    """Nothing is distilled from validation: what stands in its feedback is the data's."""
    for k in (0, 1):
        rows = [json.loads(line) for line in run.layout.iteration(k).feedback.read_text().splitlines()]
        for row in rows:
            if row["split"] == "validation":
                assert row["rationale_from_data"] and row["rationale"]
            elif row["split"] == "train":
                assert not row["rationale_from_data"]
    page = run.layout.report_page.read_text()
    articles = re.findall(r"<article.*?</article>", page, re.S)
    held_out = [text for text in articles if "<span>validation problem" in text]
    trained = [text for text in articles if "<span>train problem" in text]
    assert held_out and all(
        "Solution in the data, not trained on" in a and "Rationale of iteration" not in a for a in held_out
    )
    assert trained and all("Rationale of iteration" in a and "Solution in the data" not in a for a in trained)


def test_without_validation_no_iteration_is_called_best_or_chosen(tmp_path: Path) -> None:
    built = RunBuilder(
        tmp_path / "run",
        problems=12,
        benchmarks={"gsm": 8},
        validation=0,
        sets=["iterations=2", "display.report=false"],
    )
    run = built.play(2)
    console = Console(file=io.StringIO(), width=140)
    show_summary(run, console)
    write_report(run)
    texts = [
        console.file.getvalue(),
        (built.root / "report" / "summary.md").read_text(),
        data_card(run, [0, 1]),
    ]  # type: ignore[attr-defined]
    for text in texts:
        assert (
            "last" in text
            and not re.search("best student|best:|│ best", text)
            and "(chosen)" not in text
            and "chosen student" not in text
        )


def test_an_attempt_that_is_right_and_cut_off_stands_in_the_bar_once(tmp_path: Path) -> None:
    """A teacher that goes on after its box: of the attempts that are not right, all were shown as cut off."""
    built = RunBuilder(
        tmp_path / "run", problems=30, benchmarks={}, sets=["iterations=1", "display.report=false"]
    )
    plan = built.plan(0)
    built.generate(plan)
    stage = built.graph(plan)["generate"]
    for task in stage.tasks:
        lines = (built.root / task.outputs[0]).read_text().splitlines()
        mine = [Attempt.from_dict(json.loads(line)) for line in lines]
        longer = [replace(row, finish_reason="length") if row.verdict == "correct" else row for row in mine]
        built.publish(stage, task, [longer], dict(task.inputs))
    built.evaluate(plan, "baseline", skill=0.2)
    built.single(plan, "merge")
    built.train(plan)
    built.evaluate(plan)
    built.single(plan, "advance")
    raw = rows_of(built.root / "iter_000" / "generate")
    ((_, parts, total, _),) = _yields(collect(built.run))
    right = sum(row["verdict"] == "correct" for row in raw)
    cut = sum(row["verdict"] != "correct" and row["finish_reason"] == "length" for row in raw)
    assert [count for _, count, _ in parts] == [right, cut, len(raw) - right - cut] and total == len(raw)
    assert right > 0 and cut < len(raw) - right
