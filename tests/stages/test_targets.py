"""The teacher's work is a file: readable, cut into contiguous shards, made of streams, made again when it is lost, and all that a task reads."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest

from tests.stages.build import (
    advance_to,
    context,
    make_attempt,
    make_feedback,
    make_problems,
    make_run,
    targets_in,
    write_shards,
)
from undo_hpc.control import planning
from undo_hpc.control.planning import current_state, make_plan
from undo_hpc.engines import Completion, Request
from undo_hpc.engines.base import digest
from undo_hpc.errors import EngineError, EvidenceError, StorageError
from undo_hpc.pipeline.run import Run
from undo_hpc.prompts import load_prompts
from undo_hpc.records import Feedback, Target
from undo_hpc.stages import generate, merge, targets
from undo_hpc.storage.atomic import sha256_file
from undo_hpc.storage.events import read_events
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import Manifest, describe_output, read_manifest, write_manifest
from undo_hpc.storage.shards import read_rows

PROBLEMS = make_problems(40)
FEEDBACK = [make_feedback(p, right=p.idx % 3 == 0) for p in PROBLEMS]
WRONG = [p for p in PROBLEMS if p.idx % 3]


def refined(tmp_path: Path, shards: int = 3, feedback: Sequence[Feedback] = FEEDBACK, **method: Any) -> Run:
    """A run whose second iteration is planned."""
    run = make_run(tmp_path, PROBLEMS, shards, method={"errors_from": "train"} | method)
    advance_to(run, 1, list(feedback))
    return run


def all_targets(run: Run, iteration: int) -> list[Target]:
    plan = run.plan(iteration)
    assert plan is not None
    return [target for index in range(plan.shards) for target in targets_in(run, iteration, index)]


class Instant:
    """Answers at once, the same request always alike; fails after a number of answers."""

    asked: ClassVar[list[str]] = []

    def __init__(self, most: int = 10**9) -> None:
        self._most = most

    def describe(self) -> dict[str, Any]:
        return {"engine": "instant"}

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool]
    ) -> Iterator[Completion]:
        for number, request in enumerate(requests):
            if number >= self._most:
                raise EngineError("the node went down")
            self.asked.append(request.prompt)
            text = f"Drawn with {request.seed}: the answer is \\boxed{{{request.seed % 5}}}"
            yield Completion(request.id, text, "stop", 5, 7, digest(request.prompt))

    def close(self) -> None:
        return None


def run_generate(
    run: Run, monkeypatch: pytest.MonkeyPatch, index: int, iteration: int = 0, most: int = 10**9
) -> None:
    monkeypatch.setattr(generate, "load_engine", lambda *_, **__: Instant(most))
    with Lease(run.layout.root / "l", "generate") as lease:
        generate.run_stage(context(run, "generate", lease, index, iteration))


def test_one_can_read_what_the_teacher_is_asked(tmp_path: Path) -> None:
    run = refined(tmp_path / "run")
    row = next(read_rows(run.layout.iteration(1).targets_file(0)))
    problem = WRONG[0]
    assert list(row)[:6] == ["problem_id", "idx", "style", "problem", "rationale", "student_answer"]
    assert row["problem"] == problem.problem and row["student_answer"] == f"I guess {problem.idx}"
    assert (row["style"], row["verdict"], row["shown_ground_truth"]) == ("refine", "wrong", "")
    prompt = targets.prompt_of(Target.from_dict(row), load_prompts("default"), "Be brief.")
    shown = (problem.problem, row["rationale"], row["student_answer"], "Be brief.")
    assert all(text in prompt for text in shown)
    first = targets_in(run, 0, 0)[0]
    assert first.style == "plain" and first.to_problem().ground_truth == PROBLEMS[0].ground_truth
    assert targets.prompt_of(first, load_prompts("default"), "") == load_prompts("default").problem(
        first.problem
    )


def test_the_examples_and_the_ground_truth_are_shown_where_they_are_asked_for(tmp_path: Path) -> None:
    shown = [make_feedback(p, right=p.idx == 38, split="validation") for p in PROBLEMS[37:]]
    run = refined(
        tmp_path / "run",
        feedback=[*FEEDBACK[:37], *shown],
        examples=2,
        examples_from="validation",
        show_truth=True,
    )
    for target in all_targets(run, 1):
        assert sorted(e.problem_id for e in target.examples) == [PROBLEMS[k].problem_id for k in (37, 39)]
        assert target.shown_ground_truth == target.ground_truth
        assert "I guess 39" in targets.prompt_of(target, load_prompts("default"), "")


@pytest.mark.parametrize("condition", ["blind", "shuffled"])
def test_the_controls_change_the_attempt_alone(tmp_path: Path, condition: str) -> None:
    plain = all_targets(refined(tmp_path / "undo"), 1)
    other = all_targets(refined(tmp_path / "other", condition=condition), 1)
    assert [(t.problem_id, t.rationale) for t in plain] == [(t.problem_id, t.rationale) for t in other]
    own = {t.problem_id: t.student_answer for t in plain}
    if condition == "blind":
        assert {(t.student_answer, t.verdict) for t in other} == {("", "")}
    else:
        assert all(own[t.problem_id] != t.student_answer for t in other)
        assert sorted(own.values()) == sorted(t.student_answer for t in other)


@pytest.mark.parametrize("condition", ["undo", "shuffled"])
def test_shards_are_contiguous_whatever_their_number(tmp_path: Path, condition: str) -> None:
    joined = set()
    for shards in (1, 3, 7):
        run = refined(tmp_path / str(shards), shards, condition=condition)
        plan, at = run.plan(1), run.layout.iteration(1)
        assert plan is not None and plan.shards == len(plan.targets) == shards
        files = [at.targets_file(index) for index in range(shards)]
        assert [tuple(f.values()) for f in plan.targets] == [
            (sha256_file(p), p.stat().st_size, len(rows := list(read_rows(p))), rows[0]["idx"]) for p in files
        ]
        assert sorted(at.targets.iterdir()) == files
        joined.add(b"".join(path.read_bytes() for path in files))
    (data,) = joined
    assert [orjson.loads(line)["idx"] for line in data.splitlines()] == [p.idx for p in WRONG]


def test_a_task_reads_its_own_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, alone = refined(tmp_path / "whole"), refined(tmp_path / "alone")
    run_generate(whole, monkeypatch, 1, 1)
    layout, at = alone.layout, alone.layout.iteration(1)
    shutil.rmtree(layout.splits)
    shutil.rmtree(layout.iteration(0).root)
    for index in (0, 2):
        at.targets_file(index).unlink()
    Instant.asked.clear()
    run_generate(alone, monkeypatch, 1, 1)
    shard = at.shard("generate", 1)
    assert shard.read_bytes() == whole.layout.iteration(1).shard("generate", 1).read_bytes()
    prompts = load_prompts(alone.config.teacher.prompt)
    assert set(Instant.asked) == {targets.prompt_of(t, prompts, "") for t in targets_in(alone, 1, 1)}
    manifest, plan = read_manifest(at.manifest_of(shard)), alone.plan(1)
    assert manifest is not None and plan is not None
    assert manifest.inputs["targets"] == plan.targets[1]["sha256"] and set(manifest.inputs) == {
        "config",
        "targets",
        "prompts",
    }


def test_shards_and_kills_change_no_byte_of_the_distilled_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for shards in (1, 3, 7):
        run = make_run(
            tmp_path / str(shards), PROBLEMS, shards, generate={"shards": shards}, storage={"flush_rows": 2}
        )
        for index in range(shards):
            if shards > 1:  # the node goes down twice in each shard
                for most in (3, 1):
                    with pytest.raises(EngineError, match="went down"):
                        run_generate(run, monkeypatch, index, most=most)
            run_generate(run, monkeypatch, index)
        with Lease(tmp_path / "l", "merge") as lease:
            merge.run_stage(context(run, "merge", lease))
        found.add((run.layout.iteration(0).distilled / "distilled-00000.parquet").read_bytes())
    assert len(found) == 1


def events(run: Run, kind: str) -> list[dict[str, Any]]:
    paths = [run.layout.events, *run.layout.root.glob("iter_*/events/*.jsonl")]
    return [event for path in paths for event in read_events(path) if event["kind"] == kind]


@pytest.mark.parametrize("harm", ["missing", "damaged", "cut"])
def test_a_lost_file_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    run = refined(tmp_path / "run", condition="shuffled")
    path = run.layout.iteration(1).targets_file(1)
    before = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(before.replace(b"guess", b"gness", 1) if harm == "damaged" else before[:-9])
    with pytest.raises(EvidenceError, match=r"targets/shard-00001\.jsonl, .* is (missing|damaged)"):
        run_generate(run, monkeypatch, 1, 1)
    assert [e["file"] for e in events(run, "set_aside")] == ["iter_001/targets/shard-00001.jsonl"] * (
        harm != "missing"
    )
    assert run.layout.damaged(path).exists() == (harm != "missing")
    current_state(run)
    assert path.read_bytes() == before
    assert [e["file"] for e in events(run, "restored")] == ["iter_001/targets/shard-00001.jsonl"]
    run_generate(run, monkeypatch, 1, 1)


def test_a_lost_file_whose_origin_has_changed_is_told(tmp_path: Path) -> None:
    run = refined(tmp_path / "run")
    path, feedback = run.layout.iteration(1).targets_file(1), run.layout.iteration(0).feedback
    feedback.unlink()
    current_state(run)  # nobody needs it while the targets are there
    path.unlink()
    with pytest.raises(
        StorageError, match=r"iter_000/feedback\.jsonl is missing, and iteration 1 is made from it"
    ):
        current_state(run)
    feedback.write_bytes(b"")
    with pytest.raises(EvidenceError, match=r"feedback\.jsonl has changed since") as error:
        current_state(run)
    assert "put it back" in error.value.hint and feedback.exists()
    before, output = run.layout.iteration(0), describe_output(feedback, 0)
    outputs = {run.layout.relative(feedback): output}
    write_manifest(before.stage_manifest("advance"), Manifest("advance", 0, 0, {}, outputs))
    with pytest.raises(
        EvidenceError, match=r"shard-00001\.jsonl is missing or damaged, and the splits or the feedback"
    ):
        current_state(run)


def test_changed_feedback_is_set_aside_before_a_plan_is_made_of_it(tmp_path: Path) -> None:
    run = refined(tmp_path / "run")
    shutil.rmtree(run.layout.iteration(1).root)
    feedback = run.layout.iteration(0).feedback
    feedback.write_bytes(feedback.read_bytes().replace(b"guess", b"gness", 1))
    with pytest.raises(EvidenceError, match=r"feedback\.jsonl has changed since") as error:
        make_plan(run, 1)
    assert "made again" in error.value.hint and not feedback.exists() and run.plan(1) is None


def test_the_plan_comes_last_and_a_start_that_was_killed_before_it_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 3)
    wanted = run.plan(0)
    run.layout.iteration(0).plan.unlink()
    (run.layout.iteration(0).root / ".targets.1-2.tmp").mkdir()
    seen = []

    def killed(path: Path, data: Any) -> None:
        seen.append([p.name for p in sorted(run.layout.iteration(0).targets.iterdir())])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(planning, "write_json", killed)
        make_plan(run, 0)
    assert seen == [[f"shard-0000{k}.jsonl" for k in range(3)]]
    assert make_plan(run, 0) == wanted
    assert not list(run.layout.iteration(0).root.glob(".targets*"))


def test_other_problems_are_planned_for_again(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 2)
    write_shards(run, lambda p: [make_attempt(p, 0)])
    states = [s.state for s in current_state(run).statuses if s.stage == "generate"]
    path = run.layout.split("train")
    path.write_bytes(path.read_bytes().replace(b"apples", b"grapes"))
    manifest = read_manifest(run.layout.prepared)
    assert manifest is not None
    manifest.outputs[run.layout.relative(path)] = describe_output(path, len(PROBLEMS))
    write_manifest(run.layout.prepared, manifest)
    after = current_state(run)
    assert states == ["done"] * 2
    assert [s.state for s in after.statuses if s.stage == "generate"] == ["stale"] * 2
    assert "grapes" in targets_in(run, 0, 0)[0].problem


def test_feedback_of_another_run_is_told(tmp_path: Path) -> None:
    stranger = make_feedback(make_problems(50)[45])
    with pytest.raises(EvidenceError, match="is not in the splits, or its row is out of order"):
        refined(tmp_path / "stranger", feedback=[*FEEDBACK, stranger])
    with pytest.raises(EvidenceError, match="is not in the splits, or its row is out of order"):
        refined(tmp_path / "order", feedback=FEEDBACK[::-1])


class Counted(dict[str, Any]):
    """A row that knows how many of its kind are alive."""

    alive, most = 0, 0

    def __init__(self, row: dict[str, Any]) -> None:
        super().__init__(row)
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1


@pytest.mark.parametrize("condition", ["undo", "shuffled"])
def test_making_the_plan_holds_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    problems = make_problems(500)
    run = make_run(tmp_path / "run", problems, 4, method={"errors_from": "both", "condition": condition})
    read = 0

    def counting(path: Path) -> Iterator[dict[str, Any]]:
        nonlocal read
        for row in read_rows(path):
            read += 1
            yield Counted(row)

    monkeypatch.setattr(targets, "read_rows", counting)
    gc.collect()
    Counted.alive = Counted.most = 0
    plan = advance_to(run, 1, [make_feedback(p) for p in problems])
    assert plan.problems == 500 and read >= 2 * 1000
    assert Counted.most < 12
