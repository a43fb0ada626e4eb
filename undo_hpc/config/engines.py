"""The configuration of what generates: engines and sampling."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from undo_hpc.config.fields import Section, result_field, runtime_field, wrong_key

ENGINES = ("transformers", "vllm", "openai")  # those that come with the project


def known_engine(name: str) -> str:
    """The name of an engine. Raises ValueError where there is none of it."""
    if name in ENGINES or ":" in name or entry_points(group="undo_hpc.engines", name=name):
        return name
    near = difflib.get_close_matches(name, ENGINES, n=1)
    advice = f"did you mean '{near[0]}'? " if near else ""
    raise ValueError(
        f"no engine '{name}'; {advice}engines: {', '.join(ENGINES)}, or one of your own as 'package.module:Class'"
    )


class TransformersEngineConfig(Section):
    """Settings of the transformers engine."""

    batch_tokens: int = result_field(
        65536,
        "token budget of a batch: rows x (prompt + max new tokens); more is faster while memory lasts",
        ge=64,
    )
    max_batch: int = result_field(64, "most rows in a batch", ge=1)
    attn: str = result_field("auto", "attention implementation: auto, eager, sdpa, flash_attention_2")
    device: str = runtime_field("auto", "auto, cpu or cuda")
    threads: int = runtime_field(0, "CPU threads; 0 leaves torch's choice", ge=0)
    batch_invariant: bool = result_field(
        False,
        "make each completion independent of its neighbours in the batch (fixed batch shapes, one CPU thread); for exact repeats",
    )


class VllmEngineConfig(Section):
    """Settings of the vLLM engine; what is not here goes into `extra` (keyword arguments of vllm.LLM)."""

    tensor_parallel_size: int = runtime_field(
        0, "GPUs a model is spread over; 0 takes all that the task was given", ge=0
    )
    max_num_seqs: int = runtime_field(512, "most sequences in a step", ge=1)
    max_num_batched_tokens: int | None = runtime_field(32768, "most tokens in a step")
    max_model_len: int | None = result_field(
        None, "tokens of the longest prompt + completion; null derives it from the prompts and max_new_tokens"
    )
    gpu_memory_utilization: float = runtime_field(0.9, "share of the GPU's memory", gt=0, le=1)
    enable_prefix_caching: bool = runtime_field(True, "share the work on equal prompt beginnings")
    enforce_eager: bool = runtime_field(False, "no CUDA graphs: slower, starts faster")
    batch_invariant: bool = result_field(
        False,
        "vLLM's batch-invariant kernels (GPUs only): a completion does not depend on its neighbours in the batch; slower",
    )
    extra: dict[str, Any] = result_field({}, "further keyword arguments of vllm.LLM")


class OpenAIEngineConfig(Section):
    """Settings of the client for any OpenAI-compatible server."""

    base_url: str = runtime_field(
        "", "address such as http://host:8000/v1; empty takes the run's own teacher service"
    )
    served_model: str = result_field("", "name of the model at the server; empty takes `model`")
    concurrency: int = runtime_field(64, "requests under way at once", ge=1)
    timeout_s: float = runtime_field(600.0, "seconds before a request is abandoned", gt=0)
    max_retries: int = runtime_field(6, "tries of a request, with growing random waits", ge=1)
    api_key_env: str = runtime_field(
        "OPENAI_API_KEY",
        "name of the environment variable with the key",
        pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$",
    )
    api_key_file: str = runtime_field("", "file with the key; wins over the variable")
    require_key: bool = runtime_field(False, "refuse to start where no key is found")
    omit: list[str] = result_field(
        [], "parameters never sent, e.g. [seed, top_p]; refused ones are found and left out without this"
    )
    extra_body: dict[str, Any] = result_field(
        {},
        "further parameters of each request, which win over ours, e.g. {reasoning_effort: high}; see docs/servers.md",
    )


class EngineConfig(Section):
    """Which engine generates, and its settings."""

    name: str = result_field(
        "transformers",
        "transformers, vllm, openai, or one of your own: 'package.module:Class', or its name as an entry point (undo_hpc.engines)",
    )
    options: dict[str, Any] = result_field({}, "settings of an engine of your own")
    transformers: TransformersEngineConfig = result_field(
        TransformersEngineConfig(), "settings of the transformers engine"
    )
    vllm: VllmEngineConfig = result_field(VllmEngineConfig(), "settings of the vLLM engine")
    openai: OpenAIEngineConfig = result_field(
        OpenAIEngineConfig(), "settings of the OpenAI-compatible client"
    )
    reasoning: Literal["keep", "drop"] = result_field(
        "keep",
        "what a server returns apart as reasoning: keep it as <think>...</think> before the answer, or drop it (both are counted)",
    )
    request_retries: int = result_field(
        2, "tries of a request that the engine itself fails on, before it is recorded as failed", ge=1
    )

    @field_validator("name")
    @classmethod
    def _name_is_known(cls, name: str) -> str:
        return known_engine(name)

    @model_validator(mode="after")
    def _options_are_read(self) -> EngineConfig:
        if self.options and self.name in ENGINES:
            raise wrong_key(
                ("options",),
                f"they are for an engine of your own; those of {self.name} stand under '{self.name}'",
            )
        return self


class SamplingConfig(Section):
    """How tokens are drawn."""

    temperature: float = result_field(0.7, "0 is greedy", ge=0)
    top_p: float = result_field(0.95, "nucleus sampling", gt=0, le=1)
    top_k: int = result_field(0, "0 for all", ge=0)
    max_new_tokens: int = result_field(2048, "max new tokens of a completion", ge=1)
    max_new_tokens_by_iteration: dict[
        Annotated[int, Field(strict=False, ge=0)], Annotated[int, Field(ge=1)]
    ] = result_field({}, "max new tokens from that iteration on, e.g. {1: 1024}")
    stop: list[str] = result_field([], "texts that end a completion, beside the template's end of turn")
