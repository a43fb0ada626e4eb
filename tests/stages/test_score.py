"""score and sample with the tiny world's real models: the same bytes through kills, stops and any number of tasks, and never the attempt
in view of its scorer.

UNDO_CHAOS=N kills N times (default 20). Workers are forked from this process, which has loaded all packages.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.stages.build import advance_to, context, make_attempt, make_feedback, write_shards
from undo_hpc.config.load import load_config
from undo_hpc.control.planning import make_plan
from undo_hpc.engines.chat import load_tokenizer
from undo_hpc.errors import DataError, EvidenceError, Requeue
from undo_hpc.method.copying import Copying
from undo_hpc.models.resolve import resolve_model
from undo_hpc.pipeline.evidence import gather_evidence
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import Run, create_or_open, open_run
from undo_hpc.pipeline.state import derive
from undo_hpc.prompts import load_prompts
from undo_hpc.records import Attempt, Problem
from undo_hpc.stages import merge, sample, score, score_rows, train
from undo_hpc.stages.prepare import prepare
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import Manifest, describe_output, read_manifest, write_manifest
from undo_hpc.storage.scores import Scores, binary_of, ids_digest, unpack_ids
from undo_hpc.storage.shards import ShardWriter, read_rows

KILLS = int(os.environ.get("UNDO_CHAOS", "20"))
PROBLEMS = 40


def solution(problem: Problem) -> list[Attempt]:
    return [replace(make_attempt(problem, 0), text=f"{problem.solution} \\boxed{{{problem.ground_truth}}}")]


def make_run(root: Path, *sets: str) -> Run:
    """A run of the tiny world whose first distilled set is merged; the data's solutions stand in for the teacher's."""
    given = ["name=scored", f"data.train.sample={PROBLEMS}", "data.validation=4", "data.diagnosis=4", "evaluate.limit=4",
             "generate.shards=1", "evaluate.baseline=false", "storage.flush_rows=4", *sets]  # fmt: skip
    run = create_or_open(load_config("tiny", given), root, command=[])
    prepare(run)
    make_plan(run, 0)
    write_shards(run, solution)
    do(run, "merge", merge.run_stage)
    return run


def do(
    run: Run, stage: str, work: Callable[..., None], index: int = 0, iteration: int = 0, stop_after: int = -1
) -> None:
    """A task in this process, asked to stop once it has asked `stop_after` times whether to."""
    asked = iter(range(stop_after)) if stop_after >= 0 else None
    with Lease(run.layout.iteration(iteration).lease(stage, index), stage) as lease:
        ctx = context(run, stage, lease, index, iteration)
        if asked is not None:
            ctx = replace(ctx, should_stop=lambda: next(asked, None) is None)
        work(ctx)


def final(run: Run, iteration: int = 0) -> tuple[bytes, bytes]:
    """Index (without places) and blocks of all tasks, one behind the other."""
    at, plan = run.layout.iteration(iteration), run.plan(iteration)
    assert plan is not None
    shards = [at.shard("score", k) for k in range(plan.score)]
    rows = b"".join(
        repr({k: v for k, v in row.items() if k != "at"}).encode() for s in shards for row in read_rows(s)
    )
    return rows, b"".join(binary_of(s).read_bytes() for s in shards)


@functools.cache
def _soft(folder: Path) -> tuple[Run, tuple[bytes, bytes]]:
    run = make_run(folder / "one", "method.preset=soft", "distill.shards=1")
    do(run, "score", score.run_stage)
    return run, final(run)


@pytest.fixture(scope="module")
def soft(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, tuple[bytes, bytes]]:
    """A run whose rationales are scored, and the bytes."""
    return _soft(tmp_path_factory.mktemp("soft"))


def test_all_rationales_are_scored(soft: tuple[Run, tuple[bytes, bytes]]) -> None:
    run, _ = soft
    at = run.layout.iteration(0)
    manifest = read_manifest(at.manifest_of(at.shard("score", 0)))
    assert manifest is not None and manifest.inputs["merge"]
    scores = Scores([at.shard("score", 0)], run.config.distill.k)
    assert len(scores.rows) == manifest.counts["rows"] > 20
    for key, (_, row) in scores.rows.items():
        block = scores.block(key)
        assert len(block.own) == row.n and (block.own <= 0).all() and (block.old == 0).all()
        assert (np.sort(block.log_p, 1)[:, ::-1] == block.log_p).all()
    assert not at.parts(at.shard("score", 0)).exists()
    states = derive(
        build_graph(run.config, run.layout, run.plan(0)),
        gather_evidence(run.layout.root, build_graph(run.config, run.layout, run.plan(0))),
    )  # type: ignore[arg-type]
    assert {s.stage: s.state for s in states}["score"] == "done"


@pytest.mark.parametrize("tasks", [2, 5])
def test_any_number_of_tasks_gives_the_same(
    tasks: int, soft: tuple[Run, tuple[bytes, bytes]], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", "method.preset=soft", f"distill.shards={tasks}")
    for index in reversed(range(tasks)):
        do(run, "score", score.run_stage, index)
    assert final(run) == soft[1]


def test_a_stop_keeps_what_is_scored(soft: tuple[Run, tuple[bytes, bytes]], tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", "method.preset=soft", "distill.shards=1", "generate.engine.transformers.max_batch=4"
    )
    with pytest.raises(Requeue, match="more are wanted"):
        do(run, "score", score.run_stage, stop_after=4)
    at = run.layout.iteration(0)
    parts = list(at.parts(at.shard("score", 0)).glob("*.jsonl"))
    kept = [row["key"] for path in parts for row in read_rows(path)]
    assert 0 < len(kept) < PROBLEMS
    do(run, "score", score.run_stage)
    rows = [row["key"] for row in read_rows(at.shard("score", 0))]
    assert set(kept) <= set(rows)


def forked(work: Callable[[], None]) -> int:
    """The status of a process that does the work: negative where a signal ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 -- whatever it is, the child must not return into the tests
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_kills_at_any_moment_change_no_byte(
    soft: tuple[Run, tuple[bytes, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start dies in its n-th group: before it is written, half way, or behind it; the last two between final files."""
    run = make_run(tmp_path / "run", "method.preset=soft", "distill.shards=1", "storage.flush_rows=1")
    flush, write = ShardWriter.flush, score_store_write()
    for number in range(KILLS):
        count = iter(range(number % 2))  # few rows a start, so that there is work for all of them

        def die(self: ShardWriter, how: int = number % 3, left: Iterator[int] = count) -> None:
            if self._pending and next(left, None) is None:
                if how == 1:
                    self._file.write(b"".join(self._pending)[:-7])
                elif how == 2:
                    flush(self)
                os.kill(os.getpid(), signal.SIGKILL)
            flush(self)

        monkeypatch.setattr(ShardWriter, "flush", die)
        if number >= KILLS - 2:
            monkeypatch.setattr(ShardWriter, "flush", flush)
            files = iter(range(number - (KILLS - 2)))

            def between(path: Path, data: object, left: Iterator[int] = files) -> None:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                write(path, data)

            monkeypatch.setattr("undo_hpc.stages.score_store.write_bytes", between)
        lease = run.layout.iteration(0).lease("score", 0)
        assert forked(lambda: do(run, "score", score.run_stage)) == -signal.SIGKILL
        lease.unlink(missing_ok=True)  # another node would wait until it is stale
    monkeypatch.setattr(ShardWriter, "flush", flush)
    monkeypatch.setattr("undo_hpc.stages.score_store.write_bytes", write)
    do(run, "score", score.run_stage)
    assert final(run) == soft[1]


def score_store_write() -> Callable[..., None]:
    from undo_hpc.stages import score_store

    return score_store.write_bytes


def test_another_tokenizer_is_refused_before_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "teacher"
    shutil.copytree(resolve_model("tiny:teacher"), other)
    text = (other / "tokenizer.json").read_text()
    assert '"+"' in text
    (other / "tokenizer.json").write_text(
        text.replace('"+"', '"swap"').replace('"-"', '"+"').replace('"swap"', '"-"')
    )
    run = make_run(tmp_path / "run", "method.preset=soft", f"teacher.model={other}")
    monkeypatch.setattr(score, "load_engine", lambda *_, **__: pytest.fail("weights were loaded"))
    with pytest.raises(DataError, match="different tokenizers"):
        do(run, "score", score.run_stage)


@pytest.mark.parametrize("length", [46, 20])
def test_a_teacher_with_a_short_context_scores_what_it_can_read(
    length: int, soft: tuple[Run, tuple[bytes, bytes]], tmp_path: Path
) -> None:
    """The others are counted, with the reason; where there are only such, the stage fails and says so."""
    short = tmp_path / "teacher"
    shutil.copytree(resolve_model("tiny:teacher"), short)
    settings = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": length}))
    run = make_run(tmp_path / "run", "method.preset=soft", "distill.shards=1", f"teacher.model={short}")
    if length == 20:
        with pytest.raises(DataError, match=r"not one of \d+ texts could be scored.*context is 20"):
            do(run, "score", score.run_stage)
        return
    do(run, "score", score.run_stage)
    whole, manifest = (
        read_manifest(at.manifest_of(at.shard("score", 0)))
        for at in (each.layout.iteration(0) for each in (soft[0], run))
    )
    assert manifest and whole and 0 < manifest.counts["rows"] < whole.counts["rows"]
    assert manifest.counts["rows"] + manifest.counts["errors"] == whole.counts["rows"]
    assert f"context is {length}" in manifest.details["error"]


def test_scores_of_another_run_are_not_taken(soft: tuple[Run, tuple[bytes, bytes]], tmp_path: Path) -> None:
    """Files and manifest are sound; they are of another distilled set."""
    run = make_run(
        tmp_path / "run", "method.preset=soft", "distill.shards=1", "seed=5", "data.train.sample_seed=3"
    )
    theirs, ours = soft[0].layout.iteration(0), run.layout.iteration(0)
    shard = ours.shard("score", 0)
    shard.parent.mkdir(parents=True, exist_ok=True)
    for path in (shard, binary_of(shard), ours.manifest_of(shard)):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(theirs.root / path.relative_to(ours.root), path)
    graph = build_graph(run.config, run.layout, run.plan(0))  # type: ignore[arg-type]
    states = {s.stage: s.state for s in derive(graph, gather_evidence(run.layout.root, graph))}
    assert (
        states["merge"] == "done" and states["score"] != "done"
    )  # the launcher scores again; the texts are checked by training, too


# The student's own answers


def second_iteration(root: Path, *sets: str) -> Run:
    """A run whose second iteration has the teacher's new rationales for half of the problems; the tiny student is the last student."""
    run = make_run(root, *sets)
    at = run.layout.iteration(0)
    shutil.copytree(resolve_model("tiny:student"), at.student)
    files = [path for path in at.student.rglob("*") if path.is_file()]
    outputs = {run.layout.relative(path): describe_output(path) for path in files}
    write_manifest(at.stage_manifest("train"), Manifest("train", 0, 0, {}, outputs))
    problems = run.problems("train")
    advance_to(run, 1, [make_feedback(p, right=n % 2 == 0) for n, p in enumerate(problems)])
    known = {p.problem_id: p for p in problems}
    write_shards(run, lambda target: solution(known[target.problem_id]), 1)
    do(run, "merge", merge.run_stage, iteration=1)
    return run


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same with the student's answers scored."""
    run = second_iteration(
        tmp_path_factory.mktemp("own") / "run", "method.preset=undo_on_policy", "distill.shards=1"
    )
    do(run, "sample", sample.run_stage, iteration=1)
    do(run, "score", score.run_stage, iteration=1)
    return run


def test_a_problem_that_has_changed_since_it_was_frozen_is_not_scored(sampled: Run, tmp_path: Path) -> None:
    """Its text would stand before the student's answer, to the teacher and in training."""
    run = open_run(Path(shutil.copytree(sampled.layout.root, tmp_path / "run")))
    path, at = run.layout.split("train"), run.layout.iteration(1)
    path.write_bytes(path.read_bytes().replace(b'"problem":"', b'"problem":"Not ', 1))
    at.manifest_of(at.shard("score", 0)).unlink()
    with pytest.raises(EvidenceError, match="frozen problems are damaged"):
        do(run, "score", score.run_stage, iteration=1)


def samples_of(run: Run) -> list[Attempt]:
    at = run.layout.iteration(1)
    return [Attempt.from_dict(row) for row in read_rows(at.shard("sample", 0, "train"))]


def test_the_last_student_is_sampled_at_temperature_one(sampled: Run) -> None:
    rows = samples_of(sampled)
    assert len(rows) == len(sampled.problems("train"))
    assert {(row.temperature, row.top_p, row.top_k) for row in rows} == {(1.0, 1.0, 0)}
    tokenizer = load_tokenizer(resolve_model("tiny:student"), sampled.config.student)
    for row in rows:
        ids = unpack_ids(row.ids)
        assert len(ids) == row.completion_tokens
        assert tokenizer.decode(ids, skip_special_tokens=True) == row.text
    at = sampled.layout.iteration(1)
    manifest = read_manifest(at.task_manifest("sample", 0))
    trained = read_manifest(sampled.layout.iteration(0).stage_manifest("train"))
    assert manifest and trained and manifest.inputs["parent"] == trained.digest
    scored = read_manifest(at.manifest_of(at.shard("score", 0)))
    assert scored and {"merge", "sample"} <= scored.inputs.keys()


def test_scores_stand_with_the_students_own_log_probabilities(sampled: Run) -> None:
    at = sampled.layout.iteration(1)
    scores = Scores([at.shard("score", 0)], sampled.config.distill.k)
    for row in samples_of(sampled):
        _, text = scores.rows[f"{row.problem_id}/sample/{row.attempt}"]
        block = scores.block(text.key)
        assert text.sha == ids_digest(unpack_ids(row.ids)) and text.n == len(unpack_ids(row.ids))
        assert (
            block.old < 0
        ).all()  # a sampled token had some probability, and a text of the teacher has 0 here


@pytest.mark.parametrize("condition", ["undo", "blind", "shuffled"])
def test_the_scorer_never_sees_the_answer(sampled: Run, condition: str) -> None:
    """Even where the new rationale holds the student's answer word for word."""
    config = sampled.config.model_copy(
        update={"method": sampled.config.method.model_copy(update={"condition": condition})}
    )
    prompts, left = load_prompts("tiny"), score_rows.Left()
    tokenizer = load_tokenizer(resolve_model("tiny:student"), config.student)
    with Lease(sampled.layout.iteration(1).lease("score", 0), "score") as lease:
        ctx = context(replace(sampled, config=config), "score", lease, iteration=1)
        manifest = read_manifest(ctx.at.task_manifest("sample", 0))
        assert manifest is not None
        texts = score_rows.own_answers(ctx, prompts, [manifest], tokenizer, left)
    answers = {f"{row.problem_id}/sample/{row.attempt}": row for row in samples_of(sampled)}
    solutions = {p.problem_id: solution(p)[0].text for p in sampled.problems("train")}
    refined = 0
    for text in texts:
        row = answers[text.text.key]
        assert row.text.strip() not in text.request.prompt
        refined += solutions[row.problem_id] in text.request.prompt
    assert 0 < refined < len(texts)
    assert (
        refined + left.context_dropped == len(texts) // 2
    )  # the others were right, and got no new rationale


def test_without_a_new_rationale_the_problem_stands_alone(tmp_path: Path) -> None:
    run = second_iteration(
        tmp_path / "run", "method.preset=on_policy", "distill.shards=1", "distill.loss=fixed_advantage"
    )
    assert run.plan(1).problems == 0  # type: ignore[union-attr]
    do(run, "sample", sample.run_stage, iteration=1)
    do(run, "score", score.run_stage, iteration=1)  # a control without a teacher: nothing is loaded
    at = run.layout.iteration(1)
    scores = Scores([at.shard("score", 0)], 0)
    block = scores.block(next(iter(scores.rows)))
    assert block.ids.shape[1] == 0 and (block.old < 0).all()
    counts = read_manifest(at.manifest_of(at.shard("score", 0))).counts  # type: ignore[union-attr]
    assert counts["rows"] and counts["tokens"] == counts["scored_tokens"] == 0, "no teacher has read them"


def test_training_is_refused_where_the_teacher_copies(sampled: Run) -> None:
    copies = Copying(wrong=40, preferred=32, preferred_plain=9).to_dict()
    manifest = Manifest("score", 1, 0, {}, {}, details={"copying": copies})
    with Lease(sampled.layout.iteration(1).lease("train", 0), "train") as lease:
        ctx = context(sampled, "train", lease, iteration=1)
        with pytest.raises(DataError, match="taught its own errors"):
            train.require_no_copying(ctx, [manifest])
        changed = sampled.config.model_copy(
            update={"distill": sampled.config.distill.model_copy(update={"gate": "warn"})}
        )
        train.require_no_copying(replace(ctx, run=replace(sampled, config=changed)), [manifest])
        spec = train.make_spec(ctx, "digest")
    assert spec.train["epochs"] == 1 and spec.distill["signal"] == "on_policy" and len(spec.scores) == 1


def test_scores_that_were_changed_are_noticed(sampled: Run) -> None:
    at = sampled.layout.iteration(1)
    binary = binary_of(at.shard("score", 0))
    before = binary.read_bytes()
    binary.write_bytes(before[:-2] + bytes([before[-2] ^ 1]) + before[-1:])
    try:
        with (
            Lease(at.lease("train", 0), "train") as lease,
            pytest.raises(EvidenceError, match=r"score.*not complete"),
        ):
            train.run_stage(context(sampled, "train", lease, iteration=1))
    finally:
        binary.write_bytes(before)
