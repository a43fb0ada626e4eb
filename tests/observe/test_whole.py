"""The run in a line, what a task does before its first row, and commands that no width breaks."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.observe.synthetic import RunBuilder
from undo_hpc.cli import main
from undo_hpc.observe.progress import PlainDisplay, RichDisplay, describe
from undo_hpc.observe.status import collect_status
from undo_hpc.observe.status_view import render_status
from undo_hpc.observe.whole import look_at_whole
from undo_hpc.observe.wording import in_flight
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import open_run
from undo_hpc.storage.atomic import write_text
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.progress import ProgressFile


@pytest.fixture
def built(tmp_path: Path) -> RunBuilder:
    """One whole iteration, and the second planned."""
    built = RunBuilder(tmp_path / "run", problems=20, benchmarks={}, sets=["display.report=false"])
    built.play(1)
    built.plan(1)
    return built


def test_the_end_is_told_from_the_last_whole_iteration(built: RunBuilder) -> None:
    first = look_at_whole(built.run, 0)
    assert first.left_s is None and "end unknown until an iteration is measured" in first.in_words()
    now = time.time()
    whole = look_at_whole(built.run, 1, ["train"], now=now)
    assert (whole.iteration, whole.last) == (1, 2) and whole.left_s is not None and whole.left_s > 0
    line = whole.in_words(now)
    assert line.startswith("iteration 1 of 0 to 2, train, 0:") and "since the start, ends about" in line
    assert "ends" not in whole.in_words(now, working=False)
    later = look_at_whole(built.run, 1, now=now + 1e6)
    assert later.left_s is not None and later.left_s < whole.left_s, (
        "an iteration that takes longer is not reckoned twice"
    )


def test_a_run_with_more_iterations_than_are_asked_for_counts_them(built: RunBuilder) -> None:
    run = open_run(built.root)
    object.__setattr__(run, "config", run.config.model_copy(update={"iterations": 1}))
    assert look_at_whole(run, 1).in_words().startswith("iteration 1 of 0 to 1")


def test_what_is_under_way_is_told_before_the_first_row() -> None:
    assert describe({"doing": "loading the model"}, 3) == "loading the model"
    said = describe(
        {
            "done": 0,
            "total": 48,
            "unit": "rows",
            "under_way": 12,
            "writing": 1840,
            "left_s": None,
            "tokens_per_s": 30.0,
        },
        60,
    )
    assert said == "0/48 rows, 12 under way (1,840 tokens), 30 tok/s"
    assert in_flight({"under_way": 3}) == "3 under way" and in_flight({}) == ""


def test_status_shows_what_a_start_does(built: RunBuilder) -> None:
    at = built.run.layout.iteration(1)
    with Lease(at.lease("generate", 0), "a task"), Lease(at.lease("generate", 1), "a task"):
        ProgressFile(at.progress("generate", 0)).update(force=True, doing="loading the model")
        view = collect_status(built.run)
        assert next(s for s in view.stages if s.name == "generate").progress == "loading the model"
        assert view.whole.startswith("iteration 1 of 0 to 2, generate, ")
        for index, tokens in ((0, 100), (1, 23)):
            ProgressFile(at.progress("generate", index)).update(
                force=True, done=0, total=9, unit="rows", under_way=4, writing=tokens
            )
        view = collect_status(built.run)
        assert next(s for s in view.stages if s.name == "generate").progress == "8 under way (123 tokens)"


@pytest.mark.parametrize("width", [20, 40, 80, 130])
def test_no_width_breaks_a_command_or_a_path(built: RunBuilder, width: int) -> None:
    view = collect_status(built.run)
    view.report = str(built.root / "report" / "index.html")
    console = Console(width=width, file=io.StringIO())
    console.print(render_status(view, width), crop=False)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert (
        f"next  {view.next_command}" in lines and view.root in lines and f"report      {view.report}" in lines
    )


def test_watching_does_not_advise_itself(built: RunBuilder) -> None:
    view = collect_status(built.run)
    view.next_command = "undo-hpc status checkpoints/x --watch"
    for watching in (False, True):
        console = Console(width=80, file=io.StringIO())
        console.print(render_status(view, 80, watching=watching))
        assert ("--watch" in console.file.getvalue()) is not watching  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [PlainDisplay, RichDisplay])
def test_the_live_view_has_a_line_for_the_whole(
    kind: type[PlainDisplay], built: RunBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undo_hpc.observe.progress.PLAIN_EVERY_S", 0.0)
    plan = built.run.plan(1)
    assert plan is not None
    stage = build_graph(built.run.config, built.run.layout, plan)[0]
    console = Console(width=80, file=io.StringIO(), force_terminal=kind is RichDisplay)
    with kind(console, lambda stages: f"iteration 1 of 0 to 2, {' and '.join(stages)}") as display:
        display.tick([(stage, stage.tasks[0], {"done": 1, "total": 4, "unit": "rows"}, 2.0)])
    assert "iteration 1 of 0 to 2, generate" in console.file.getvalue()  # type: ignore[attr-defined]


def test_following_waits_for_the_first_line(
    built: RunBuilder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = built.run.layout.iteration(1)
    words = ["logs", str(built.root), "generate", "1", "--follow"]
    assert main(words) == 2, "nobody works on the run"
    begun, waits, pause = threading.Event(), threading.Event(), time.sleep

    def sleep(seconds: float) -> None:
        waits.set()
        pause(min(seconds, 0.05))

    monkeypatch.setattr(time, "sleep", sleep)

    def launcher() -> None:
        with Lease(built.run.layout.lease, "the run"):
            begun.set()
            waits.wait(300)
            write_text(at.log("generate", 1), "first line\n")

    capsys.readouterr()
    thread = threading.Thread(target=launcher)
    thread.start()
    begun.wait(300)
    assert main(words) == 0
    thread.join()
    out, err = capsys.readouterr()
    assert out == "first line\n" and "waiting for its first line" in err
