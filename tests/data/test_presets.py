"""The large presets: valid, offline, and what they promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from undo_hpc.config.load import find_config, read_yaml, unknown_keys
from undo_hpc.config.parts import effective_iterations
from undo_hpc.config.schema import RunConfig
from undo_hpc.data.benchmarks import benchmark_names
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.plan import build_graph, plan_iteration, rows_to_score
from undo_hpc.pipeline.workload import estimate


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("numina10k_qwen", 10_000),
        ("numina100k_qwen", 100_000),
        ("numina10k_soft", 10_000),
        ("numina10k_on_policy", 10_000),
    ],
)
def test_numina(name: str, size: int) -> None:
    text = read_yaml(find_config(name))
    assert list(unknown_keys(RunConfig, text.data)) == []
    config = RunConfig.model_validate(text.data)
    assert config.name == name
    assert config.teacher.model == "Qwen/Qwen3-30B-A3B-Instruct-2507"
    assert config.student.model == "Qwen/Qwen2.5-Math-1.5B-Instruct"
    train = config.data.train
    assert (train.hub, train.split, train.sample, train.sample_seed) == (
        "AI-MO/NuminaMath-CoT",
        "train",
        size,
        42,
    )
    assert (
        set(config.evaluate.benchmarks)
        == {"math500", "gsm8k", "mmlu_pro_math", "svamp"}
        <= set(benchmark_names())
    )
    assert config.data.diagnosis + config.data.validation < size / 2
    assert config.cluster.kind == "slurm"
    assert config.generate.engine.name == config.evaluate.engine.name == "vllm"
    student_context = config.evaluate.engine.vllm.max_model_len
    assert student_context is not None
    assert config.train.max_length <= student_context
    assert config.train.micro_batch_tokens >= config.train.max_length
    assert config.train.tokens_per_batch % config.train.micro_batch_tokens == 0
    ranks = config.cluster.resources["train"].tasks_per_node or 1
    assert config.train.tokens_per_batch >= ranks * config.train.micro_batch_tokens


@pytest.mark.parametrize(
    ("name", "signal"), [("numina10k_soft", "soft"), ("numina10k_on_policy", "on_policy")]
)
def test_numina_with_scores_plans_offline(name: str, signal: str) -> None:
    config = RunConfig.model_validate(read_yaml(find_config(name)).data)
    assert config.method.signal == signal
    rows = rows_to_score(config, 1, 8000)
    workload = estimate(config, 1, 8000, score_rows=rows)
    plan = plan_iteration(
        config, 1, problems=8000, sets={"train": 8000}, workload=workload, train_problems=8000
    )
    stages = [stage.name for stage in build_graph(config, Layout(Path("/r")), plan)]
    assert "score" in stages and ("sample" in stages) == (signal == "on_policy")
    assert plan.score >= 1 and "It then scores about" in workload.in_words(4)
    assert effective_iterations(config) == config.iterations
