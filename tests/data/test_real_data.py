"""The real data sets, where they are: every row is used or listed, and the counts are those that are published."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from undo_hpc.config.schema import DataConfig, SourceConfig
from undo_hpc.data import contamination, load_problems, split_problems
from undo_hpc.data.benchmarks import load_benchmark
from undo_hpc.records import Problem

FILES = {
    "gsm8k": ("gsm8k/test.jsonl", 1319),
    "svamp": ("svamp/SVAMP.json", 1000),
    "math500": ("math500/math500_test.json", 500),
    "mmlu_pro_math": ("mmlu_pro/mmlu_pro_math.jsonl", 1351),
}


@pytest.fixture(scope="module")
def gsm8k_train(shared_data: Path) -> list[Problem]:
    loaded = load_problems(SourceConfig(path=str(shared_data / "gsm8k" / "train.jsonl")))
    assert (len(loaded.problems), loaded.rejected) == (7473, [])
    return loaded.problems


@pytest.mark.parametrize("name", FILES)
def test_benchmarks_are_whole(shared_data: Path, name: str) -> None:
    file, count = FILES[name]
    benchmark = load_benchmark(name, SourceConfig(path=str(shared_data / file)))
    assert len(benchmark.problems) + len(benchmark.rejected) == count
    assert len(benchmark.problems) == benchmark.size == count
    assert [p.idx for p in benchmark.problems] == list(range(count))
    if benchmark.kind == "number":
        assert all(re.fullmatch(r"-?\d+(\.\d+)?", p.ground_truth) for p in benchmark.problems)
    if benchmark.kind == "letter":
        assert all(
            len(p.ground_truth) == 1 and ord(p.ground_truth) - 65 < len(p.options) for p in benchmark.problems
        )
        assert all(p.problem.endswith(p.options[-1]) for p in benchmark.problems)


def test_ground_truth_of_math500_is_the_last_box_of_its_solution(shared_data: Path) -> None:
    """Two ways to the same answers: the plain field, and the solution's box."""
    path = str(shared_data / FILES["math500"][0])
    plain = load_benchmark("math500", SourceConfig(path=path)).problems
    fields = {"problem": "problem", "answer": "solution"}
    boxed = load_benchmark(
        "math500", SourceConfig.model_validate({"path": path, "fields": fields, "answer_from": "boxed"})
    ).problems
    differing = [
        (a.ground_truth, b.ground_truth)
        for a, b in zip(plain, boxed, strict=True)
        if a.ground_truth.replace(" ", "") != b.ground_truth.replace(" ", "")
    ]
    assert len(differing) <= 10, differing


def test_splits_of_gsm8k(gsm8k_train: list[Problem]) -> None:
    splits = split_problems(gsm8k_train, DataConfig(), 0)
    assert (len(splits.train), len(splits.diagnosis), len(splits.validation)) == (5979, 747, 747)


def test_contamination_of_gsm8k(shared_data: Path, gsm8k_train: list[Problem]) -> None:
    """Its own test set planted in train is found whole; train as published shares a few runs of words, and no problem."""
    benchmarks = [
        load_benchmark(name, SourceConfig(path=str(shared_data / file))) for name, (file, _) in FILES.items()
    ]
    test = benchmarks[0].problems
    found = contamination(gsm8k_train, benchmarks, 13)
    assert {o.kind for o in found} <= {"ngram"}
    assert len(found) < 20
    planted = contamination([*gsm8k_train, *test[:100]], benchmarks, 13)
    assert {o.problem_id for o in planted if o.kind == "exact"} == {p.problem_id for p in test[:100]}
