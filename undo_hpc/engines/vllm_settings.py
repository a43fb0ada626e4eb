"""What vLLM is started with, in this process or as a server: from our configuration and the hardware at hand."""

from __future__ import annotations

import os
from typing import Any

from undo_hpc.config.schema import ModelConfig, VllmEngineConfig
from undo_hpc.errors import ConfigError, DataError


def gpus() -> int:
    """GPUs that this task was given (CUDA_VISIBLE_DEVICES is obeyed)."""
    import torch

    return torch.cuda.device_count()


def environment(config: VllmEngineConfig) -> dict[str, str]:
    """Environment variables vLLM needs before its import; those that are set already stay as they are.

    Without a GPU: one process, for its engine process costs more than it gives there; no compilation; a cache of 1
    GiB; threads not bound to cores, for every task of a local run would take the same ones. One OpenMP thread
    everywhere unless said otherwise: on a shared CPU, waiting threads made small models twenty times slower.
    """
    wanted = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    if gpus() == 0:
        wanted |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "TORCH_COMPILE_DISABLE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
    if config.batch_invariant:
        wanted["VLLM_BATCH_INVARIANT"] = "1"
    return {name: value for name, value in wanted.items() if name not in os.environ}


def prepare_environment(config: VllmEngineConfig) -> None:
    """Sets `environment` in this process, and the number of threads where torch has been imported before it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which `environment` does
    os.environ.update(environment(config))
    if gpus() == 0:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def llm_arguments(config: VllmEngineConfig, model: ModelConfig, path: str) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM`; `config.extra` has the last word.

    Raises:
        ConfigError: `batch_invariant` without a GPU; vLLM has no such kernels for CPUs.
    """
    on_gpu = gpus()
    if config.batch_invariant and not on_gpu:
        raise ConfigError(
            "engine.vllm.batch_invariant is true, but torch sees no GPU, and vLLM has such kernels for GPUs only",
            hint="set it to false, or take engine.name: transformers with engine.transformers.batch_invariant: true",
        )
    arguments: dict[str, Any] = {
        "model": path,
        "tokenizer": path,
        "trust_remote_code": model.trust_remote_code,
        "dtype": model.dtype if model.dtype != "auto" or on_gpu else "float32",
        "max_num_seqs": config.max_num_seqs,
        "enable_prefix_caching": config.enable_prefix_caching,
        "enforce_eager": config.enforce_eager or not on_gpu,
        # In pieces, a prompt whose request has a seed fails on a CPU: "CPU Generator does not use offset" (vLLM 0.32).
        "enable_chunked_prefill": bool(on_gpu),
        "generation_config": "vllm",  # never the model's own sampling defaults: what is recorded is what was used
        "seed": 0,
    }
    if model.revision:
        arguments |= {"revision": model.revision, "tokenizer_revision": model.revision}
    if config.max_model_len:
        arguments["max_model_len"] = config.max_model_len
    if config.max_num_batched_tokens or not on_gpu:
        whole_prompt = 0 if on_gpu else config.max_model_len or _context(path)
        arguments["max_num_batched_tokens"] = max(config.max_num_batched_tokens or 0, config.max_num_seqs, whole_prompt)
    if on_gpu:
        arguments |= {
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "tensor_parallel_size": config.tensor_parallel_size or tensor_parallel(path, on_gpu),
        }
    return arguments | config.extra


def tensor_parallel(path: str, count: int) -> int:
    """The most GPUs, up to `count`, over which the model's attention heads can be spread evenly."""
    heads = int(getattr(_text_config(path), "num_attention_heads", count))
    return max(n for n in range(1, count + 1) if heads % n == 0)


def _context(path: str) -> int:
    return int(getattr(_text_config(path), "max_position_embeddings", 0) or 0)


def _text_config(path: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path).get_text_config()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: its config.json cannot be read: {error}", hint="check the files of the model"
        ) from error


def server_flags(arguments: dict[str, Any]) -> list[str]:
    """The same settings as flags of vLLM's server."""
    import json

    flags = []
    for key, value in arguments.items():
        flag = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            if key == "trust_remote_code" and not value:
                continue
            flags.append(flag if value else flag.replace("--", "--no-", 1))
        elif value is not None:
            flags += [flag, json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return flags
