"""The probe: which settings a sweep tries, what it prefers, and that a setting which fails is a result."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.campaign import Small
from undo_hpc.config.schema import EngineConfig, TeacherConfig
from undo_hpc.control.probe import Measured, _why, default_axes, measure_apart, sweep, teacher_requests
from undo_hpc.engines import Request
from undo_hpc.engines.base import digest
from undo_hpc.pipeline.run import open_run
from undo_hpc.storage.shards import read_rows
from undo_hpc.tiny import models_dir


def test_each_key_is_tried_on_top_of_the_fastest_so_far() -> None:
    speeds = {
        (): 100.0,
        (("a", 2),): 200.0,
        (("a", 3),): 0.0,
        (("a", 2), ("b", 1)): 203.0,
        (("a", 2), ("b", 2)): 300.0,
    }
    asked: list[Any] = []

    def measure(values: Any) -> Measured:
        asked.append(tuple(values.items()))
        return Measured(values, speeds[asked[-1]], failed="" if speeds[asked[-1]] else "out of memory")

    found = list(
        sweep(
            measure,
            lambda first: [("a", [1, 2, 3]), ("b", [1, 2])],
            lambda key, value: (key, value) == ("a", 1),
        )
    )
    assert asked == list(speeds), (
        "a=1 is the configuration itself; b rests on a=2, and a failure ends nothing"
    )
    assert [bool(item.failed) for item in found] == [False, False, True, False, False]


def test_where_the_configuration_itself_fails_the_sweep_goes_on() -> None:
    def measure(values: Any) -> Measured:
        return Measured(values, 50.0) if values else Measured(failed="out of memory")

    found = list(sweep(measure, lambda first: [("a", [1]), ("b", [2])], lambda key, value: False))
    assert [dict(item.values) for item in found] == [{}, {"a": 1}, {"a": 1, "b": 2}]


def test_the_usual_sweep_is_that_of_the_machine_at_hand() -> None:
    here = dict(default_axes("vllm", 4, 512))
    assert here["vllm.tensor_parallel_size"] == [1, 2, 4] and max(here["vllm.max_num_seqs"]) == 512
    without = dict(default_axes("vllm", 0, 512))
    assert not without["vllm.tensor_parallel_size"] and not without["vllm.extra.kv_cache_dtype"]


@pytest.mark.parametrize(
    ("code", "log", "words"),
    [
        (-9, "", "SIGKILL, most likely out of memory"),
        (-11, "", "SIGSEGV"),
        (1, "x\nRuntimeError: gone\n\n", "RuntimeError: gone"),
    ],
)
def test_how_a_process_died_is_said(code: int, log: str, words: str) -> None:
    assert words in _why(code, log)


def test_a_setting_that_takes_too_long_is_ended() -> None:
    asked = [Request("r", "2 + 2?", 0, 0.0, 4)]
    found = measure_apart(EngineConfig(), TeacherConfig(model="tiny:teacher"), asked, {}, limit_s=0.05)
    assert "within" in found.failed and not found.tokens_per_s


def test_a_models_id_is_no_folder_of_a_place_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user makes one behind the checks of the command."""
    monkeypatch.delenv("UNDO_TRUST", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tmp_path.chmod(0o1777)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(models_dir()) / "teacher", tmp_path / "owner" / "model")
    engine, model = EngineConfig(name="transformers"), TeacherConfig(model="owner/model", dtype="float32")
    found = measure_apart(
        engine, model, [Request("0", "1+1?", seed=1, temperature=0.0, max_tokens=2)], {}, 120
    )
    assert found.failed and "owner/model" in found.failed, found


@pytest.mark.slow
def test_the_requests_are_those_that_generate_has_made(tiny_run: Small) -> None:
    run = open_run(tiny_run.run_dir)
    made = {r.id: (digest(r.prompt), r.seed) for r in teacher_requests(run.config, run.problems("train"))}
    rows = [
        row
        for path in run.layout.iteration(0).answers("generate").glob("shard-*.jsonl")
        for row in read_rows(path)
    ]
    first = {
        f"{row['problem_id']}/0": (row["prompt_sha"], row["seed"]) for row in rows if row["attempt"] == 0
    }
    assert made == first
