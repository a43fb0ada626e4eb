"""What `undo-hpc status` says of runs in every condition that a user may find them in."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.observe.synthetic import RunBuilder
from undo_hpc.cli import main
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.cluster.names import JobName
from undo_hpc.config.load import override
from undo_hpc.control.live import LiveTasks, explain_reason, query_live
from undo_hpc.control.planning import current_state
from undo_hpc.control.run_cluster import require_unqueued
from undo_hpc.errors import ClusterError
from undo_hpc.observe.logs import logs_of, tail
from undo_hpc.observe.next_step import next_command
from undo_hpc.observe.progress import task_table
from undo_hpc.observe.stage_view import StageView
from undo_hpc.observe.status import RunView, collect_status
from undo_hpc.observe.status_view import render_status
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import Run, create_or_open, open_run
from undo_hpc.storage.atomic import write_json, write_text
from undo_hpc.storage.events import EventLog
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.progress import ProgressFile


def stage(view: RunView, name: str) -> StageView:
    return next(s for s in view.stages if s.name == name)


def shown(view: RunView, width: int = 120) -> str:
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=False)
    console.print(render_status(view, width))
    return console.export_text()


def as_slurm(root: Path) -> Run:
    run = open_run(root)
    return create_or_open(override(run.config, ["cluster.kind=slurm"]), root, command=["test"])


def test_a_finished_run_says_so_and_what_to_do(finished: Path) -> None:
    view = collect_status(open_run(finished))
    assert view.ended and view.headline.startswith("ended")
    assert all(s.done == s.total for s in view.stages)
    assert len(view.accuracy) == 3 and view.best_iteration in (0, 1, 2)
    assert (
        "launchers/run_iteration.py --run-dir" in view.next_command and "--iterations 4" in view.next_command
    )
    text = shown(view)
    assert "generate" in text and "% right" in text and "validation" in text


def test_a_control_that_nobody_examines_has_no_next_iteration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = RunBuilder(
        tmp_path / "run",
        problems=12,
        benchmarks={},
        sets=["method.condition=one_shot", "evaluate.train_predictions=false"],
    )
    built.sets |= {"diagnosis": [], "validation": []}
    built.prepare()
    run = built.play(1)
    assert (run.layout.report / "index.html").exists()
    view = collect_status(run)
    assert view.ended and "the only iteration is done" in view.headline
    assert "report" in view.next_command and "one_shot" in view.next_why
    assert main(["cost", str(run.layout.root)]) == 0 and "next, iteration" not in capsys.readouterr().out
    assert main(["list", str(tmp_path)]) == 0 and "%" not in capsys.readouterr().out


def test_a_run_in_the_middle_shows_rows_speed_and_time_left(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run", sets=["generate.shards=4"])
    plan = builder.plan(0)
    builder.generate(plan, only=[0, 1])
    at = builder.run.layout.iteration(0)
    with Lease(at.lease("generate", 2), "generate 2"):
        ProgressFile(at.progress("generate", 2)).update(
            force=True, done=5, total=15, correct=4, tokens_per_s=100.0, unit="rows"
        )
        view = collect_status(builder.run)
    generate = stage(view, "generate")
    assert generate.states == {"done": 2, "running": 1, "ready": 1}
    assert generate.rows > 5 and generate.tokens_per_s == 100.0
    assert generate.left_s is not None and 0 < generate.left_s < 1e5
    assert stage(view, "train").states == {"blocked": 1} and "merge" in stage(view, "train").waits_for
    assert "generate running" in view.headline and "--watch" in view.next_command


def test_training_shows_loss(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    plan = builder.plan(0)
    builder.generate(plan)
    builder.single(plan, "merge")
    at = builder.run.layout.iteration(0)
    with Lease(at.lease("train", 0), "train"):
        ProgressFile(at.progress("train", 0)).update(
            force=True, done=30, total=120, unit="steps", loss=0.75, tokens_per_s=5000.0, left_s=42.0
        )
        view = collect_status(builder.run)
    train = stage(view, "train")
    assert (train.loss, train.left_s, train.progress) == (0.75, 42.0, "30 of 120 steps")
    assert "loss 0.750" in shown(view)


def test_a_held_job_that_stops_the_run_is_what_the_next_command_releases(tmp_path: Path) -> None:
    """The queue was not empty, so `status` said that there was nothing to do."""
    run = RunBuilder(tmp_path / "run").run
    state = SimpleNamespace(ended=None, complete=False)
    live = LiveTasks(tasks={("generate", 0): ("waiting", "held")}, jobs=3, held=["123"])
    assert next_command(run, state, [], live)[0] == "scontrol release 123"  # type: ignore[arg-type]
    live.held.append("124")
    assert next_command(run, state, [], live)[0] == "scontrol release 123,124"  # type: ignore[arg-type]
    live.tasks["generate", 1] = ("running", "job 123_1")
    assert "status" in next_command(run, state, [], live)[0]  # type: ignore[arg-type]


def test_jobs_that_never_start_by_themselves_have_a_next_command(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run").run
    state = SimpleNamespace(ended=None, complete=False)
    command, why = next_command(run, state, [], LiveTasks(jobs=2, beyond="job 7 will never start: x"))  # type: ignore[arg-type]
    assert "run_iteration.py" in command and "job 7 will never start: x. Correct the profile first" in why
    command, why = next_command(run, state, [], LiveTasks(jobs=2, stuck=1))  # type: ignore[arg-type]
    assert "run_iteration.py" in command and "submits it again" in why


def test_a_failed_task_is_shown_with_its_last_words_and_the_next_command(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    plan = builder.plan(0)
    builder.generate(plan, only=[0])
    generate = builder.graph(plan)["generate"]
    builder.events(generate, generate.tasks[1], status="failed", seconds=12)
    write_text(
        builder.run.layout.iteration(0).log("generate", 1),
        "loading\nEngineError: the GPU is out of memory\n  -> lower max_num_seqs\n",
    )
    view = collect_status(builder.run)
    assert stage(view, "generate").states == {"done": 1, "failed": 1}
    assert view.failures[0].lines[-2:] == ["EngineError: the GPU is out of memory", "  -> lower max_num_seqs"]
    text = shown(view)
    assert "EngineError: the GPU is out of memory" in text and "undo-hpc logs" in text
    assert "launchers/run_iteration.py --run-dir" in view.next_command


def test_a_task_that_was_killed_and_one_that_saved_are_told_apart(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    plan = builder.plan(0)
    generate = builder.graph(plan)["generate"]
    builder.events(generate, generate.tasks[0], ends=False)
    builder.events(generate, generate.tasks[1], status="requeue")
    view = collect_status(builder.run)
    assert stage(view, "generate").states == {"failed": 1, "saved": 1}
    assert "without an exit status" in view.failures[0].why


def test_what_a_cancel_has_ended_did_not_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = RunBuilder(tmp_path / "run")
    monkeypatch.setattr("undo_hpc.storage.events.time.time", lambda: 1.7e9)  # both within one millisecond
    generate = builder.graph(builder.plan(0))["generate"]
    builder.events(generate, generate.tasks[0], ends=False)
    EventLog(builder.run.layout.events).append("cancelled", jobs=["1"])
    view = collect_status(builder.run)
    assert stage(view, "generate").states["saved"] == 1 and not view.failures
    assert "once the cause is fixed" not in shown(view)


def test_half_written_run_directories_are_shown_as_far_as_they_go(copied: Path) -> None:
    run = open_run(copied)
    at = run.layout.iteration(2)
    at.metrics.write_bytes(b'{"sets": {"valid')
    shard = sorted((at.root / "generate").glob("*.manifest.json"))[0]
    shard.write_bytes(b"{torn")
    EventLog(run.layout.events).append("note")
    with run.layout.events.open("ab") as file:
        file.write(b'{"kind": "torn')
    view = collect_status(run)
    assert stage(view, "generate").states["stale"] == 1
    assert len(view.accuracy) == 2 and not view.ended
    assert "damaged" in shown(view)


def test_a_finished_run_of_which_something_was_deleted_says_so_and_how_it_is_fixed(copied: Path) -> None:
    run = open_run(copied)
    shard = sorted((run.layout.iteration(2).root / "generate").glob("shard-*.jsonl"))[0]
    shard.unlink()
    view = collect_status(run)
    assert not view.ended and view.headline.startswith("stopped") and "--iterations" not in view.next_command
    shard.with_name(
        f"{shard.stem}.manifest.json"
    ).unlink()  # a whole folder: no manifest validates it any more
    view = collect_status(run)
    assert not view.ended and stage(view, "merge").done == 0
    assert current_state(run).ended is None
    run.layout.iteration(0).metrics.unlink()
    assert any("iter_000/metrics.json is missing" in note for note in collect_status(run).notes)


def test_a_created_run_that_was_not_started(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    view = collect_status(builder.run)
    assert "not started" in view.headline and "launchers/run_iteration.py" in view.next_command
    shown(view)


@pytest.mark.parametrize(("spoil", "words"), [
    (lambda root: write_json(root / "config.resolved.json", {"schema_version": 0, "name": "old"}), "schema version 0"),
    (lambda root: (root / "config.resolved.json").write_bytes(b'{"schema_ver'), "not valid JSON"),
    (lambda root: (root / "config.resolved.json").unlink(), "not a run directory"),
    (lambda root: (root / "iter_002" / "plan.json").write_bytes(b"{"), "not valid JSON"),
])  # fmt: skip
def test_what_cannot_be_read_is_said_without_a_traceback(
    copied: Path, capsys: pytest.CaptureFixture[str], spoil, words: str
) -> None:  # type: ignore[no-untyped-def]
    spoil(copied)
    assert main(["status", str(copied)]) != 0
    said = capsys.readouterr().err
    assert words in said and "->" in said and "Traceback" not in said


def test_manifests_of_an_older_schema_show_as_stale_with_the_reason(copied: Path) -> None:
    path = copied / "iter_002" / "merge.manifest.json"
    write_json(path, json.loads(path.read_text()) | {"schema_version": 0})
    view = collect_status(open_run(copied))
    assert stage(view, "merge").states == {"stale": 1}
    assert "schema version 0" in stage(view, "merge").waits_for


def test_without_squeue_the_evidence_is_shown_and_the_lack_is_said(
    copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = as_slurm(copied)
    monkeypatch.setenv("PATH", str(tmp_path))
    view = collect_status(run)
    assert any("queue is unknown" in note for note in view.notes)
    assert stage(view, "generate").done == 2


def test_squeue_tells_what_waits_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = RunBuilder(tmp_path / "run", sets=["generate.shards=3"])
    builder.generate(builder.plan(0), only=[0])
    run = as_slurm(builder.root)
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    name = JobName("generate", 0, run.id, 0, 0, 1, "0123abcd")
    lines = [f"77|1|77_1|RUNNING|None|{name}", f"77|2|77_2|PENDING|QOSMaxJobsPerUserLimit|{name}"]
    for command, body in {
        "squeue": "\n".join(f"echo '{line}'" for line in lines),
        "sbatch": "true",
        "scancel": "true",
        "scontrol": "true",
    }.items():
        (bin_dir / command).write_text(f"#!/bin/sh\n{body}\n")
        (bin_dir / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
    view = collect_status(run)
    assert stage(view, "generate").states == {"done": 1, "running": 1, "waiting": 1}
    assert "a limit of your quality of service is reached" in stage(view, "generate").waits_for
    assert view.jobs == 2 and "--watch" in view.next_command
    with pytest.raises(
        ClusterError, match="would work on it at the same time"
    ):  # a local launcher beside them
        SubmissionJournal(run.layout.submissions).intend(str(name), "generate", 0, 0, (1, 2), ())
        require_unqueued(run)


@pytest.mark.parametrize(("reason", "words"), [
    ("Priority", "other jobs have a higher priority"), ("(Resources)", "no node is free"), ("AssocGrpGRES", "limit of your account"),
    ("QOSMaxGRESPerJob", "asks for what your quality of service does not allow"), ("MaxMemPerLimit", "what the partition does not allow"),
    ("ReqNodeNotAvail, UnavailableNodes:n1", "down or reserved"), ("Nodes_on_strike", "Nodes_on_strike")])  # fmt: skip
def test_reasons_in_words(reason: str, words: str) -> None:
    assert words in explain_reason(reason)


def test_a_paused_and_a_stopped_run_say_why(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    builder.generate(builder.plan(0), only=[0])
    builder.run.layout.paused.write_text("{}")
    builder.run.events.append("stopped", iteration=0, why="task 1 of generate found its input wrong")
    view = collect_status(builder.run, live=query_live(builder.run, 0))
    assert any("paused" in note for note in view.notes) and any("input wrong" in note for note in view.notes)


def test_logs_of_a_cluster_are_found_by_job_and_task(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    builder.plan(0)
    layout = builder.run.layout
    journal = SubmissionJournal(layout.submissions)
    name = str(JobName("generate", 0, "01234567", 0, 4, 2, "0123abcd"))
    journal.intend(name, "generate", 0, 0, (8, 9, 10, 11), ())
    journal.submitted(name, "991")
    write_text(layout.iteration(0).logs / "generate-991_1.log", "hello\n")
    assert [path.name for path in logs_of(layout, 0, "generate", 11)] == ["generate-991_1.log"]
    assert logs_of(layout, 0, "generate", 8) == []
    (layout.iteration(0).logs / "merge-x").mkdir()
    journal.intend("merge", "merge", 0, 0, None, ())
    journal.submitted("merge", "x/../../../../private")
    write_text(tmp_path / "private.log", "ours\n")
    assert logs_of(layout, 0, "merge", 0) == [], "a run that was handed over names a file of ours"


def test_the_tail_of_a_large_log_is_cheap(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 5_000_000 + b"\nlast but one\n\xff\xfelast\n")
    assert tail(path, 2) == ["last but one", "\ufffd\ufffdlast"]


@pytest.mark.parametrize("width", [34, 60, 200])
def test_no_line_is_wider_than_the_terminal(finished: Path, width: int) -> None:
    text = shown(collect_status(open_run(finished), live=LiveTasks()), width)
    assert all(len(line) <= width for line in text.splitlines())


def run_command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import sys

    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, "-m", "undo_hpc.cli", *words],
        capture_output=True,
        text=True,
        env=clean | environment,
        timeout=120,
        check=False,
    )


def test_no_colour_and_no_terminal(finished: Path) -> None:
    plain = run_command("status", str(finished))
    assert plain.returncode == 0 and "\x1b" not in plain.stdout
    coloured = run_command("status", str(finished), FORCE_COLOR="1")
    assert "\x1b[" in coloured.stdout
    bare = run_command("status", str(finished), FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b[3" not in bare.stdout and "\x1b[9" not in bare.stdout


def test_watching_without_a_terminal_prints_lines_and_ends_with_the_run(finished: Path) -> None:
    done = run_command("status", str(finished), "--watch", "--every", "1")
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and "ended" in done.stdout


def test_json_for_programs(finished: Path) -> None:
    data = json.loads(run_command("status", str(finished), "--json").stdout)
    assert data["ended"] is True and data["stages"][0]["name"] == "generate"


def test_looking_changes_nothing(copied: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    time.sleep(0.01)
    collect_status(open_run(copied))
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


@pytest.mark.parametrize("width", [60, 100, 140])
def test_the_live_view_takes_a_line_a_task(width: int, tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run", problems=20)
    stages = build_graph(builder.run.config, builder.run.layout, builder.plan(0))
    told = {
        "done": 64,
        "total": 425,
        "unit": "rows",
        "tokens_per_s": 1631.0,
        "correct": 55,
        "loss": 0.175,
        "lr": 1e-3,
    }
    drawn = io.StringIO()
    console = Console(file=drawn, width=width, color_system=None)
    console.print(task_table([(item, item.tasks[0], told, 11.0) for item in stages], width))
    lines = drawn.getvalue().splitlines()
    assert len(lines) == len(stages) and all(
        item.name in line and "64/425 rows" in line for item, line in zip(stages, lines, strict=True)
    )


def test_rows_that_are_not_used_are_counted(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", problems=8, sets=["display.report=false"]).play(1)
    prepared = run.layout.prepared
    assert not [note for note in collect_status(run).notes if "not used" in note]
    data = json.loads(prepared.read_text())
    data["details"]["train_source"]["filtered"], data["counts"]["rejected"] = 1200, 3
    prepared.write_text(json.dumps(data))
    note = "rows of the training data that are not used: 1,200 do not meet data.train.where; 3 are listed in splits/rejected.jsonl"
    assert note in collect_status(run).notes
