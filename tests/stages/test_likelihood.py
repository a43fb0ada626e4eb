"""The likeliest of several right rationales is kept: scored by the tiny student itself, with the same bytes through a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.stages.build import make_attempt, write_shards
from tests.stages.test_score import do
from undo_hpc.config.load import load_config, override
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.planning import current_state, make_plan
from undo_hpc.data.distilled import read_distilled
from undo_hpc.errors import ConfigError, EvidenceError, Requeue
from undo_hpc.method.selection import Choice, accept, candidates
from undo_hpc.pipeline.run import Run, create_or_open
from undo_hpc.records import Attempt, Problem
from undo_hpc.stages import likelihood, merge
from undo_hpc.stages.prepare import prepare
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.storage.shards import read_rows

STRANGE = " Zw zw 9 9 zw 8 - - 8 zw."


def attempts(problem: Problem) -> list[Attempt]:
    """Three right ones: with words that the student never reads before and behind, and the data's own between them. One has no choice."""
    own = f"{problem.solution} \\boxed{{{problem.ground_truth}}}"
    texts = [STRANGE + own, own, own + STRANGE]
    kept = [replace(make_attempt(problem, k), text=text) for k, text in enumerate(texts)]
    return kept[:1] if problem.idx % 10 == 0 else kept


@pytest.fixture
def run(tmp_path: Path) -> Run:
    sets = ["name=chosen", "data.train.sample=24", "data.validation=2", "data.diagnosis=2", "generate.shards=2", "generate.samples=3",
            "method.select=likeliest", "method.keep=1", "evaluate.baseline=false", "storage.flush_rows=4"]  # fmt: skip
    made = create_or_open(load_config("tiny", sets), tmp_path / "run", command=[])
    prepare(made)
    make_plan(made, 0)
    write_shards(made, attempts)
    return made


def scored(run: Run) -> list[bytes]:
    return [run.layout.iteration(0).shard("likelihood", k).read_bytes() for k in range(2)]


def test_the_likeliest_is_kept_and_a_stop_changes_no_byte(run: Run) -> None:
    assert [s.stage for s in current_state(run).missing][:3] == ["likelihood", "likelihood", "merge"]
    with pytest.raises(EvidenceError):
        do(run, "merge", merge.run_stage)
    for index in range(2):
        do(run, "likelihood", likelihood.run_stage, index)
    first = scored(run)
    rows = [row for k in range(2) for row in read_rows(run.layout.iteration(0).shard("likelihood", k))]
    assert rows and {row["attempt"] for row in rows} == {0, 1, 2} and all(row["log_p"] < 0 for row in rows)
    assert not any(row["idx"] % 10 == 0 for row in rows), "where there is no choice nothing is scored"
    do(run, "merge", merge.run_stage)
    kept = {e.idx: e.attempt for e in read_distilled(run.layout.iteration(0).distilled)}
    chosen = [kept[idx] for idx in kept if idx % 10]
    assert 2 not in chosen and chosen.count(1) > len(chosen) // 4, (
        "neither the first ones nor those that end strangely"
    )
    best = {}
    for row in rows:
        best[row["idx"]] = max(best.get(row["idx"], (-99.0, -1)), (row["log_p"], row["attempt"]))
    assert {idx: attempt for idx, (_, attempt) in best.items()} == {i: a for i, a in kept.items() if i % 10}
    merged = read_manifest(run.layout.iteration(0).stage_manifest("merge"))
    assert merged is not None and merged.counts["dropped"]["surplus"] == 2 * len(best)

    (run.layout.root / current_state(run).stages[1].tasks[0].manifest).unlink()
    with pytest.raises(Requeue):
        do(run, "likelihood", likelihood.run_stage, 0, stop_after=2)
    do(run, "likelihood", likelihood.run_stage, 0)
    assert scored(run) == first
    assert "merge" not in {status.stage for status in current_state(run).missing}


def test_what_was_scored_by_another_value_of_reasoning_is_not_taken_up(run: Run) -> None:
    other = Run(run.layout, override(run.config, ["student.reasoning=strip"]))
    for each in (run, other):
        with pytest.raises(Requeue):
            do(each, "likelihood", likelihood.run_stage, 0, stop_after=2)
    at = run.layout.iteration(0)
    parts = at.part_files(at.shard("likelihood", 0), "*")
    assert len({path.name.split("-")[1] for path in parts}) == 2, "other texts, other scores"


def test_rows_without_a_likelihood_come_last_and_the_right_ones_first() -> None:
    rows = [
        {
            "attempt": k,
            "text": f"t{k}",
            "flags": flags,
            "verdict": "correct",
            "completion_tokens": 9,
            "log_p": log_p,
        }
        for k, (flags, log_p) in enumerate(
            [([], None), ([], -0.5), (["wrong"], -0.1), ([], -0.2), (["leak"], -0.1)]
        )
    ]
    choice = Choice(2, select="likeliest", samples=5)
    kept, dropped = accept(rows, choice)
    assert [row["attempt"] for row in kept] == [1, 3] and dropped == {"surplus": 1, "wrong": 1, "leak": 1}
    assert [row["attempt"] for row in candidates(rows, choice)] == [0, 1, 3]
    assert candidates(rows[:2], choice) == [] and len(candidates(rows, replace(choice, keep_wrong=True))) == 4
    assert candidates(rows, replace(choice, low=0.5, high=0.9)) == [], "a problem that is left out whole"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["generate.samples=1"], "generate.samples above 1"),
        (["method.keep=0"], "keeps fewer"),
        (["evaluate.engine.name=openai", "evaluate.engine.openai.base_url=http://x"], "log-probabilities"),
        (["cluster.policy={generate: {kind: quorum, value: 1}}"], "cluster.policy.generate"),
    ],
)
def test_it_is_refused_where_it_cannot_be(sets: list[str], message: str) -> None:
    chosen = ["generate.samples=3", "method.select=likeliest", "method.keep=1"]
    assert override(RunConfig(), chosen).method.select == "likeliest"
    with pytest.raises(ConfigError, match=message):
        override(RunConfig(), [*chosen, *sets])
