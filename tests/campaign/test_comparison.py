"""Runs compared on the same items: figures, ledger, sentences, the page, and the verb; what cannot be compared is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.campaign.build import campaign_file, played
from tests.observe.synthetic import RunBuilder, set_metrics
from undo_hpc.campaign import markdown
from undo_hpc.campaign.answers import RunResult, read_result, truths_of
from undo_hpc.campaign.comparison import cautions, compare, null_control
from undo_hpc.campaign.definition import REPEATED, MatchConfig, MatchException, load_campaign
from undo_hpc.campaign.dependent import require_same_checker
from undo_hpc.campaign.markdown import to_markdown
from undo_hpc.campaign.page import gather, page, to_dict
from undo_hpc.campaign.state import CampaignDir
from undo_hpc.cli import main
from undo_hpc.cli.verbs.compare import group_runs
from undo_hpc.config.load import override
from undo_hpc.errors import ConfigError, DataError, EvidenceError
from undo_hpc.method.paired import holm
from undo_hpc.observe.exports import write_lm_eval
from undo_hpc.observe.report.collect import collect
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import read_json, write_json
from undo_hpc.storage.manifest import describe_output, read_manifest, write_manifest
from undo_hpc.storage.shards import read_rows

Runs = dict[str, dict[int, Run]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("runs")
    return {
        "undo": {seed: played(root / "undo" / f"seed-00{seed}", seed=seed, skill=0.9) for seed in (0, 1, 2)},
        "blind": {seed: played(root / "blind" / f"seed-00{seed}", "method.preset=blind", seed=seed, skill=0.45) for seed in (0, 1, 2)},
        "one_shot": {0: played(root / "one_shot" / "seed-000", "method.preset=one_shot", iterations=1)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def results(runs: Runs) -> dict[str, dict[int, RunResult]]:
    found = {
        arm: {seed: read_result(run, "gsm") for seed, run in seeds.items()} for arm, seeds in runs.items()
    }
    # the synthetic students of all runs have the same bytes
    return {
        arm: {seed: replace(r, student=f"{arm}/{seed}") for seed, r in seeds.items() if r is not None}
        for arm, seeds in found.items()
    }


def test_a_result_is_counted_from_the_rows(runs: Runs, results: dict[str, dict[int, RunResult]]) -> None:
    run, result = runs["undo"][1], results["undo"][1]
    at = run.layout.iteration(result.iteration)
    rows = [
        row
        for path in sorted((at.root / "evaluate" / "gsm").glob("shard-?????.jsonl"))
        for row in read_rows(path)
    ]
    assert result.answers == len(rows) == 80 and result.correct == sum(
        row["verdict"] == "correct" for row in rows
    )
    metrics = [read_json(run.layout.iteration(k).metrics) for k in (0, 1)]
    assert result.accuracies == {-1: metrics[0]["baseline"]["gsm"]["accuracy"]} | {
        k: m["sets"]["gsm"]["accuracy"] for k, m in enumerate(metrics)
    }
    tokens = sum(m["generate"]["prompt_tokens"] + m["generate"]["completion_tokens"] for m in metrics)
    assert (
        result.ledger.teacher_tokens == tokens
        and result.ledger.all_student_tokens == 2 * result.ledger.student_tokens
    )
    assert result.ledger.problems == metrics[result.iteration]["distilled"]["rows"] <= 24


def test_problems_that_training_left_out_were_not_learned_from(tmp_path: Path) -> None:
    run = RunBuilder(
        tmp_path / "run", problems=24, sets=["iterations=1"], benchmarks={"gsm": 30}, left_out=5
    ).play(1)
    result = read_result(run, "gsm")
    assert result is not None
    assert result.ledger.problems == read_json(run.layout.iteration(0).metrics)["distilled"]["rows"] - 5


def test_a_share_that_is_not_what_the_rows_say_is_refused(tmp_path: Path) -> None:
    run = played(tmp_path / "run")
    best = read_json(run.layout.iteration(1).metrics)["decision"]["best_iteration"]
    path = run.layout.iteration(best).metrics
    metrics = read_json(path)
    metrics["sets"]["gsm"]["accuracy"] += 0.003
    set_metrics(run, best, metrics)
    with pytest.raises(DataError, match="its rows say"):
        read_result(run, "gsm")
    with pytest.raises(DataError, match=r"was not evaluated on 'math'(.|\n)*gsm"):
        read_result(run, "math")


def test_answers_that_came_after_the_figures_are_in_none_of_them(tmp_path: Path) -> None:
    """With a policy for evaluate, tasks end after `advance`; their rows were in comparisons and in the changes, not in the accuracies."""
    policy = 'cluster.policy={"evaluate": {"kind": "min_fraction", "value": 0.5}}'
    built = RunBuilder(
        tmp_path / "run",
        problems=24,
        benchmarks={"gsm": 40},
        sets=["iterations=1", "evaluate.problems_per_task=10", policy],
    )
    plan = built.plan(0)
    built.generate(plan)
    built.evaluate(plan, "baseline", skill=0.2)
    built.single(plan, "merge")
    built.train(plan)
    tasks = [k for k, parts in enumerate(plan.evaluate) if any(part.problem_set == "gsm" for part in parts)]
    late = tasks[1:3]
    built.evaluate(plan, only=[k for k in range(len(plan.evaluate)) if k not in late])
    built.single(plan, "advance")
    built.evaluate(plan, skill=1.5, only=late)
    counted = read_json(built.run.layout.iteration(0).metrics)["sets"]["gsm"]
    result = read_result(built.run, "gsm")
    assert result is not None and 0 < counted["n"] < 40
    assert (len(result.scores), result.answers, result.correct) == (
        counted["n"],
        counted["answers"],
        counted["correct"],
    )
    data = collect(built.run)
    assert next(f.n for f in data.flips if f.name == "gsm") == counted["n"]
    series = data.one("gsm")
    assert series is not None and series.n == f"{counted['n']} to 40", "the untrained student answered all"
    assert write_lm_eval(built.run, 0) is not None
    exported = read_json(next(built.run.layout.iteration(0).lm_eval.rglob("results_*.json")))
    assert exported["results"]["gsm"]["sample_len"] == counted["n"]
    assert exported["results"]["gsm"]["exact_match,undo"] == pytest.approx(counted["accuracy"])


def test_a_run_that_has_not_ended_has_no_result(tmp_path: Path) -> None:
    run = played(tmp_path / "run", "stop.enabled=false", iterations=2)
    assert read_result(run, "gsm") is not None
    more = Run(run.layout, override(run.config, ["iterations=3"]))
    assert read_result(more, "gsm") is None, "its iterations were raised since"


def test_a_large_difference_is_found_and_compute_that_differs_is_told(
    results: dict[str, dict[int, RunResult]],
) -> None:
    loose = MatchConfig(teacher_tokens=1, student_tokens=1, problems=1)
    (found,) = compare(results, [("undo", "blind")], loose)
    assert found.difference.low > 0 and found.p < 0.05 and found.difference.seeds == 3 and not found.unmatched
    assert (
        found.sentence.startswith("undo is better than blind: +")
        and not found.same
        and "matched" not in found.sentence
    )
    assert all(results["undo"][0].scores[key] in (0.0, 1.0) for key in found.fixed) and found.fixed
    both = compare(results, [("undo", "blind"), ("undo", "one_shot")])
    assert [c.p for c in both] == pytest.approx(holm([c.difference.p for c in both])) and both[0].family == 2
    assert both[0].detectable > found.detectable, "two comparisons are corrected"
    assert "teacher_tokens" in both[1].unmatched and "teacher tokens" in both[1].sentence
    assert "with one seed it says nothing of other seeds" in both[1].sentence
    assert "so that a difference may come from there" in both[1].sentence
    why = MatchException(pair=["one_shot", "undo"], measures=["teacher_tokens"], reason="it has one round")
    told = compare(results, [("undo", "one_shot")], MatchConfig(exceptions=[why]))[0].sentence
    assert (
        "teacher tokens are not matched" in told and "as the campaign's file says: it has one round" in told
    )


def test_a_difference_that_only_its_own_interval_shows_is_not_claimed(
    results: dict[str, dict[int, RunResult]],
) -> None:
    (found,) = compare(results, [("undo", "blind")])
    among = replace(found, p=0.2, family=4)
    assert not among.claimed and among.sentence.startswith("No difference between undo and blind is shown: +")
    assert f"alone it would be, p = {found.difference.p:.2g}, but not as one of 4" in among.sentence


def test_the_same_arm_under_two_names_is_not_told_apart(results: dict[str, dict[int, RunResult]]) -> None:
    (found,) = compare(results | {"again": results["undo"]}, [("undo", "again")])
    assert found.same == 3 and "under 3 of 3 seeds both have the same student" in found.sentence
    assert found.difference.mean == 0 and found.sentence.startswith(
        "No difference between undo and again is shown"
    )
    assert "would mostly not have been seen" in found.sentence


def test_the_interval_of_a_difference_holds_it_where_the_same_student_answered_otherwise(
    results: dict[str, dict[int, RunResult]],
) -> None:
    """In other batches, or with samples: '+8.8 points (95 % interval 0.0 to 0.0)' was shown."""
    one, other = results["undo"][0], results["blind"][0]
    [found] = compare({"a": {0: one}, "b": {0: replace(other, student=one.student)}}, [("a", "b")])
    assert found.same == 1 and found.difference.mean
    assert found.difference.low < found.difference.mean < found.difference.high
    [itself] = compare({"a": {0: one}, "b": {0: one}}, [("a", "b")])
    assert (itself.difference.low, itself.difference.mean, itself.difference.high) == (0, 0, 0)


def test_other_items_or_another_judge_are_refused(
    tmp_path: Path, results: dict[str, dict[int, RunResult]]
) -> None:
    fewer = read_result(played(tmp_path / "fewer", items=70), "gsm")
    slow = read_result(played(tmp_path / "slow", "grading.deadline_s=9.0"), "gsm")
    assert fewer is not None and slow is not None
    with pytest.raises(DataError, match=r"other items: 80 and 70 problems"):
        compare(results | {"x": {0: fewer}}, [("undo", "x")])
    busy = read_result(played(tmp_path / "busy", "grading.workers=4"), "gsm")
    assert busy is not None and compare(results | {"x": {0: busy}}, [("undo", "x")]), (
        "as many processes judge"
    )
    with pytest.raises(DataError, match="judged by other checkers"):
        compare(results | {"x": {0: slow}}, [("undo", "x")])
    warm = read_result(played(tmp_path / "warm", "evaluate.sampling.temperature=0.5"), "gsm")
    assert warm is not None and warm.sampling is not None and warm.sampling.temperature == 0.5
    with pytest.raises(DataError, match="sampled differently"):
        compare(results | {"x": {0: warm}}, [("undo", "x")])


def test_other_ground_truths_of_the_same_problems_are_refused(
    tmp_path: Path, results: dict[str, dict[int, RunResult]]
) -> None:
    """A benchmark's file was corrected after one arm had been prepared: its id is that of the problem's text."""
    run = played(tmp_path / "run", skill=0.1)
    read = read_result(run, "gsm")
    assert read is not None and compare(results | {"x": {0: read}}, [("undo", "x")])
    path, manifest = run.layout.benchmark("gsm"), read_manifest(run.layout.prepared)
    assert manifest is not None
    path.write_bytes(path.read_bytes().replace(b'"ground_truth":"', b'"ground_truth":"1', 1))
    with pytest.raises(EvidenceError, match="frozen problems are damaged"):
        read_result(run, "gsm")
    outputs = manifest.outputs | {run.layout.relative(path): describe_output(path)}
    write_manifest(run.layout.prepared, replace(manifest, outputs=outputs))
    corrected = replace(read, truths=truths_of(run, "gsm"))
    with pytest.raises(DataError, match="other ground truths"):
        compare(results | {"x": {0: corrected}}, [("undo", "x")])


def test_versions_that_differ_are_told(tmp_path: Path, results: dict[str, dict[int, RunResult]]) -> None:
    slow = read_result(played(tmp_path / "slow"), "gsm")
    assert slow is not None
    changed = read_json(slow.run.layout.environment) | {"git": "other"}
    write_json(slow.run.layout.environment, changed)
    assert any(
        "2 versions of the code" in text
        for text in cautions(
            {"a": results["undo"], "x": {0: replace(slow, run=Run(slow.run.layout, slow.run.config))}}
        )
    )


def test_a_campaign_graded_by_another_checker_is_not_continued(tmp_path: Path) -> None:
    """Told before the rest is run: graded by two checkers, arms could not be compared."""
    campaign, place = load_campaign(campaign_file(tmp_path)), CampaignDir(tmp_path / "camp")
    run = played(place.run("undo", 1))
    require_same_checker(campaign, place)
    path = run.layout.iteration(0).metrics
    set_metrics(run, 0, read_json(path) | {"checker": "0.0"})
    with pytest.raises(ConfigError, match=r"undo, seed 1 was graded by checker 0\.0(.|\n)*regrade"):
        require_same_checker(campaign, place)
    for name, seed in (("undo", 0), ("blind", 0), ("blind", 1)):
        played(place.run(name, seed))
    require_same_checker(
        campaign, place
    )  # nothing is left to be graded; `compare` sees whether all were graded alike


class Text(HTMLParser):
    """The tags of a page, which must be balanced, and what it says."""

    VOID = ("meta", "link", "br", "line", "circle", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_answers_the_sceptic(results: dict[str, dict[int, RunResult]]) -> None:
    data = gather(
        "mine",
        results,
        [("undo", "blind"), ("undo", "one_shot")],
        problem_set="gsm",
        pending=["one_shot, seed 1 <b>"],
        positive=["undo", "blind"],
        null=["undo", "undo"],
    )
    html = page(data, "today")
    reader = Text()
    reader.feed(html)
    assert (
        not reader.open
        and "http://" not in html.replace("http://www.w3.org", "")
        and "seed 1 &lt;b&gt;" in html
    )
    words = " ".join(" ".join(reader.words).split())
    for comparison in data.comparisons:
        assert comparison.sentence in words
    for figure in (f"{results['undo'][0].ledger.teacher_tokens:,}"[:3], "student tokens", "distinct problems", "tokens a rationale", "attempts right",
                   "method.condition", "Solve the problem step by step", "p (Holm)", "smallest seen",
                   "Null control", "detected in"):  # fmt: skip
        assert figure in words, figure
    assert len(re.findall(r'<svg class="chart"', html)) == 2
    shown = to_dict(data)
    assert len(shown["runs"]) == 7 and all(
        abs(r["accuracy"] - r["correct"] / r["answers"]) < 1e-9 for r in shown["runs"]
    )
    tables = to_markdown(json.loads(json.dumps(shown, default=str)))
    for run in shown["runs"]:
        assert f"{100 * run['accuracy']:.1f}" in tables
    total = sum(run["correct"] for run in shown["runs"] if run["arm"] == "undo")
    assert f"| {total:,} of 240 |" in tables and data.comparisons[0].sentence in tables
    assert (
        "positive control, undo \u2212 blind" in tables
        and "of 20 resamplings of problems, names exchanged" in tables
    )


def test_only_six_seeds_and_more_are_split_against_themselves(
    results: dict[str, dict[int, RunResult]],
) -> None:
    assert null_control(results) == {}
    many = {"undo": {seed: results["undo"][seed % 3] for seed in range(6)}}
    ((ways, claims),) = null_control(many).values()
    assert ways == 10 and 0 <= claims <= ways


def test_the_verb_compares_groups_of_seeds(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dirs = [str(run.layout.root) for arm in ("blind", "undo") for run in runs[arm].values()]
    target = tmp_path / "compare.html"
    assert main(["compare", *dirs, "--page", str(target)]) == 0
    out = capsys.readouterr().out
    assert (
        "undo is better than blind: +" in out
        and "3 seeds" in out
        and target.read_text().startswith("<!doctype html>")
    )
    assert main(["compare", dirs[0], dirs[-1]]) == 0
    assert "undo and blind have no seed in common" in capsys.readouterr().out
    repeat = f"stages.repeat={json.dumps(REPEATED)}"
    again, first = (
        RunBuilder(
            tmp_path / "blind" / f"seed-{seed}", problems=9, sets=[f"seed={seed}", *more], benchmarks={}
        ).run
        for seed, more in ((3, [repeat]), (4, []))
    )
    assert group_runs([again, first]).keys() == {"blind"}, (
        "that one of them answered twice makes it no other arm"
    )
    matched = [
        RunBuilder(
            tmp_path / "c" / "long" / f"seed-{seed:03d}",
            problems=9,
            sets=[f"seed={seed}", f"train.tokens={9000 + seed}"],
            benchmarks={},
        ).run
        for seed in (3, 4)
    ]
    assert len(group_runs(matched)) == 2
    (tmp_path / "c" / "campaign.resolved.json").write_text("{}")
    assert group_runs(matched).keys() == {"long"}, "an arm's tokens may be matched seed by seed"
    assert main(["compare", *dirs[:3]]) == 2
    assert "one group of runs" in capsys.readouterr().err
    assert main(["compare", dirs[0], dirs[0], dirs[3]]) == 2
    assert "a repeated seed adds no evidence" in capsys.readouterr().err
    assert main(["compare", dirs[0], dirs[3], "--benchmark", "nothing"]) == 2


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b'{"runs": 3}', b"\xff"])
def test_the_tables_of_what_is_no_result_end_in_a_message(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_bytes(content)
    assert markdown.main([str(path)]) == 2 and markdown.main([]) == 2
    said = capsys.readouterr().err
    assert "results.json" in said and "unexpected" not in said
