"""The merge: nothing lost, nothing doubled, the same bytes whatever the shards, and every damage found."""

import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.stages.build import (
    advance_to,
    context,
    make_attempt,
    make_feedback,
    make_problems,
    make_run,
    write_shards,
)
from undo_hpc.data.distilled import parquet_files, read_distilled
from undo_hpc.errors import DataError, EvidenceError, Incomplete, StorageError
from undo_hpc.pipeline.run import Run
from undo_hpc.records import Attempt, Problem
from undo_hpc.stages import merge
from undo_hpc.storage.atomic import read_json, write_bytes
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import describe_output, read_manifest, write_manifest
from undo_hpc.storage.shards import dump_rows, read_rows

PROBLEMS = make_problems(101)


def answers(problem: Problem) -> list[Attempt]:
    """Every seventh problem is never solved; every fifth at the second attempt."""
    if problem.idx % 7 == 0:
        return [make_attempt(problem, k, correct=False) for k in range(3)]
    if problem.idx % 5 == 0:
        return [make_attempt(problem, 0, correct=False), make_attempt(problem, 1)]
    return [make_attempt(problem, 0)]


def merged(tmp_path: Path, shards: int, name: str = "run") -> Run:
    run = make_run(tmp_path / name, PROBLEMS, shards)
    write_shards(run, answers)
    run_merge(run)
    return run


def run_merge(run: Run, iteration: int = 0) -> None:
    with Lease(run.layout.root / "l", "merge") as lease:
        merge.run_stage(context(run, "merge", lease, iteration=iteration))


def test_keeps_the_right_ones_in_order_and_counts_the_rest(tmp_path: Path) -> None:
    run = merged(tmp_path, 4)
    rows = list(read_distilled(run.layout.iteration(0).distilled))
    assert [r.idx for r in rows] == [p.idx for p in PROBLEMS if p.idx % 7]
    assert all(r.problem == PROBLEMS[r.idx].problem and r.gt == PROBLEMS[r.idx].ground_truth for r in rows)
    counts = read_json(run.layout.iteration(0).stage_manifest("merge"))["counts"]
    solved_late = sum(1 for p in PROBLEMS if p.idx % 7 and p.idx % 5 == 0)
    assert counts["dropped"] == {"wrong": 15 * 3 + solved_late}
    assert counts["rows"] == len(rows) and counts["problems"] == 101


def test_the_bytes_do_not_depend_on_the_number_of_shards(tmp_path: Path) -> None:
    def files(run: Run) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in run.layout.iteration(0).distilled.iterdir()}

    one, many = files(merged(tmp_path, 1, "one")), files(merged(tmp_path, 13, "many"))
    assert one == many
    assert sorted(one) == ["README.md", "distilled-00000.parquet"]


def test_there_may_be_more_shards_than_a_process_may_hold_files_open(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 101)
    write_shards(run, answers)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
        run_merge(run)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(read_distilled(run.layout.iteration(0).distilled))


@pytest.mark.parametrize("cpus", [1, 4])
def test_parts_and_processes_change_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int
) -> None:
    whole = merged(tmp_path, 4, "whole")
    monkeypatch.setattr(merge, "PROBLEMS_PER_PART", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cpus))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(cpus))
    cut = merged(tmp_path, 4, "cut")
    assert len(parquet_files(cut.layout.iteration(0).distilled)) == 11
    for run in (whole, cut):  # the second iteration reads the first one's set, in ranges
        again = [p for p in PROBLEMS if p.idx % 3 == 0]
        advance_to(run, 1, [make_feedback(p, right=p not in again) for p in PROBLEMS])
        write_shards(run, answers, 1)
        run_merge(run, 1)
    for k in (0, 1):
        at, other = whole.layout.iteration(k), cut.layout.iteration(k)
        assert list(read_distilled(other.distilled)) == list(read_distilled(at.distilled))
        counts = read_json(other.stage_manifest("merge"))["counts"]
        assert counts == read_json(at.stage_manifest("merge"))["counts"] and counts["dropped"]
        card = (other.distilled / "README.md").read_text()
        told = (
            f"{counts['rows']} rows: {counts['rows'] - counts['carried']} of this",
            f"{counts['carried']} carried",
            *(f"{n} {why}" for why, n in counts["dropped"].items()),
        )
        assert all(words in card for words in told)
        described = read_json(other.stage_manifest("merge"))["outputs"]
        for path in parquet_files(other.distilled):
            assert described[cut.layout.relative(path)]["sha256"] == describe_output(path).sha256


@pytest.mark.parametrize(("how", "dropped"), [("add", {"duplicate": 1}), ("best", {"surplus": 1})])
def test_each_attempt_is_in_the_set_or_left_out_with_a_reason(
    tmp_path: Path, how: str, dropped: dict[str, int]
) -> None:
    problem = PROBLEMS[1]
    generate, method = {"shards": 1, "samples": 2}, {"errors_from": "train", "combine": how}
    run = make_run(tmp_path / "run", [problem], 1, generate=generate, method=method)
    first = make_attempt(problem, 0)
    longer = replace(make_attempt(problem, 1), text=f"{first.text} ", completion_tokens=99)
    write_shards(run, lambda _: [first])
    run_merge(run)
    advance_to(run, 1, [make_feedback(problem)])
    write_shards(run, lambda _: [replace(first, text=f"{first.text}!"), longer], 1)
    run_merge(run, 1)
    advance_to(run, 2, [make_feedback(problem)])
    write_shards(run, lambda _: [first, replace(longer, text=f"{first.text}?")], 2)
    run_merge(run, 2)
    rows = list(read_distilled(run.layout.iteration(2).distilled))
    counts = read_json(run.layout.iteration(2).stage_manifest("merge"))["counts"]
    assert len({row.teacher_solution for row in rows}) == len(rows)
    assert counts["dropped"] == dropped
    assert counts["attempts"] == counts["rows"] - counts["carried"] + sum(counts["dropped"].values())


@pytest.mark.parametrize("damage", ["kill", "json"])
def test_what_goes_wrong_in_a_process_comes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 3)
    write_shards(run, answers)
    monkeypatch.setattr(merge, "PROBLEMS_PER_PART", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if damage == "kill":
        monkeypatch.setattr(merge, "join", die)
        with pytest.raises(Incomplete, match="was killed") as error:
            run_merge(run)
    else:
        shard = run.layout.iteration(0).shard("generate", 1)
        before, found, behind = shard.read_bytes().partition(b'"idx":55')
        shard.write_bytes(before + b'"idx":5x' + behind)
        validate(run, 1, None)
        line = before.count(b"\n") + 1
        assert found
        with pytest.raises(StorageError, match=rf"shard-00001\.jsonl, line {line}: not valid JSON") as error:
            run_merge(run)
    assert error.value.hint
    assert not run.layout.iteration(0).distilled.exists()
    assert not list(run.layout.iteration(0).distilled.parent.glob(".distilled*"))


def die(part: object) -> None:
    """What the out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_load_dataset_reads_it(tmp_path: Path) -> None:
    import datasets

    run = merged(tmp_path, 3)
    loaded = datasets.load_dataset(str(run.layout.iteration(0).distilled), cache_dir=str(tmp_path / "cache"))[
        "train"
    ]
    assert loaded.num_rows == 86
    assert {"problem", "teacher_solution", "gt", "idx"} <= set(loaded.column_names)


def rewrite(run: Run, index: int, rows: list[dict[str, object]], *, validated: bool) -> None:
    """Another content for a shard, with or without a manifest that fits."""
    at = run.layout.iteration(0)
    shard = at.shard("generate", index)
    write_bytes(shard, dump_rows(rows))
    if validated:
        validate(run, index, len(rows))


def validate(run: Run, index: int, rows: int | None) -> None:
    """A manifest that fits what the shard holds now."""
    at = run.layout.iteration(0)
    path = at.manifest_of(shard := at.shard("generate", index))
    manifest = read_manifest(path)
    assert manifest is not None
    manifest.outputs[run.layout.relative(shard)] = describe_output(shard, rows)
    write_manifest(path, manifest)


@pytest.mark.parametrize(
    ("damage", "validated", "message"),
    [
        (lambda rows: rows[:-1], False, "bytes, its manifest says"),
        (
            lambda rows: [*rows[:-1], rows[-1] | {"text": rows[-1]["text"].swapcase()}],
            False,
            "has changed since its manifest",
        ),
        (lambda rows: rows[:-1], True, "the shards hold 100 problems, their targets 101"),
        (lambda rows: [*rows, rows[-1]], True, "stands twice"),
        (lambda rows: rows[::-1], True, "is out of order|stands there twice"),
        (lambda rows: [*rows, rows[-1] | {"problem_id": "f" * 16, "idx": 999}], True, "not in the splits"),
    ],
)
def test_damaged_shards_are_found(tmp_path: Path, damage: object, validated: bool, message: str) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 3)
    write_shards(run, lambda p: [make_attempt(p, 0)])
    rows = list(read_rows(run.layout.iteration(0).shard("generate", 1)))
    rewrite(run, 1, damage(rows), validated=validated)  # type: ignore[operator]
    with pytest.raises(EvidenceError, match=message):
        run_merge(run)
    assert not run.layout.iteration(0).distilled.exists()
    assert not run.layout.iteration(0).stage_manifest("merge").exists()


def test_a_missing_shard_is_refused_and_by_policy_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "strict", PROBLEMS, 4)
    write_shards(run, answers)
    run.layout.iteration(0).shard("generate", 2).unlink()
    with pytest.raises(EvidenceError, match="1 of 4 tasks of stage generate are not complete"):
        run_merge(run)
    lenient = make_run(
        tmp_path / "lenient", PROBLEMS, 4, cluster={"policy": {"generate": {"kind": "quorum", "value": 3}}}
    )
    write_shards(lenient, answers)
    lenient.layout.iteration(0).shard("generate", 2).unlink()
    run_merge(lenient)
    manifest = read_json(lenient.layout.iteration(0).stage_manifest("merge"))
    assert manifest["policy"] == {"kind": "quorum", "value": 3.0, "missing": [2]}
    assert manifest["details"]["generate_used"] == [0, 1, 3]


def test_nothing_right_is_a_clear_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 2)
    write_shards(run, lambda p: [make_attempt(p, 0, correct=False)])
    with pytest.raises(DataError, match="not one of 101 attempts is right"):
        run_merge(run)


def set_errors(run: Run, error: str) -> None:
    """As the manifests of generate count what failed, with one of the engine's messages."""
    at = run.layout.iteration(0)
    for index in range(2):
        path = at.manifest_of(at.shard("generate", index))
        manifest = read_manifest(path)
        assert manifest is not None
        rows = list(read_rows(at.shard("generate", index)))
        failed = sum(row["finish_reason"] == "error" for row in rows)
        write_manifest(
            path,
            replace(
                manifest,
                counts=manifest.counts | {"errors": failed},
                details={"error": error if failed else ""},
            ),
        )


@pytest.mark.parametrize("share", ["all", "some"])
def test_where_the_requests_failed_the_engine_s_error_is_named(tmp_path: Path, share: str) -> None:
    def failed(problem: Problem) -> list[Attempt]:
        bad = share == "all" or problem.idx < 10
        changes = {"text": "", "finish_reason": "error", "error": "404: no such model"} if bad else {}
        return [make_attempt(problem, 0, correct=False, **changes)]

    run = make_run(tmp_path / "run", PROBLEMS, 2)
    write_shards(run, failed)
    set_errors(run, "404: no such model")
    with pytest.raises(DataError) as caught:
        run_merge(run)
    if share == "all":
        assert "answered none of 101 requests; the engine's error: 404: no such model" in caught.value.message
        assert "delete iter_*/generate" in caught.value.hint and "ground truths" not in caught.value.hint
    else:
        assert "not one of 101 attempts" in caught.value.message
        assert "10 of them failed, for example: 404: no such model" in caught.value.message
