"""What the page shows besides charts: formulas, what the teacher was asked, settings, categories, and the figures as files."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undo_hpc
from tests.observe.synthetic import RunBuilder, set_metrics
from undo_hpc.method.metrics import CategorySummary
from undo_hpc.method.stats import wilson
from undo_hpc.observe.report import write_report
from undo_hpc.observe.report.collect import QUANTILES, _quantiles, collect
from undo_hpc.observe.report.figures import figures
from undo_hpc.observe.report.mathematics import set_mathematics
from undo_hpc.observe.summary import cell
from undo_hpc.pipeline.run import open_run
from undo_hpc.storage.atomic import read_json


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so $x^2 + \\frac{1}{2}$.", "<msup><mi>x</mi><mn>2</mn></msup>"),
        ("\\[ \\int_0^1 x \\]", '<math display="block">'),
        ("\\(a < b\\)", "<mo>&lt;</mo>"),
        ("it is \\boxed{\\frac{3}{4}}", '<menclose notation="box">'),
    ],
)
def test_formulas_become_mathml(text: str, found: str) -> None:
    assert found in set_mathematics(text)


@pytest.mark.parametrize(
    "text",
    [
        "cost $5 and $6 today",
        "$\\nosuchcommand{x}$",
        "$ x",
        "no formula",
        "\\(\\unclosed{\\)",
        "$$",
        "a$b$c",
        "$" + "x" * 700 + "$",
    ],
)
def test_what_is_no_formula_stays_as_it_is(text: str) -> None:
    assert "<math" not in set_mathematics(text) and set_mathematics(text).unescape() == text


SIGNS = st.sampled_from(
    [
        "$",
        "\\(",
        "\\)",
        "\\frac",
        "\\href{javascript:x}",
        "\\style",
        "{",
        "}",
        "<script>",
        "^",
        "_",
        "&",
        '"',
        "x",
        "1",
        " ",
        "\\text",
    ]
)


@settings(max_examples=80)
@given(st.lists(SIGNS, max_size=14).map("".join))
def test_no_text_of_a_model_becomes_markup_of_its_own(text: str) -> None:
    shown = str(set_mathematics(text))
    tree = ElementTree.fromstring(f"<p>{shown}</p>")
    for element in tree.iter():
        assert element.tag in {"p"} or element.tag.startswith("m") or element.tag == "none", element.tag
        assert not {"href", "style", "onclick", "class", "id"} & set(element.attrib)
        assert "javascript" not in " ".join(element.attrib.values())


def test_the_page_has_settings_prompts_and_what_the_teacher_was_asked(finished: Path) -> None:
    run = open_run(finished)
    page = run.layout.report_page.read_text()
    assert "<code>generate.shards</code></td><td><code>2</code>" in page, "a key that is not at its default"
    assert (
        "Teacher, a refinement" in page
        and "what the teacher was asked" in page
        and "# Solution used so far" in page
    )
    data = collect(run)
    wrong = [row for asked in data.asked.values() for row in asked.wrong]
    assert wrong and all(row.verdict != "correct" for row in wrong) and "not learned from" in page


def test_the_figures_are_files_that_stand_alone(copied: Path) -> None:
    write_report(open_run(copied))
    folder = copied / "report" / "figures"
    data = collect(open_run(copied))
    rows = list(csv.DictReader((folder / "accuracy.csv").open()))
    assert len(rows) == sum(len(s.points) for s in data.series)
    for row in rows:
        assert float(row["accuracy"]) == int(row["correct"]) / int(row["answers"])
    names = set(dict(figures(data)))
    assert (
        {"accuracy-gsm.svg", "loss.svg", "loss.csv", "changes.csv", "lengths.csv"}
        <= names
        == {p.name for p in folder.iterdir()}
    )
    for path in folder.glob("*.svg"):
        tree = ElementTree.parse(path).getroot()
        assert (
            tree.tag.endswith("svg")
            and "var(--accent)" in path.read_text()
            and "--accent:" in path.read_text()
        )
    page = (copied / "report" / "index.html").read_text()
    assert all(f'href="figures/{name}"' in page for name in names)


def test_accuracy_by_category(copied: Path) -> None:
    run = open_run(copied)
    rows = list(undo_hpc.answers(run, 2, "gsm"))
    summary = CategorySummary()
    for row in rows:
        summary.add([row, row], {"level": str(row.idx % 2)})
    made = summary.to_dict()
    made["source"] = dict.fromkeys(("=1+1", "\x1b[2J@x", "-1.5", "-1+1"), made["level"]["0"])
    assert made["level"].keys() == {"0", "1"} and sum(v["n"] for v in made["level"].values()) == len(rows)
    path = run.layout.iteration(2).metrics
    set_metrics(run, 2, read_json(path) | {"categories": {"gsm": made}})
    page = write_report(open_run(copied)).read_text()
    assert "Accuracy by category" in page and "by level" in page
    table = (copied / "report" / "figures" / "categories.csv").read_text()
    assert table.count("gsm,level,") == 2
    shown = {row["value"] for row in csv.DictReader(table.splitlines()) if row["column"] == "source"}
    assert shown == {"'=1+1", "\\x1b[2J@x", "-1.5", "'-1+1"}, (
        "no formula for a spreadsheet, no command for a terminal"
    )


def test_metadata_columns_are_carried_to_the_figures(tmp_path: Path) -> None:
    from dataclasses import replace

    built = RunBuilder(tmp_path / "run", problems=12, benchmarks={"gsm": 8}, sets=["display.report=false"])
    plain = (built.root / "benchmarks" / "gsm.jsonl").read_text()
    assert "metadata" not in plain, "rows without metadata are as they were"
    built.sets["gsm"] = [replace(p, metadata={"level": "ab"[p.idx % 2]}) for p in built.sets["gsm"]]
    built.prepare()
    run = built.play(1)
    made = read_json(run.layout.iteration(0).metrics)["categories"]
    assert made.keys() == {"gsm"} and {v: m["n"] for v, m in made["gsm"]["level"].items()} == {"a": 4, "b": 4}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10, 101])
def test_lengths_are_the_quantiles_that_others_compute(count: int) -> None:
    rng = random.Random(count)
    values = [rng.randint(1, 40) for _ in range(count)]
    assert _quantiles(Counter(values)) == pytest.approx(list(np.quantile(values, QUANTILES)))
    assert _quantiles(Counter()) == []


@pytest.mark.parametrize("right", [0, 1, 2, 600, 1198, 1199, 1200])
def test_an_interval_holds_its_accuracy_as_both_are_shown(right: int) -> None:
    low, high = wilson(right, 1200)
    shown = cell({"accuracy": right / 1200, "low": low, "high": high})
    value, least, most = (float(text.strip("<>")) for text in re.split(r"[\n-]", shown))
    assert least <= value <= most
