"""The configuration of student training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from undo_hpc.config.fields import Section, result_field, runtime_field


class LoraConfig(Section):
    """Low-rank adapters (needs the extra `lora`)."""

    enabled: bool = result_field(False, "train adapters instead of all weights; merged at export")
    r: int = result_field(16, "rank", ge=1)
    alpha: int = result_field(32, "scale", ge=1)
    dropout: float = result_field(0.0, "dropout of the adapters", ge=0, lt=1)
    target_modules: list[str] = result_field([], "names of the layers; empty takes all linear layers")


class CheckpointConfig(Section):
    """How training survives."""

    every_steps: int = runtime_field(200, "steps between checkpoints", ge=1)
    every_minutes: float = runtime_field(
        15.0, "minutes between checkpoints, whichever comes first; 0 for steps alone", ge=0
    )
    keep: int = runtime_field(2, "newest checkpoints kept, also when the training is complete", ge=1)
    asynchronous: bool = runtime_field(True, "write in a thread from a copy in host memory")


class TrainConfig(Section):
    """Student training."""

    epochs: float = result_field(3.0, "passes over the distilled set", gt=0)
    tokens: int = result_field(
        0, "train on so many tokens in all, in whatever number of passes; 0 for `epochs` passes", ge=0
    )
    max_steps: int = result_field(0, "most optimiser steps; 0 for no limit", ge=0)
    tokens_per_batch: int = result_field(65536, "tokens of an optimiser step over all ranks", ge=1)
    micro_batch_tokens: int = result_field(16384, "tokens of a micro-batch on one rank", ge=1)
    max_length: int = result_field(4096, "longest example in tokens", ge=8)
    too_long: Literal["drop", "truncate"] = result_field(
        "drop", "examples over max_length: left out, or cut at the answer's end"
    )
    packing: bool = result_field(True, "pack several examples into a micro-batch row, without cross-talk")
    learning_rate: float = result_field(1e-5, "peak learning rate", gt=0)
    min_learning_rate_ratio: float = result_field(0.0, "learning rate at the end over the peak", ge=0, le=1)
    warmup_ratio: float = result_field(0.03, "share of the steps with a rising learning rate", ge=0, lt=1)
    schedule: Literal["cosine", "linear", "constant"] = result_field(
        "cosine", "shape of the learning rate after the warm-up"
    )
    weight_decay: float = result_field(0.0, "AdamW's weight decay", ge=0)
    betas: tuple[float, float] = result_field((0.9, 0.95), "AdamW's betas")
    eps: float = result_field(1e-8, "AdamW's epsilon", gt=0)
    max_grad_norm: float = result_field(1.0, "largest norm of the gradient; 0 for none", ge=0)
    precision: Literal["fp32", "bf16"] = result_field("bf16", "bf16 or fp32")
    zero_stage: int = result_field(2, "DeepSpeed ZeRO stage, 0 to 3", ge=0, le=3)
    offload: Literal["none", "optimizer", "all"] = result_field(
        "none", "DeepSpeed CPU offload of the optimiser, or of the parameters too"
    )
    gradient_checkpointing: bool = result_field(False, "recompute activations to save memory")
    attention: Literal["auto", "varlen", "sdpa", "eager", "flash_attention_2"] = result_field(
        "auto", "auto, sdpa, eager, flash_attention_2, or varlen (each packed document by itself)"
    )
    liger: bool = runtime_field(False, "use Liger kernels where installed")
    deepspeed: dict[str, Any] | str = result_field(
        {}, "DeepSpeed's own settings, or a JSON/YAML file of them, merged over ours"
    )
    lora: LoraConfig = result_field(LoraConfig(), "low-rank adapters")
    checkpoint: CheckpointConfig = result_field(CheckpointConfig(), "how training survives")
    log_steps: int = runtime_field(10, "steps between log lines", ge=1)
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = runtime_field(
        [], "further places for the training curve"
    )
    ranks: int = result_field(
        1,
        "processes that train together on the machine at hand; on a cluster, nodes x tasks of the profile win",
        ge=1,
    )
    threads: int = runtime_field(0, "CPU threads of a rank; 0 leaves torch's choice", ge=0)
    preflight: bool = runtime_field(True, "try the longest batch before the first step")

    @field_validator("attention", mode="before")
    @classmethod
    def _earlier_name(cls, value: Any) -> Any:
        return "varlen" if value == "segment" else value

    @field_validator("betas", mode="before")
    @classmethod
    def _list_is_a_pair(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value  # neither YAML nor JSON has tuples

    @model_validator(mode="after")
    def _varlen_is_packed(self) -> TrainConfig:
        if self.attention == "varlen" and not self.packing:
            raise ValueError(
                "attention is 'varlen', which is for packed rows, but packing is off: set train.attention to auto"
            )
        return self

    @model_validator(mode="after")
    def _offload_has_something_to_move(self) -> TrainConfig:
        """DeepSpeed would ignore both, silently: what is not shared out by ZeRO stays where it is."""
        if self.offload != "none" and self.zero_stage == 0 and self.precision == "fp32":
            raise ValueError(
                f"offload is '{self.offload}', but ZeRO 0 in fp32 offloads nothing: set train.zero_stage to 1, 2 or 3"
            )
        if self.offload == "all" and self.zero_stage < 3:
            raise ValueError(
                f"offload is 'all', but ZeRO {self.zero_stage} keeps the parameters on the GPU: "
                "set train.zero_stage to 3, or train.offload to optimizer"
            )
        return self
