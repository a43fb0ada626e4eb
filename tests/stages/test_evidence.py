"""A stage takes nothing that no manifest validates: no row of another student, no half task, no damaged set."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.search import FUZZ
from tests.stages.build import (
    advance_to,
    context,
    make_attempt,
    make_feedback,
    make_problems,
    make_run,
    write_shards,
)
from undo_hpc import prompts
from undo_hpc.control.planning import current_state, make_plan
from undo_hpc.errors import DataError, EvidenceError, LeaseError, UndoError
from undo_hpc.models.files import fingerprint
from undo_hpc.pipeline.plan import EvaluationSlice
from undo_hpc.pipeline.run import Run
from undo_hpc.records import Attempt, Problem
from undo_hpc.stages import evaluate, generate, merge
from undo_hpc.stages.answered_problems import answered_problems, answered_slices
from undo_hpc.stages.attempts import AttemptStore
from undo_hpc.stages.context import gate
from undo_hpc.stages.prepare import check_models, prepared_digest
from undo_hpc.stages.targets import planned_prompts
from undo_hpc.stages.train import forget_other_inputs
from undo_hpc.storage.atomic import write_bytes, write_json
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import read_manifest, write_manifest
from undo_hpc.storage.shards import dump_rows

PROBLEMS = make_problems(12)


def right(problem: Problem) -> list[Attempt]:
    return [make_attempt(problem, 0)]


def second_iteration(tmp_path: Path) -> Run:
    """A run with a merged iteration 0, and an iteration 1 in which the teacher had nothing to write."""
    run = make_run(tmp_path / "run", PROBLEMS, 2)
    write_shards(run, right)
    with Lease(tmp_path / "l", "merge") as lease:
        merge.run_stage(context(run, "merge", lease))
    advance_to(run, 1, [make_feedback(problem, right=True) for problem in PROBLEMS])
    with Lease(tmp_path / "l", "generate") as lease:
        ctx = context(run, "generate", lease, iteration=1)
        shard = ctx.at.shard("generate", 0)
        write_bytes(shard, b"")
        ctx.publish({shard: 0}, counts={"rows": 0})
    return run


def test_rows_of_other_inputs_are_not_taken(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 1)
    with Lease(tmp_path / "l", "evaluate") as lease:
        ctx = context(run, "evaluate", lease)
        shard = ctx.at.shard("evaluate", 0, "train")

        def start(student: str) -> AttemptStore:
            return AttemptStore(
                ctx, shard, role="x", sampling=run.config.evaluate.sampling, inputs={"train": student}
            )

        first = start("one student")
        part = next(ctx.at.parts(shard).glob("*.jsonl"))
        first.close()
        write_bytes(part, dump_rows([make_attempt(PROBLEMS[0], 0).to_dict()]))
        for student, rows in (("another student", 0), ("one student", 1)):
            answers = start(student)
            answers.close()
            assert len(answers.rows) == rows


def test_a_manifest_in_the_place_of_another_stands_for_nothing(tmp_path: Path) -> None:
    """Its outputs are sound, and another task's: the answers of one half would be counted as those of both."""
    run = make_run(tmp_path / "run", PROBLEMS, 2)
    write_shards(run, right)
    at = run.layout.iteration(0)
    first, second = (at.manifest_of(at.shard("generate", k)) for k in (0, 1))
    shutil.copy(second, first)
    with (
        Lease(tmp_path / "l", "merge") as lease,
        pytest.raises(EvidenceError, match="manifest of another task"),
    ):
        gate(context(run, "merge", lease), "generate")
    assert not first.exists() and at.shard("generate", 0).exists(), "set aside, for its task to be done again"
    shutil.copy(second, first)
    state = current_state(run)
    assert state is not None and [s.index for s in state.missing if s.stage == "generate"] == [0]


def test_a_model_that_was_replaced_while_the_run_went_on_is_not_asked(tmp_path: Path) -> None:
    """On a cluster no launcher looks between iterations: the task that loads it does."""
    run = make_run(
        tmp_path / "run", PROBLEMS, 1, teacher={"model": str(tmp_path)}, student={"model": str(tmp_path)}
    )
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    prepared = read_manifest(run.layout.prepared)
    assert prepared is not None
    model = {"model": str(tmp_path), "files": fingerprint(tmp_path)}
    details = prepared.details | {"models": {"teacher": model, "student": model}}
    write_manifest(run.layout.prepared, replace(prepared, details=details))
    plan = run.plan(0)
    assert plan is not None
    untrained = ((EvaluationSlice("train", 0, 0, len(PROBLEMS)),),)
    write_json(run.layout.iteration(0).plan, replace(plan, baseline=untrained).to_dict())
    for stage, role in ((generate, "teacher"), (evaluate, "student")):
        name = "baseline" if stage is evaluate else "generate"
        for content, error in (
            (b"WEIGHTS", rf"{role}\.model.*model\.safetensors changed"),
            (b"weights", "."),
        ):
            weights.write_bytes(content)
            with Lease(tmp_path / "l", "task") as lease, pytest.raises(UndoError, match=error) as caught:
                stage.run_stage(context(run, name, lease))
            assert (error != ".") == ("is not the model that this run began with" in caught.value.message)


def test_a_folder_is_not_taken_for_the_model_of_the_hub_that_the_run_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write where the tasks work (a scratch folder for everybody) could put another model there."""
    run = make_run(tmp_path / "run", PROBLEMS, 1, teacher={"model": "Lab/model"})
    prepared = read_manifest(run.layout.prepared)
    assert prepared is not None
    model = {"model": "Lab/model", "files": {}}
    prepared = replace(prepared, details=prepared.details | {"models": {"teacher": model}})
    monkeypatch.chdir(tmp_path)
    check_models(run, prepared)
    (tmp_path / "Lab" / "model").mkdir(parents=True)
    (tmp_path / "Lab" / "model" / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"teacher\.model: /.*/Lab/model is not the model"):
        check_models(run, prepared)


def test_an_answer_that_no_manifest_validates_is_not_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 1)
    with Lease(tmp_path / "l", "advance") as lease:
        ctx = context(run, "advance", lease)
        write_bytes(ctx.at.shard("evaluate", 0, "train"), dump_rows([make_attempt(PROBLEMS[0], 0).to_dict()]))
        assert answered_slices(ctx, "evaluate", []) == {}
        parts = answered_slices(ctx, "evaluate", [0])["train"]
        assert len(list(answered_problems(ctx, "evaluate", "train", parts))) == 1


def test_with_nothing_to_refine_the_last_set_is_carried_over(tmp_path: Path) -> None:
    run = second_iteration(tmp_path)
    with Lease(tmp_path / "l", "merge") as lease:
        merge.run_stage(context(run, "merge", lease, iteration=1))
    old, new = run.layout.iteration(0).distilled, run.layout.iteration(1).distilled
    assert (old / "distilled-00000.parquet").read_bytes() == (new / "distilled-00000.parquet").read_bytes()


def test_a_damaged_set_of_the_last_iteration_is_not_merged(tmp_path: Path) -> None:
    run = second_iteration(tmp_path)
    path = run.layout.iteration(0).distilled / "distilled-00000.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # the size stays
    path.write_bytes(data)
    with Lease(tmp_path / "l", "merge") as lease, pytest.raises(EvidenceError, match="has changed since"):
        merge.run_stage(context(run, "merge", lease, iteration=1))


def test_damaged_splits_are_found(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 1)
    assert prepared_digest(run)
    path = run.layout.split("train")
    path.write_bytes(path.read_bytes().replace(b"apples", b"grapes", 1))
    with pytest.raises(
        EvidenceError, match=r"the frozen problems are damaged: splits/train\.jsonl has changed"
    ):
        prepared_digest(run)
    with pytest.raises(EvidenceError, match="damaged"):
        prepared_digest(run, [path])
    assert prepared_digest(run, [run.layout.split("validation")]), "a task checks what it reads"


def test_a_zombie_publishes_no_distilled_set(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 1)
    write_shards(run, right)
    with Lease(tmp_path / "l", "merge") as lease:
        (tmp_path / "l").write_text('{"token": "the successor"}')
        with pytest.raises(LeaseError):
            merge.run_stage(context(run, "merge", lease))
    assert not list(run.layout.iteration(0).root.glob("*distilled*"))


def test_checkpoints_of_another_distilled_set_are_not_gone_on_with(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 1)
    with Lease(tmp_path / "l", "train") as lease:
        ctx = context(run, "train", lease)
        checkpoint = ctx.at.train / "checkpoints" / "step-00000005"
        checkpoint.mkdir(parents=True)
        for digest, stays in (("a", True), ("a", True), ("b", False)):
            forget_other_inputs(ctx, {"merge": digest})
            assert checkpoint.exists() == stays


def test_prompts_that_were_edited_in_mid_iteration_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    shutil.copytree(Path(prompts.__file__).parent / "tiny", folder)
    run = make_run(tmp_path / "run", PROBLEMS, 2, generate={"shards": 2}, teacher={"prompt": str(folder)})
    plan = make_plan(run, 0)
    template = Path(run.config.teacher.prompt) / "problem.txt"  # the run's copy
    before = template.read_text()
    template.write_text(before + " Be brief.")
    with (
        Lease(tmp_path / "l", "generate") as lease,
        pytest.raises(DataError, match=r"templates of generate .* changed"),
    ):
        generate.run_stage(context(run, "generate", lease))
    template.write_text(before)
    assert planned_prompts(plan, "generate", run.config.teacher.prompt).digest == plan.prompts["generate"]


@pytest.mark.parametrize("seed", range(FUZZ or 8))
def test_a_bit_of_a_shard_that_flipped_is_found_whatever_it_makes_of_the_row(
    tmp_path: Path, seed: int
) -> None:
    """A line that was no JSON any more was an error for a person: the task was not done again, and merge found it again for ever."""
    run = make_run(tmp_path / "run", PROBLEMS, 2)
    write_shards(run, lambda problem: [make_attempt(problem, 0)])
    at, rng = run.layout.iteration(0), random.Random(seed)
    shard = at.shard("generate", 1)
    data = bytearray(shard.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    shard.write_bytes(data)
    with (
        Lease(tmp_path / "l", "merge") as lease,
        pytest.raises(EvidenceError, match="has changed since its manifest was written"),
    ):
        merge.run_stage(context(run, "merge", lease))
    assert [s.index for s in current_state(run).missing if s.stage == "generate"] == [1]


def test_a_changed_file_of_the_same_size_is_made_again(tmp_path: Path) -> None:
    """Sizes fit, so the launcher takes the task for complete; the stage that reads it finds out, and must not find it again for ever."""
    run = make_run(tmp_path / "run", PROBLEMS, 2)
    write_shards(run, lambda problem: [make_attempt(problem, 0)])
    at = run.layout.iteration(0)
    shard = at.shard("generate", 1)
    good = shard.read_bytes()
    shard.write_bytes(good.swapcase())
    assert [s.index for s in current_state(run).missing if s.stage == "generate"] == []
    with (
        Lease(tmp_path / "l", "merge") as lease,
        pytest.raises(EvidenceError, match="has changed since its manifest was written") as error,
    ):
        merge.run_stage(context(run, "merge", lease))
    assert "run the same command again" in error.value.hint
    assert [s.index for s in current_state(run).missing if s.stage == "generate"] == [1]
    assert run.layout.damaged(at.manifest_of(shard)).exists()
    write_shards(run, lambda problem: [make_attempt(problem, 0)])
    assert shard.read_bytes() == good
    with Lease(tmp_path / "l", "merge") as lease:
        merge.run_stage(context(run, "merge", lease))
    parquet = next(at.distilled.glob("*.parquet"))
    data = bytearray(parquet.read_bytes())
    data[len(data) // 2] ^= 1
    parquet.write_bytes(data)
    with Lease(tmp_path / "l", "train") as lease, pytest.raises(EvidenceError, match="has changed"):
        gate(context(run, "train", lease), "merge")
    assert "merge" in {s.stage for s in current_state(run).missing}
