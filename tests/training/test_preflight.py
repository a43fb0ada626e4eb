"""What can be known before the first step, and what is said where something asked for is not there."""

from __future__ import annotations

import importlib.util
import logging

import pytest
import torch

from tests.training.conftest import Trainings
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError, TrainingError
from undo_hpc.training import preflight, student
from undo_hpc.training.attention import register
from undo_hpc.training.batches import Batcher, MicroBatch
from undo_hpc.training.encoding import encode_spec
from undo_hpc.training.watching import StepFlops

CPU = torch.device("cpu")


def test_a_batch_that_does_not_fit_is_told_with_advice() -> None:
    def run(_: MicroBatch) -> None:
        torch.empty(2**50)

    batch = MicroBatch({}, torch.empty(0), 4096, 4096)
    with pytest.raises(
        TrainingError, match=r"the longest micro-batch \(4,096 tokens\) does not fit in the memory of cpu"
    ) as caught:
        preflight.try_longest(run, batch, TrainConfig(zero_stage=2, offload="optimizer"), CPU)
    assert (
        caught.value.hint
        == "lower train.micro_batch_tokens; or set train.gradient_checkpointing; or raise train.zero_stage"
    )

    def wrong(_: MicroBatch) -> None:
        torch.empty(2, 3) @ torch.empty(2, 3)

    with pytest.raises(
        RuntimeError, match="shapes cannot be multiplied"
    ):  # no memory matter: it stays what it is
        preflight.try_longest(wrong, batch, TrainConfig(), CPU)


def test_memory_by_stage_is_what_one_can_count() -> None:
    weights = 2**30
    bf16, fp32 = (preflight.memory_by_stage(weights, weights, 4, precision) for precision in ("bf16", "fp32"))
    assert bf16 == {"0": 18.0, "1": 2 + 4 + 3, "2": 2 + 4, "3": 18 / 4}
    assert fp32 == {"0": 16.0, "1": 4 + 4 + 2, "2": 4 + 3, "3": 16 / 4}
    assert preflight.memory_by_stage(weights, weights, 4, "bf16", "optimizer") == {
        "0": 18.0,
        "1": 6.0,
        "2": 3.0,
        "3": 1.5,
    }
    assert preflight.memory_by_stage(weights, weights, 4, "bf16", "all")["3"] == 1.0
    adapters = preflight.memory_by_stage(weights, weights // 64, 1, "bf16")
    assert adapters["0"] == 2 + 16 / 64


def test_a_packed_row_keeps_the_models_attention_window(trainings: Trainings) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    spec = trainings.spec(attention="sdpa")
    tokenizer = student.load_tokenizer(spec)
    data = encode_spec(spec, tokenizer)
    size = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    narrow, wide = (
        MistralForCausalLM(MistralConfig(**size, num_key_value_heads=1, sliding_window=window))
        for window in (16, 4096)
    )
    with pytest.raises(ConfigError, match="looks back 16 tokens only") as caught:
        preflight.check_match(spec, tokenizer, narrow, data, "sdpa")
    assert "train.packing" in caught.value.hint
    padded = trainings.spec(attention="sdpa", packing=False)
    assert (
        preflight.check_match(padded, tokenizer, narrow, data, "sdpa")
        == preflight.check_match(spec, tokenizer, wide, data, "sdpa")
        == []
    )


def test_a_model_that_lets_packed_documents_see_each_other_is_refused(trainings: Trainings) -> None:
    """StableLM's layers do not hand on to their attention where documents lie."""
    from transformers import (
        PretrainedConfig,
        Qwen2Config,
        Qwen2ForCausalLM,
        StableLmConfig,
        StableLmForCausalLM,
    )

    spec = trainings.spec()
    tokenizer = student.load_tokenizer(spec)
    data = encode_spec(spec, tokenizer)
    batcher = Batcher(data, spec.config, rank=0, ranks=1, attention="varlen", pad_token=0, device=CPU)
    register()

    def check(config: type[PretrainedConfig], kind: type[torch.nn.Module]) -> None:
        model = kind(
            config(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                attn_implementation="varlen",
            )
        ).eval()
        with torch.no_grad():
            preflight.check_documents_apart(lambda batch: model(**batch.inputs).logits, data, batcher, spec)

    check(Qwen2Config, Qwen2ForCausalLM)
    with pytest.raises(ConfigError, match="does not keep the documents of a packed row apart") as caught:
        check(StableLmConfig, StableLmForCausalLM)
    assert "train.packing" in caught.value.hint


def test_the_advice_on_memory() -> None:
    memory = {"0": 70.0, "1": 60.0, "2": 50.0, "3": 20.0}

    def advice(room: float, **settings: object) -> str:
        return preflight.memory_advice(memory, TrainConfig.model_validate(settings), room)

    assert advice(80, zero_stage=2) == ""
    assert advice(90, zero_stage=2) == "; ZeRO 1 would fit and is faster"
    assert advice(200, zero_stage=0) == ""  # bf16: stage 1 runs, stage 0 is none to advise
    assert advice(200, zero_stage=1, precision="fp32") == "; ZeRO 0 would fit and is faster"
    assert advice(40, zero_stage=2) == "; ZeRO 2 leaves little of 40 GiB for activations, ZeRO 3 would do"
    assert advice(16, zero_stage=3).endswith("think of offload, or of more ranks")
    assert advice(16, zero_stage=3, offload="all").endswith("think of more ranks")


def test_attention_is_what_was_asked_for_or_an_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "undo_hpc")
    assert student.choose_attention(TrainConfig(), CPU) == "varlen"
    assert student.choose_attention(TrainConfig(packing=False), CPU) == "sdpa"
    assert caplog.messages == [
        "attention: varlen (documents of a row attended to one by one); packing on",
        "attention: sdpa (torch); packing off",
    ]
    with pytest.raises(ConfigError, match=r"there is no GPU|flash-attn is not installed") as caught:
        student.choose_attention(TrainConfig(attention="flash_attention_2"), CPU)
    assert caught.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU Liger's kernels are used")
def test_kernels_that_cannot_be_used_are_told(trainings: Trainings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "undo_hpc")
    spec = trainings.spec(liger=True)
    student.load_student(spec, spec.config, "sdpa")
    reason = (
        "its kernels need a GPU"
        if importlib.util.find_spec("liger_kernel")
        else "not installed (pip install liger-kernel)"
    )
    assert (
        len(caplog.messages) == 1
        and caplog.messages[0].startswith("liger: ")
        and reason in caplog.messages[0]
        and caplog.messages[0].endswith("plain kernels are in use")
    )


@pytest.mark.parametrize("adapters", [False, True])
def test_the_work_of_a_step_is_what_torch_counts(trainings: Trainings, adapters: bool) -> None:
    """Against torch's own counter, forward and backward, of the same model."""
    from torch.utils.flop_counter import FlopCounterMode

    if adapters:
        pytest.importorskip("peft")
    spec = trainings.spec(lora={"enabled": adapters, "r": 4})
    model = student.load_student(spec, spec.config, "eager")
    ids = torch.randint(3, 260, (1, 64))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    weights, learned = (
        sum(p.numel() for p in model.parameters() if p.requires_grad or not only) for only in (False, True)
    )
    told = StepFlops(model.config, weights, learned).flops([64], 64)
    # Ours counts the causal half of the scores; torch counts them all.
    scores = 6 * model.config.num_hidden_layers * model.config.hidden_size * 64 * 64
    assert told + scores == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_the_work_of_a_mixture_of_experts_is_not_guessed() -> None:
    from transformers import Qwen3MoeConfig

    assert not StepFlops(Qwen3MoeConfig(), 1000, 1000).known
