"""The published figures of the campaigns `tiny_validate`, `tiny_signals` and `tiny_worlds` are those of their results.json; every share is k of n."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import REPO
from undo_hpc.campaign.definition import find_campaign, load_campaign
from undo_hpc.campaign.markdown import insert, main, to_markdown
from undo_hpc.method.paired import holm

RESULTS = REPO / "docs" / "validation.json"


@pytest.fixture(scope="module")
def results() -> dict[str, object]:
    return dict(json.loads(RESULTS.read_text()))


@pytest.mark.parametrize("name", ["validation", "signals", "worlds"])
def test_the_page_shows_what_the_command_makes_of_the_results(name: str) -> None:
    page = REPO / "docs" / f"{name}.md"
    shown, text = json.loads(page.with_suffix(".json").read_text()), page.read_text(encoding="utf-8")
    assert insert(text, shown) == text, f"python -m undo_hpc.campaign.markdown {name}.json {name}.md"
    assert to_markdown(shown) in text and not shown["pending"]


def test_figures_are_counted_and_belong_to_the_campaign_that_was_decided(results: dict[str, object]) -> None:
    campaign = load_campaign(find_campaign("tiny_validate")).config
    runs = results["runs"]
    assert isinstance(runs, list) and not results["pending"]
    assert {(r["arm"], r["seed"]) for r in runs} == {(a, s) for a in campaign.arms for s in campaign.seeds}
    for run in runs:
        assert run["n"] == 1000 and run["accuracy"] == pytest.approx(run["correct"] / run["answers"])
    compared = results["comparisons"]
    assert isinstance(compared, list) and [[c["a"], c["b"]] for c in compared] == campaign.primary
    assert [c["p_holm"] for c in compared] == pytest.approx(holm([c["p"] for c in compared]))
    for c in compared:
        mean = {arm: sum(r["correct"] for r in runs if r["arm"] == arm) / 5000 for arm in (c["a"], c["b"])}
        assert c["mean"] == pytest.approx(mean[c["a"]] - mean[c["b"]])
        assert c["wins"] - c["losses"] == round(5000 * c["mean"])


def test_the_readme_quotes_them_with_their_intervals(results: dict[str, object]) -> None:
    """Each difference that the README tells stands in a sentence of the results, sign and interval and all."""
    text = " ".join((REPO / "README.md").read_text(encoding="utf-8").split())
    told = re.findall(r"([+\u2212]\d+\.\d) points \(([+\u2212]\d+\.\d) to ([+\u2212]\d+\.\d)\)", text)
    worlds = json.loads((REPO / "docs" / "worlds.json").read_text())
    compared = results["comparisons"]
    assert isinstance(compared, list) and len(told) >= 4
    sentences = " ".join(c["sentence"] for c in [*compared, *worlds["comparisons"]])
    for mean, low, high in told:
        assert f"{mean} points (95 % interval {low} to {high}" in sentences


def test_the_command_prints_and_inserts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(RESULTS)]) == 0
    printed = capsys.readouterr().out
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures -->\nold\n<!-- end of figures -->\nb\n")
    assert main([str(RESULTS), str(page)]) == 0
    assert page.read_text() == f"a\n<!-- figures -->\n{printed}<!-- end of figures -->\nb\n"
    page.write_text("no marks")
    assert main([str(RESULTS), str(page)]) == 2
    assert "has no <!-- figures -->" in capsys.readouterr().err and page.read_text() == "no marks"


def test_second_students_are_counted_and_stand_on_the_page(results: dict[str, object]) -> None:
    transfer = results["transfer"]
    assert isinstance(transfer, dict)
    for arm in ("undo", "blind"):
        right = sum(r["correct"] for r in transfer["runs"] if r["arm"] == arm)
        assert f"| {arm} | {right:,} of 5,000 | {right / 50:.1f} |" in to_markdown(results)
    assert f"another student: {transfer['comparisons'][0]['sentence']}" in to_markdown(results)
    assert "another student" not in to_markdown({**results, "transfer": {"runs": [], "comparisons": []}})


def test_the_worlds_are_those_of_their_campaign() -> None:
    results = json.loads((REPO / "docs" / "worlds.json").read_text())
    file = (REPO / "launchers" / "campaigns" / "tiny_worlds.yaml").read_text()
    for c in results["comparisons"]:
        assert f"- [{c['a']}, {c['b']}]" in file
        right = {arm: [r for r in results["runs"] if r["arm"] == arm] for arm in (c["a"], c["b"])}
        assert all(sorted(r["seed"] for r in runs) == [0, 1, 2, 3, 4, 5] for runs in right.values())
        share = {arm: sum(r["correct"] for r in runs) / 6000 for arm, runs in right.items()}
        assert c["mean"] == pytest.approx(share[c["a"]] - share[c["b"]])
