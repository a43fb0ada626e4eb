"""The configuration of student training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from undo_hpc.config.fields import Section, about, neutral


class LoraConfig(Section):
    """Low-rank adapters (needs the extra `lora`)."""

    enabled: bool = about(False, "train adapters instead of all weights; merged at export")
    r: int = about(16, "rank", ge=1)
    alpha: int = about(32, "scale", ge=1)
    dropout: float = about(0.0, "dropout of the adapters", ge=0, lt=1)
    target_modules: list[str] = about([], "names of the layers; empty takes all linear layers")


class CheckpointConfig(Section):
    """How training survives."""

    every_steps: int = neutral(200, "steps between checkpoints", ge=1)
    every_minutes: float = neutral(
        15.0, "minutes between checkpoints, whichever comes first; 0 for steps alone", ge=0
    )
    keep: int = neutral(2, "newest checkpoints kept", ge=1)
    asynchronous: bool = neutral(True, "write in a thread from a copy in host memory")


class TrainConfig(Section):
    """Student training."""

    epochs: float = about(3.0, "passes over the distilled set", gt=0)
    max_steps: int = about(0, "most optimiser steps; 0 for no limit", ge=0)
    tokens_per_batch: int = about(65536, "tokens of an optimiser step over all ranks", ge=1)
    micro_batch_tokens: int = about(16384, "tokens of a micro-batch on one rank", ge=1)
    max_length: int = about(4096, "longest example in tokens", ge=8)
    too_long: Literal["drop", "truncate"] = about(
        "drop", "examples over max_length: left out, or cut at the answer's end"
    )
    packing: bool = about(True, "pack several examples into a micro-batch row, without cross-talk")
    learning_rate: float = about(1e-5, "peak learning rate", gt=0)
    min_learning_rate_ratio: float = about(0.0, "learning rate at the end over the peak", ge=0, le=1)
    warmup_ratio: float = about(0.03, "share of the steps with a rising learning rate", ge=0, lt=1)
    schedule: Literal["cosine", "linear", "constant"] = about(
        "cosine", "shape of the learning rate after the warm-up"
    )
    weight_decay: float = about(0.0, "AdamW's weight decay", ge=0)
    betas: tuple[float, float] = about((0.9, 0.95), "AdamW's betas")
    eps: float = about(1e-8, "AdamW's epsilon", gt=0)
    clip: float = about(1.0, "largest norm of the gradient; 0 for none", ge=0)
    precision: Literal["fp32", "bf16"] = about("bf16", "bf16 or fp32")
    zero_stage: int = about(2, "DeepSpeed ZeRO stage, 0 to 3", ge=0, le=3)
    offload: Literal["none", "optimizer", "all"] = about(
        "none", "DeepSpeed CPU offload of the optimiser, or of the parameters too"
    )
    gradient_checkpointing: bool = about(False, "recompute activations to save memory")
    attention: Literal["auto", "segment", "sdpa", "eager", "flash_attention_2"] = about(
        "auto", "auto, sdpa, eager, flash_attention_2, or segment (each packed document by itself)"
    )
    liger: bool = neutral(False, "use Liger kernels where installed")
    deepspeed: dict[str, Any] | str = about(
        {}, "DeepSpeed's own settings, or a JSON/YAML file of them, merged over ours"
    )
    lora: LoraConfig = about(LoraConfig(), "low-rank adapters")
    checkpoint: CheckpointConfig = about(CheckpointConfig(), "how training survives")
    log_steps: int = neutral(10, "steps between log lines", ge=1)
    sinks: list[Literal["tensorboard", "wandb", "trackio"]] = neutral(
        [], "further places for the training curve"
    )
    ranks: int = about(
        1,
        "processes that train together on the machine at hand; on a cluster, nodes x tasks of the profile win",
        ge=1,
    )
    threads: int = neutral(0, "CPU threads of a rank; 0 leaves torch's choice", ge=0)
    preflight: bool = neutral(True, "try the longest batch before the first step")

    @model_validator(mode="after")
    def _segments_are_packed(self) -> TrainConfig:
        if self.attention == "segment" and not self.packing:
            raise ValueError(
                "attention is 'segment', which is for packed rows, but packing is off: set train.attention to sdpa"
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
