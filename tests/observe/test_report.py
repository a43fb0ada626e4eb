"""The report: what it says, that it is safe and self-contained, and that a browser draws it."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import struct
import subprocess
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.observe.synthetic import RunBuilder, set_metrics
from undo_hpc.config.load import override
from undo_hpc.errors import ConfigError
from undo_hpc.observe.after import after_iteration
from undo_hpc.observe.report import write_report
from undo_hpc.observe.report.charts import loss_chart, ticks
from undo_hpc.observe.report.collect import UNTRAINED, _compare, collect
from undo_hpc.observe.report.examples import choose, mark_differences
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.records import Feedback
from undo_hpc.storage.events import read_events
from undo_hpc.storage.manifest import describe_output, read_manifest, write_manifest
from undo_hpc.system.wording import printable

VOID = {"meta", "link", "br", "input"}


class Checker(html.parser.HTMLParser):
    """Tags balance; links and resources are collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [str(values["id"])] if "id" in values else []
        self.outside += [
            str(values[k])
            for k in ("src", "href")
            if k in values and not str(values[k]).startswith(("data:", "#", "figures/"))
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return None

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


@pytest.fixture(scope="session")
def page(finished: Path) -> Path:
    return finished / "report" / "index.html"


def test_the_page_is_well_formed_and_loads_nothing(page: Path) -> None:
    text = page.read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.open == [] and checker.outside == []
    assert len(checker.ids) == len(set(checker.ids))
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert len(text) < 2_000_000


def test_it_tells_what_the_run_found(finished: Path, page: Path) -> None:
    text = page.read_text()
    metrics = [json.loads((finished / f"iter_00{k}" / "metrics.json").read_text()) for k in range(3)]
    best = metrics[-1]["decision"]["best_iteration"]
    accuracy = 100 * metrics[best]["sets"]["validation"]["accuracy"]
    assert f"Iteration {best} did best on validation: {accuracy:.1f} %" in text
    for words in (
        "the untrained student",
        "Training loss",
        "How the student fails",
        "What it cost",
        "chooses the iteration",
        "Still wrong",
        "GSM",
        "cc-by",
    ):
        assert words in text or words == "cc-by"
    summary = (finished / "report" / "summary.md").read_text()
    assert f"iteration {best} (chosen)" in summary and "| untrained |" in summary


def test_flips_count_the_same_problems() -> None:
    old = [(0, "a", 1.0), (1, "b", 0.0), (2, "c", 0.0), (3, "d", 1.0), (4, "only before", 1.0)]
    new = [(0, "a", 1.0), (1, "b", 1.0), (2, "c", 0.0), (3, "d", 0.0), (5, "only after", 1.0)]
    flips = _compare(0, 1, "x", iter(old), iter(new))
    assert (flips.fixed, flips.broken, flips.wrong, flips.right, flips.p) == (1, 1, 1, 1, 1.0)


def test_accuracies_and_flips_agree(finished: Path) -> None:
    data = collect(open_run(finished))
    for flips in data.flips:
        series = data.one(flips.name)
        assert series is not None
        at = {p.iteration: p for p in series.points}
        n = at[flips.after].n
        assert flips.fixed + flips.broken + flips.wrong + flips.right == n
        assert at[flips.after].accuracy - at[flips.before].accuracy == pytest.approx(
            (flips.fixed - flips.broken) / n
        )
    assert {f.before for f in data.flips} == {UNTRAINED, 0, 1}


def test_differences_are_marked_and_text_is_escaped() -> None:
    old, new = mark_differences("add 2 + 3 = 6, <b>so</b> 6", "add 2 + 3 = 5, <b>so</b> 5")
    assert old == "add 2 + 3 = <del>6</del>, &lt;b&gt;so&lt;/b&gt; <del>6</del>"
    assert new == "add 2 + 3 = <ins>5</ins>, &lt;b&gt;so&lt;/b&gt; <ins>5</ins>"


def strip(marked: str) -> str:
    return re.sub(r"</?(?:ins|del)>", "", marked)


def test_marked_texts_lose_nothing() -> None:
    from html import escape

    pairs = [
        ("", "x"),
        ("a b", ""),
        ("same", "same"),
        ("one two three\nfour", "one 2 three\n\nfour five"),
        ("x " * 3000, "x " * 2000 + "y"),
    ]
    for old, new in pairs:
        left, right = mark_differences(old, new)
        assert (strip(left), strip(right)) == (escape(old), escape(new))


def test_marking_two_texts_is_bounded() -> None:
    """Each second word differs: the work of difflib grows with the cube."""
    old, new = (" ".join("x" if i % 2 else f"{name}{i}" for i in range(750)) for name in "ab")
    start = time.process_time()
    left, right = mark_differences(old, new)
    assert time.process_time() - start < 8 and (strip(left), strip(right)) == (old, new)


def row(key: int, verdict: str, rationale: str = "r") -> Feedback:
    score = float(verdict == "correct")
    return Feedback(str(key), key, "train", "p", "1", rationale, "a", verdict, "setup", score)  # type: ignore[arg-type]


def test_examples_are_shared_out_evenly_and_stay_the_same() -> None:
    before = [row(k, "correct" if k % 3 == 0 else "wrong") for k in range(300)]
    after = [row(k, "correct" if k % 3 == 1 else "wrong", "new" if k % 2 else "r") for k in range(300)]
    chosen = choose({0: before, 1: after}, 30)
    assert chosen == choose({1: after, 0: before}, 30)
    kinds = [e.outcome for e in chosen]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"fixed": 10, "broken": 10, "wrong": 10}
    assert all(e.new is not None and e.new.rationale == "new" for e in chosen), (
        "changed rationales come first"
    )
    assert (
        choose({0: before}, 5)[0].outcome == "wrong" and choose({}, 5) == [] and choose({0: before}, 0) == []
    )


HOSTILE = (
    "</pre></title></script><script>alert(1)</script><img src=x onerror=alert(2)>\"' {{ 7 * 7 }} | {% raw %}"
    " \x1b[2J \x9b \u202eabc \\(x \\text{\u202e} \\text{&#x202e;}\\)"
)


def test_no_text_of_others_can_become_markup(copied: Path) -> None:
    """Of models, data and configuration; nor is a text read as a template."""
    run = open_run(copied)
    for number in (0, 1, 2):
        path = run.layout.iteration(number).feedback
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for item in rows:
            item["problem"] = item["student_answer"] = item["ground_truth"] = HOSTILE
            item["rationale"] = f"{HOSTILE} {number}"
        path.write_text("".join(json.dumps(item) + "\n" for item in rows))
        manifest = read_manifest(run.layout.iteration(number).stage_manifest("advance"))
        assert manifest is not None
        outputs = manifest.outputs | {run.layout.relative(path): describe_output(path)}
        write_manifest(
            run.layout.iteration(number).stage_manifest("advance"), replace(manifest, outputs=outputs)
        )
    prepared = json.loads(run.layout.prepared.read_text())
    for benchmark in prepared["details"]["benchmarks"].values():
        benchmark["title"] = benchmark["licence"] = HOSTILE
    run.layout.prepared.write_text(json.dumps(prepared))
    config = run.config.model_copy(
        update={"name": HOSTILE, "teacher": run.config.teacher.model_copy(update={"model": HOSTILE})}
    )
    text = write_report(Run(run.layout, config)).read_text()
    for path in (run.layout.report, *run.layout.report.rglob("*.*")):
        assert path.is_dir() or printable(path.read_text()) == path.read_text(), path
    checker = Checker()
    checker.feed(text)
    assert checker.open == [] and checker.outside == []
    assert "<script>alert" not in text and "<img" not in text and "{{ 7 * 7 }}" in text
    assert text.count("&lt;script&gt;alert") > 100
    rows = [
        line for line in (run.layout.report / "summary.md").read_text().splitlines() if line.startswith("|")
    ]
    assert not any(re.search(r"(?<!\\)\| \{%", line) for line in rows), "a title stays in its cell"


def test_the_name_of_a_set_leads_to_no_file_outside_of_the_report(copied: Path, tmp_path: Path) -> None:
    """It stands in metrics.json, and a run that was handed over may hold any."""
    ours = tmp_path / "ours.svg"
    ours.write_text("ours")
    run = open_run(copied)
    for number in run.layout.iterations():
        metrics = json.loads(run.layout.iteration(number).metrics.read_text())
        metrics["sets"]["/../../../../ours"] = metrics["sets"].pop("gsm")
        set_metrics(run, number, metrics)
    write_report(run)
    assert ours.read_text() == "ours"
    assert any("_.._.._.._.._ours" in path.name for path in (copied / "report/figures").iterdir())


@pytest.mark.parametrize("name", ["report", "report/figures"])
def test_a_link_of_a_run_that_was_unpacked_has_no_page_of_ours_overwritten(
    copied: Path, tmp_path: Path, name: str
) -> None:
    pages = tmp_path / "public_html"
    pages.mkdir()
    (pages / "index.html").write_text("ours")
    shutil.rmtree(copied / name, ignore_errors=True)
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).symlink_to(pages)
    with pytest.raises(ConfigError, match="leads out of the run"):
        write_report(open_run(copied))
    assert [path.name for path in pages.iterdir()] == ["index.html"] and (
        pages / "index.html"
    ).read_text() == "ours"


def test_a_run_that_has_not_finished_an_iteration_has_a_report(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run")
    builder.plan(0)
    text = write_report(builder.run).read_text()
    assert (
        "No iteration is complete yet." in text
        and "has failed: " in text
        and f"status {builder.run.layout.root}" in text
    )
    assert "<b>0 of at most " in text


def test_one_iteration_without_baseline_or_benchmarks(tmp_path: Path) -> None:
    builder = RunBuilder(
        tmp_path / "run", problems=20, sets=["evaluate.baseline=false", "iterations=1"], benchmarks={}
    )
    text = write_report(builder.play(1)).read_text()
    assert "Iteration 0 did best on validation" in text and "untrained" not in text.split("<section", 1)[0]
    assert "Rationale of iteration 0" in text


def test_a_run_without_validation_says_that_nothing_was_chosen(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run", problems=20, validation=0)
    text = write_report(builder.play(2)).read_text()
    assert "There is no validation split" in text and "chooses the iteration" not in text
    assert "accuracy" in text and collect_status(builder.run).accuracy


def test_damaged_parts_are_left_out_and_named(copied: Path) -> None:
    run = open_run(copied)
    shutil.rmtree(run.layout.iteration(1).distilled)
    (run.layout.iteration(2).train / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 2}\n{"step": 2, "lo')
    run.layout.iteration(2).feedback.write_bytes(b"{torn")
    text = write_report(run).read_text()
    assert "iteration 1 is shown in part" in text and "iteration 2 is shown in part" in text
    assert "iteration 2: the log of its training is damaged" in text and "iteration 0: the log" not in text


def test_on_paper_nothing_has_to_be_scrolled(page: Path) -> None:
    """Columns behind the edge of a table were missing in print."""
    screen, _, paper = page.read_text().partition("@media print")
    scrolling = re.findall(r"(\.\w+) \{[^}]*overflow(?:-x)?: (?:auto|scroll)", screen)
    assert scrolling
    for selector in scrolling:
        assert re.search(rf"{re.escape(selector)} \{{[^}}]*overflow: visible", paper), selector


def test_a_text_is_set_in_the_direction_of_its_script(page: Path) -> None:
    style = page.read_text().partition("</style>")[0]
    assert re.search(r"\.problem, pre[^{]*\{ unicode-bidi: plaintext", style)
    assert re.search(r"\.truth b[^{]*\{ unicode-bidi: isolate", style)


def test_a_report_that_fails_does_not_fail_the_run(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = open_run(copied)
    shutil.rmtree(run.layout.report)
    run.layout.report.write_text("a file where a folder must be")
    with caplog.at_level("INFO", logger="undo_hpc"):
        after_iteration(run, 2)
    assert any("could not be written" in line and "the run continues" in line for line in caplog.messages)
    assert [e for e in read_events(run.layout.events) if e["kind"] == "not_written"]


def test_off_is_off(copied: Path) -> None:
    run = open_run(copied)
    shutil.rmtree(run.layout.report)
    after_iteration(Run(run.layout, override(run.config, ["display.report=false"])), 2)
    assert not run.layout.report.exists()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0), (3.2, 3.9), (0, 100), (0, 123456), (1e-6, 2e-6)])
def test_ticks_cover_their_range(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert marks[0] <= low + 1e-9 and marks[-1] >= high - 1e-9 and 1 <= len(marks) <= 9


def test_strange_losses_make_no_strange_chart() -> None:
    assert loss_chart({}, None) == "" and loss_chart({0: []}, None) == ""
    assert "nan" not in loss_chart({0: [(1.0, 2.0)]}, 0) and "polyline" in loss_chart(
        {0: [(1.0, 2.0)], 1: [(1.0, 2.0), (2.0, 900.0)]}, 0
    )


def png_rows(path: Path) -> tuple[int, int, list[bytes]]:
    """Width, height and raw RGB(A) rows of a PNG that Chromium wrote (8 bits a channel, not interlaced)."""
    data = path.read_bytes()
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    assert depth == 8
    channels = {2: 3, 6: 4}[colour]
    body, at = b"", 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body += data[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    raw, stride, rows, last = zlib.decompress(body), width * channels, [], bytearray(width * channels)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for x in range(stride):
            a = line[x - channels] if x >= channels else 0
            b, c = last[x], last[x - channels] if x >= channels else 0
            if kind == 1:
                line[x] = (line[x] + a) & 255
            elif kind == 2:
                line[x] = (line[x] + b) & 255
            elif kind == 3:
                line[x] = (line[x] + (a + b) // 2) & 255
            elif kind == 4:
                p = a + b - c
                near = (
                    a
                    if abs(p - a) <= abs(p - b) and abs(p - a) <= abs(p - c)
                    else b
                    if abs(p - b) <= abs(p - c)
                    else c
                )
                line[x] = (line[x] + near) & 255
        rows.append(bytes(line))
        last = line
    return width, height, rows


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_draws_it(page: Path, tmp_path: Path, width: int, scheme: str) -> None:
    browser = next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        None,
    )
    if browser is None:
        missing("no Chromium")
    shot = tmp_path / "page.png"
    command = [str(browser), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}",
               f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}", f"--window-size={width},700", f"--screenshot={shot}",
               page.as_uri()]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=300, check=False)
    if not shot.exists():
        missing("Chromium is here and does not start")
    wide, _, rows = png_rows(shot)
    assert wide == width
    corner = sum(rows[0][:3]) / 3
    assert corner < 60 if scheme == "dark" else corner > 230, "the page has the wrong background"
    assert len({bytes(r) for r in rows}) > 100, "there is something on it"
