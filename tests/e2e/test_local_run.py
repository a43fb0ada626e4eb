"""One command runs UNDO to its end on this machine, and what it leaves behind is usable by others' tools."""

import json
from pathlib import Path

import pytest

from tests.e2e.campaign import Small
from undo_hpc.control.planning import current_state
from undo_hpc.pipeline.run import open_run
from undo_hpc.records import normalise_text
from undo_hpc.storage.manifest import verify_outputs
from undo_hpc.storage.shards import read_rows

pytestmark = pytest.mark.slow


def test_every_task_has_its_manifest_and_the_loop_has_ended(undisturbed: Small) -> None:
    run = open_run(undisturbed.run_dir)
    state = current_state(run)
    assert state.ended is not None and state.iteration == 1
    for evidence in state.evidence.values():
        assert evidence.manifest is not None
        assert verify_outputs(run.layout.root, evidence.manifest, deep=True) == ""
    assert not list(undisturbed.run_dir.rglob("*.parts"))
    assert not list(undisturbed.run_dir.rglob("*.tmp"))


def test_the_end_shows_accuracies_decisions_places_and_next_commands(undisturbed: Small) -> None:
    output = (undisturbed.run_dir.parent / "output.txt").read_text()
    for word in ("untrained", "validation", "n = 24", "distilled", "next:", "--iterations 3"):
        assert word in output
    assert (
        "best student" in output or "chosen student" in output
    )  # the latter where it does not beat the untrained one


def test_metrics_have_counts_intervals_and_the_baseline(undisturbed: Small) -> None:
    for iteration in (0, 1):
        metrics = json.loads((undisturbed.run_dir / f"iter_{iteration:03d}" / "metrics.json").read_text())
        tiny = metrics["sets"]["tiny"]
        assert tiny["n"] == 24
        assert tiny["low"] <= tiny["accuracy"] <= tiny["high"]
        assert {"truncated", "no_answer", "mean_tokens", "correct"} <= set(tiny)
        assert set(metrics["sets"]) == {"tiny", "validation", "diagnosis", "train"}
    first = json.loads((undisturbed.run_dir / "iter_000" / "metrics.json").read_text())
    assert set(first["baseline"]) == {"tiny", "validation", "diagnosis"}


def test_splits_are_disjoint_and_recorded(undisturbed: Small) -> None:
    texts = {}
    for name in ("train", "diagnosis", "validation"):
        rows = list(read_rows(undisturbed.run_dir / "splits" / f"{name}.jsonl"))
        texts[name] = {normalise_text(row["problem"]) for row in rows}
    assert len(texts["diagnosis"]) == 16 and len(texts["validation"]) == 16
    assert not texts["train"] & texts["diagnosis"] and not texts["train"] & texts["validation"]
    assert not texts["diagnosis"] & texts["validation"]


def test_refinement_asks_only_for_failed_problems_and_shows_the_attempt(undisturbed: Small) -> None:
    feedback = {
        row["problem_id"]: row
        for row in read_rows(undisturbed.run_dir / "iter_000" / "feedback.jsonl")
        if row["split"] == "train"
    }
    failed = {key for key, row in feedback.items() if row["verdict"] != "correct"}
    rows = [
        row
        for path in sorted((undisturbed.run_dir / "iter_001" / "generate").glob("shard-*.jsonl"))
        for row in read_rows(path)
    ]
    assert rows and {row["problem_id"] for row in rows} == failed
    assert {row["style"] for row in rows} == {"refine"}
    assert all(
        row["error_kind"] in ("arithmetic", "setup", "no_answer", "truncated", "format")
        for key, row in feedback.items()
        if key in failed
    )


def test_each_attempt_is_kept_with_what_made_it(undisturbed: Small) -> None:
    rows = [
        row
        for path in sorted((undisturbed.run_dir / "iter_000" / "generate").glob("shard-*.jsonl"))
        for row in read_rows(path)
    ]
    by_problem: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        by_problem.setdefault(row["problem_id"], []).append(row)
        assert (
            row["completion_tokens"] > 0
            and row["prompt_tokens"] > 0
            and row["finish_reason"] in ("stop", "length")
        )
    for attempts in by_problem.values():
        verdicts = [a["verdict"] for a in attempts]
        assert [a["attempt"] for a in attempts] == list(range(len(attempts)))
        assert "correct" not in verdicts[:-1] and (verdicts[-1] == "correct" or len(verdicts) == 2)
    assert len({row["seed"] for row in rows}) == len(rows)


def test_others_tools_read_what_lies_there(undisturbed: Small, tmp_path: Path) -> None:
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer

    at = undisturbed.run_dir / "iter_001"
    loaded = datasets.load_dataset(str(at / "distilled"), cache_dir=str(tmp_path))["train"]
    assert {"problem", "teacher_solution", "gt", "idx"} <= set(loaded.column_names)
    predictions = datasets.load_dataset(
        "parquet", data_files=str(at / "predictions.parquet"), cache_dir=str(tmp_path)
    )["train"]
    assert {"problem", "teacher_solution", "student_solution", "gt"} <= set(predictions.column_names)
    tokenizer = AutoTokenizer.from_pretrained(at / "student")
    model = AutoModelForCausalLM.from_pretrained(at / "student")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": loaded[0]["problem"]}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
    )
    out = model.generate(ids, max_new_tokens=100, do_sample=False)
    assert out[0, -1].item() in {
        tokenizer.eos_token_id,
        *(
            model.generation_config.eos_token_id
            if isinstance(model.generation_config.eos_token_id, list)
            else []
        ),
    }


def test_the_same_command_again_has_nothing_to_do(undisturbed: Small) -> None:
    before = undisturbed.results()
    again = undisturbed.launch()
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert undisturbed.results() == before


def test_a_run_directory_alone_goes_by_its_own_configuration(undisturbed: Small) -> None:
    alone = Small(undisturbed.run_dir, sets=())
    command = [word for word in alone.command() if word not in ("--config", "tiny")]
    import subprocess

    from tests.e2e.campaign import environment

    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=300, check=False
    )
    assert done.returncode == 0 and "nothing to do" in done.stdout, done.stdout + done.stderr


def test_another_configuration_is_refused_with_the_keys_a_neutral_one_is_not(undisturbed: Small) -> None:
    other = Small(undisturbed.run_dir, more=("train.learning_rate=0.5",))
    refused = other.launch()
    assert refused.returncode == 2
    assert "train.learning_rate: the run has 0.002, now asked for 0.5" in refused.stderr
    neutral = Small(undisturbed.run_dir, more=("cluster.max_processes=1", "display.progress=plain"))
    assert neutral.launch().returncode == 0


def test_damage_done_later_is_found_and_fixed(undisturbed: Small, tmp_path: Path) -> None:
    import shutil

    copy = Small(tmp_path / "run")
    shutil.copytree(undisturbed.run_dir, copy.run_dir)
    weights = copy.run_dir / "iter_001" / "student" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    before = undisturbed.results()
    done = copy.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    assert copy.results() == before
