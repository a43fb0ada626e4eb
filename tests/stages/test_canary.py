"""The canary: a few problems first; the array is planned from its figures, or not released; no byte of a result depends on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.stages.build import context, make_problems, make_run, targets_in
from tests.stages.test_targets import Instant
from undo_hpc.config.canary import CanaryConfig
from undo_hpc.config.load import override
from undo_hpc.config.parts import CANARY_ABOVE, canary_problems
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import read_state
from undo_hpc.errors import ConfigError
from undo_hpc.method.canary import figures, problems
from undo_hpc.observe.attempts import answered
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.stages import canary, generate, release
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import read_manifest, write_manifest

PROBLEMS = make_problems(40)
COUNTS = {"rows": 20, "correct": 12, "truncated": 4, "problems": 16, "encoded": 9, "to_encode": 12, "new_tokens": 4000, "seconds": 20.0}  # fmt: skip


def planned(root: Path, problems: int, **settings: Any) -> Run:
    made = {"max_attempts": 2, "sampling": {"max_new_tokens": 64}, "target_minutes": 0.002}
    made |= {"canary": {"problems": problems, "min_right": 0.0}} | settings
    return make_run(root, PROBLEMS, 0, generate=made, teacher={"model": "me/teacher"}, student={"model": "tiny:student", "prompt": "tiny"})  # fmt: skip


def play(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs what is missing as far as generate; returns the stages that ran."""
    monkeypatch.setattr(generate, "load_engine", lambda *_, **__: Instant())
    ran = []
    modules = {"canary": canary, "release": release, "generate": generate}
    while todo := [s for s in current_state(run).missing if s.stage in modules]:
        with Lease(run.layout.root / "l", "test") as lease:
            modules[todo[0].stage].run_stage(context(run, todo[0].stage, lease, todo[0].index))
        ran.append(todo[0].stage)
    return ran


def rows(run: Run) -> list[Any]:
    return [row.attempt for row in answered(run, "generate", 0)]


def test_the_array_follows_from_the_canary_and_has_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, tried = planned(tmp_path / "plain", 0), planned(tmp_path / "tried", 8)
    assert "generate" in {s.stage for s in current_state(plain).missing}
    first = tried.plan(0)
    assert first is not None and (first.canary_problems, first.problems, first.shards) == (8, 40, 1)
    asked = [target.problem_id for target in targets_in(tried, 0, 0)]
    assert asked == [p.problem_id for p in PROBLEMS[::5]], "evenly from all of them"
    assert [s.stage for s in current_state(tried).missing] == ["canary", "release"]
    play(plain, monkeypatch)
    Instant.asked.clear()
    assert play(tried, monkeypatch)[:3] == ["canary", "release", "generate"]
    state = current_state(tried)
    assert not state.plan.canary_problems and "by the canary (8 problems)" in state.plan.workload["basis"]
    assert rows(plain) == rows(tried), "byte for byte, however they were cut"
    assert len(Instant.asked) == len(rows(tried)), "what the canary wrote is not written again"
    assert len(list(answered(tried, "canary", 0))) >= 8
    made = [read_manifest(tried.layout.root / task.manifest) for task in state.stages[0].tasks]
    new = sum(m.counts["new_tokens"] for m in made if m)
    assert new < sum(m.counts["completion_tokens"] for m in made if m), "its tokens are counted once"


def test_its_figures_choose_the_number_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planned(tmp_path / "run", 8)
    monkeypatch.setattr(generate, "load_engine", lambda *_, **__: Instant())
    with Lease(run.layout.root / "l", "test") as lease:
        canary.run_stage(context(run, "canary", lease))
        path = run.layout.root / current_state(run).stages[0].tasks[0].manifest
        for speed, shards in ((100.0, 40), (1e6, 1)):
            for name in ("release.manifest.json", "plan.json"):
                (run.layout.iteration(0).root / name).unlink(missing_ok=True)
            manifest = read_manifest(path)
            assert manifest is not None
            counts = manifest.counts | {"new_tokens": 100, "seconds": 100 / speed}
            write_manifest(path, replace(manifest, counts=counts))
            again = open_run(run.layout.root)
            current_state(again)
            release.run_stage(context(again, "release", lease))
            assert current_state(again).plan.shards == shards


def test_a_bad_canary_is_not_released_until_its_threshold_is_lowered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path / "run", 8, canary={"problems": 8, "min_right": 1.0})
    with pytest.raises(ConfigError, match="not released") as error:
        play(run, monkeypatch)
    assert "below min_right 100 %" in str(error.value) and "show" in error.value.hint
    state = read_state(run)
    assert state is not None and not state.complete and [s.stage for s in state.missing] == ["release"]
    config = override(run.config, ["generate.canary.min_right=0"])
    assert play(Run(run.layout, config), monkeypatch)[:2] == ["release", "generate"]


def test_rows_of_other_prompts_or_another_checker_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path / "run", 8)
    monkeypatch.setattr(generate, "load_engine", lambda *_, **__: Instant())
    with Lease(run.layout.root / "l", "test") as lease:
        for module, name in ((canary, "canary"), (release, "release")):
            current_state(run)
            module.run_stage(context(run, name, lease))
        plan = current_state(run).plan
        ids, ctx = {p.problem_id for p in PROBLEMS[:6]}, context(run, "generate", lease)
        assert {row.problem_id for row in release.canary_rows(ctx, plan.prompts["generate"], ids)} == {
            PROBLEMS[0].problem_id, PROBLEMS[5].problem_id
        }  # fmt: skip
        assert release.canary_rows(ctx, "other prompts", ids) == []
        shard = run.layout.iteration(0).shard("canary", 0)
        shard.write_bytes(shard.read_bytes().replace(b"Drawn", b"Drown"))
        assert release.canary_rows(ctx, plan.prompts["generate"], ids) == []


@pytest.mark.parametrize(
    ("counts", "wanted", "key"),
    [
        ({}, {}, ""),
        ({"correct": 1}, {}, "min_right"),
        ({"truncated": 11}, {}, "max_new_tokens"),
        ({"encoded": 3}, {}, "train.max_length"),
        ({}, {"min_tokens_per_second": 300.0}, "probe"),
        ({"encoded": 0, "to_encode": 0, "correct": 0}, {"min_right": 0.0}, ""),
        ({"rows": 0, "correct": 0, "truncated": 0, "seconds": 0}, {"min_right": 0.0}, ""),
    ],
)
def test_the_thresholds(counts: dict[str, Any], wanted: dict[str, Any], key: str) -> None:
    found = problems(COUNTS | counts, CanaryConfig(**wanted))
    assert (len(found), key in " ".join(found)) == (bool(key), True)
    assert figures(COUNTS | counts)


def test_it_is_on_for_a_real_teacher_with_an_array_on_a_cluster_and_where_it_is_asked_for() -> None:
    def chosen(*sets: str, shards: int = CANARY_ABOVE + 1, iteration: int = 0) -> int:
        return canary_problems(
            override(RunConfig(), ["teacher.model=me/teacher", *sets]), iteration, 1000, shards
        )

    slurm = "cluster.kind=slurm"
    assert chosen(slurm) == 16
    assert not chosen() and not chosen(slurm, shards=CANARY_ABOVE) and not chosen(slurm, iteration=1)
    assert not chosen(slurm, "teacher.model=tiny:teacher") and not chosen(slurm, "generate.canary.problems=0")
    assert chosen("generate.canary.problems=3", shards=1) == 3 and not chosen("generate.canary.problems=1000")
    assert not chosen(slurm, "method.condition=ground_truth", "iterations=1")
    assert not chosen(slurm, "generate.engine.name=openai", "generate.service=2")
    given = "data.rationales.path=rows.jsonl"
    assert not chosen(slurm, given) and chosen(slurm, given, iteration=1) == 16
