"""The attention that is trained with computes what the model's own does, in every family, packed or padded."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import Trainings
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError
from undo_hpc.training import student
from undo_hpc.training.attention_check import settle_attention
from undo_hpc.training.batches import Batcher, MicroBatch
from undo_hpc.training.encoding import EncodedSet, encode_spec
from undo_hpc.training.loop import answer_loss, logits_of
from undo_hpc.training.spec import TrainSpec

CPU = torch.device("cpu")
SIZE = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
EXPERTS = {"num_experts_per_tok": 1, "moe_intermediate_size": 16}
# Class of the model -> settings beside SIZE, and the attention of `auto`: packed, padded.
MODELS: dict[str, tuple[dict[str, Any], str, str]] = {
    "Qwen2ForCausalLM": ({}, "varlen", "sdpa"),
    "Qwen3ForCausalLM": ({"head_dim": 8}, "varlen", "sdpa"),
    "Qwen3MoeForCausalLM": ({"head_dim": 8, "num_experts": 2, **EXPERTS}, "varlen", "sdpa"),
    "LlamaForCausalLM": ({}, "varlen", "sdpa"),
    "MistralForCausalLM": ({"head_dim": 8}, "varlen", "sdpa"),
    "GemmaForCausalLM": ({"head_dim": 8}, "varlen", "sdpa"),
    "Gemma2ForCausalLM": (
        {"head_dim": 8, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 1},
        "eager",
        "eager",
    ),
    "Gemma3ForCausalLM": ({"head_dim": 8}, "varlen", "sdpa"),
    "Phi3ForCausalLM": ({}, "varlen", "sdpa"),
    "SmolLM3ForCausalLM": ({}, "varlen", "sdpa"),
    "Olmo2ForCausalLM": ({}, "varlen", "sdpa"),
    "Glm4ForCausalLM": ({"head_dim": 8}, "varlen", "sdpa"),
    "GptOssForCausalLM": (
        {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 512},
        "eager",
        "eager",
    ),
    "FalconForCausalLM": ({"new_decoder_architecture": True, "num_kv_heads": 2}, "eager", "sdpa"),
}


@dataclass(frozen=True)
class Alone:
    """One rank without a process group."""

    device: torch.device = CPU

    def all_reduce_max(self, *values: float) -> list[float]:
        return [float(value) for value in values]


class Engine:
    """The part of DeepSpeed's engine that the loss needs."""

    def __init__(self, model: Any) -> None:
        self.module = model
        self.eval, self.train = model.eval, model.train

    def __call__(self, **inputs: Any) -> Any:
        return self.module(**inputs)


def make_model(name: str, spec: TrainSpec, place: Path) -> Path:
    """A tiny random model of that class with the tokenizer of these tests; its weights are large, so that scores are, too."""
    import transformers

    tokenizer = student.load_tokenizer(spec)
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    special = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": tokenizer.eos_token_id}
    model = kind(kind.config_class(vocab_size=len(tokenizer), **special, **SIZE | MODELS[name][0]))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() >= 2:
                weight.mul_(8)
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def chosen(spec: TrainSpec) -> tuple[Any, str]:
    """The model and the attention that a training would choose."""
    config = spec.config
    name = student.choose_attention(config, CPU)
    model, name = student.load_with_attention(spec, config, name)
    name = settle_attention(
        model,
        lambda batch: logits_of(Engine(model), batch),
        config,
        name,
        Alone(),  # type: ignore[arg-type]
        spec_model=spec.model,
    )
    return model, name


def loss_of(model: Any, data: EncodedSet, config: TrainConfig, attention: str) -> float:
    """The summed loss of four rows."""
    batcher = Batcher(data, config, rank=0, ranks=1, attention=attention, pad_token=0, device=CPU)
    batch: MicroBatch = batcher.build([0, 1, 2, 3])
    with torch.no_grad():
        return float(answer_loss(Engine(model.eval()), batch))


@pytest.mark.parametrize("name", MODELS)
def test_packed_and_padded_rows_have_the_loss_of_the_models_own_attention(
    trainings: Trainings, tmp_path: Path, name: str
) -> None:
    spec = trainings.spec(model=str(make_model(name, trainings.spec(), tmp_path)))
    data = encode_spec(spec, student.load_tokenizer(spec))
    losses = []
    for packing, expected in ((True, MODELS[name][1]), (False, MODELS[name][2])):
        packed = replace(spec, train=spec.train | {"packing": packing})
        model, attention = chosen(packed)
        assert attention == expected
        losses.append(loss_of(model, data, packed.config, attention))
    own = student.load_student(spec, replace(spec, train=spec.train | {"packing": False}).config, "eager")
    padded = TrainConfig.model_validate(spec.train | {"packing": False})
    assert losses == pytest.approx([loss_of(own, data, padded, "eager")] * 2, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "train", "message"),
    [
        ("Gemma2ForCausalLM", {"packing": False, "attention": "sdpa"}, "caps its attention's scores"),
        ("Gemma2ForCausalLM", {"attention": "sdpa"}, "caps its attention's scores"),
        ("Gemma2ForCausalLM", {"attention": "varlen"}, "caps its attention's scores"),
    ],
)
def test_an_attention_by_name_that_computes_something_else_is_refused(
    trainings: Trainings, tmp_path: Path, name: str, train: dict[str, Any], message: str
) -> None:
    spec = trainings.spec(model=str(make_model(name, trainings.spec(), tmp_path)), **train)
    with pytest.raises(ConfigError, match=message) as caught:
        chosen(spec)
    assert "eager" in caught.value.hint


def test_a_model_without_the_attention_asked_for_says_which_to_take(
    trainings: Trainings, tmp_path: Path
) -> None:
    place = make_model("GptOssForCausalLM", trainings.spec(), tmp_path)
    with pytest.raises(student.AttentionMissing, match="cannot be run with the attention 'sdpa'") as caught:
        chosen(trainings.spec(model=str(place), packing=False, attention="sdpa"))
    assert caught.value.hint == "set train.attention to eager"


def test_logits_that_differ_are_found_where_nothing_else_tells(
    trainings: Trainings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An attention with another scale, as code of a model with a mistake would have it."""
    from transformers import AttentionInterface
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    spec = trainings.spec(
        model=str(make_model("Qwen2ForCausalLM", trainings.spec(), tmp_path)), packing=False
    )
    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def skewed(*tensors: Any, scaling: float | None = None, **options: Any) -> Any:
        return plain(*tensors, scaling=(scaling or 1.0) * 0.7, **options)

    AttentionInterface.register("sdpa", skewed)
    try:
        with caplog.at_level(logging.INFO, "undo_hpc"):
            assert chosen(spec)[1] == "eager" and "logits differ" in caplog.messages[-1]
    finally:
        AttentionInterface.register("sdpa", plain)
