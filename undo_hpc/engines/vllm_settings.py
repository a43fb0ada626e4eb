"""What vLLM is started with, in this process or as a server: from our configuration and the hardware at hand."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import ModelConfig, VllmEngineConfig
from undo_hpc.engines.vllm_nodes import node_count, spread
from undo_hpc.engines.vllm_sockets import SOCKETS, socket_folder
from undo_hpc.errors import ConfigError, loading

log = logging.getLogger(__name__)

_CONTEXT_STEP = 1024  # tokens
_CONTEXT_KEYS = (  # where vLLM looks for it too
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_SCORING_TOKENS, _SCORING_MEMORY = 8192, 0.85  # of a step; share of the GPU
_FITS_ONE_GPU = 45e9  # bytes of weights that leave an 80 GB GPU enough room for the key-value cache


def gpus() -> int:
    """GPUs that this task was given (CUDA_VISIBLE_DEVICES is obeyed). Asks NVML, so CUDA is not initialised by it."""
    import torch

    return torch.cuda.device_count()


def environment(config: VllmEngineConfig) -> dict[str, str]:
    """Environment variables vLLM needs before its import; those that are set already stay as they are.

    With GPUs: processes are spawned, as vLLM's own server does; a forked one fails where CUDA was touched before, if only
    to count the devices (MIG, no NVML). Without: one process, for its engine process costs more than it gives there; no
    compilation (over several nodes: see `spread`); a cache of 1 GiB; threads not bound to cores, for every task of a local
    run would take the same ones; one OpenMP thread, for on a shared CPU waiting threads made small models twenty times slower.
    """
    wanted = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if gpus() == 0:
        wanted |= {
            "OMP_NUM_THREADS": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            **({"TORCH_COMPILE_DISABLE": "1"} if node_count() == 1 else {}),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
    else:
        wanted["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    if node_count() == 1 and sys.platform == "linux":
        # else it listens where the node's name leads, and a thousand connections of whoever likes end it
        wanted["GLOO_SOCKET_IFNAME"] = "lo"
    if folder := "" if SOCKETS in os.environ else socket_folder(os.getpid()):
        wanted[SOCKETS] = folder
    if config.batch_invariant:
        wanted["VLLM_BATCH_INVARIANT"] = "1"
    return {name: value for name, value in wanted.items() if name not in os.environ}


def variables_to_unset() -> list[str]:
    """Environment variables to remove for vLLM: a job's own OMP_NUM_THREADS, where there is a GPU.

    vLLM loads weights with all cores that are ours and then goes down to one thread, for more only wait and take time
    from it; a value in the environment would override that. Another value is the user's, and stays.
    """
    ours = os.environ.get("OMP_NUM_THREADS", "") == os.environ.get("SLURM_CPUS_PER_TASK", "1")
    return ["OMP_NUM_THREADS"] if ours and gpus() else []


def prepare_environment(config: VllmEngineConfig) -> None:
    """Sets `environment` in this process, and the number of threads where torch has been imported before it."""
    given = "OMP_NUM_THREADS" in os.environ
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which `gpus` does
    import torch

    if gpus():
        if not given or variables_to_unset():
            del os.environ["OMP_NUM_THREADS"]
            torch.set_num_threads(len(os.sched_getaffinity(0)))
    else:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    os.environ.update(environment(config))


def llm_arguments(
    config: VllmEngineConfig, model: ModelConfig, path: str, needed_tokens: int = 0, *, score_k: int = 0
) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM`; `config.extra` has the last word.

    Args:
        score_k: log-probabilities a position, for an engine that scores; 0 for one that generates.
        needed_tokens: longest prompt + max new tokens of the requests to come; 0 where that is unknown. Where nobody set
            `max_model_len`, it is derived from this: vLLM reserves the key-value cache of a whole context, and refuses to start
            where that does not fit (262,144 tokens of Qwen3-30B-A3B take 24 GiB beside 57 GiB of weights).

    Raises:
        ConfigError: `batch_invariant` without a GPU; vLLM has no such kernels for CPUs. Or `extra` limits log-probabilities below
            `score_k`: vLLM would refuse each request.
    """
    limit = config.extra.get("max_logprobs", -1)
    if 0 <= limit < score_k:
        raise ConfigError(
            f"engine.vllm.extra.max_logprobs is {limit}, and distill.k is {score_k}",
            hint="raise or remove max_logprobs, or lower distill.k",
        )
    on_gpu, nodes = gpus(), node_count()
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
    context = config.max_model_len or _derived_context(model, path, needed_tokens)
    if context:
        arguments["max_model_len"] = context
    if config.max_num_batched_tokens or not on_gpu:
        whole_prompt = 0 if on_gpu else context or _model_context(model, path)
        arguments["max_num_batched_tokens"] = max(
            config.max_num_batched_tokens or 0, config.max_num_seqs, whole_prompt
        )
    if on_gpu:
        others = int(config.extra.get("data_parallel_size", 1)) * int(
            config.extra.get("pipeline_parallel_size", nodes)
        )
        arguments |= {
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "tensor_parallel_size": config.tensor_parallel_size
            or tensor_parallel(model, path, max(1, on_gpu * nodes // others)),
        }
    arguments |= (_for_scoring(arguments, score_k) if score_k else {}) | config.extra
    return spread(arguments, nodes, on_gpu) if nodes > 1 else arguments


def _for_scoring(arguments: dict[str, Any], k: int) -> dict[str, Any]:
    """What differs where prompts are scored: on a GPU smaller steps and more free memory, for start-up profiling does not count the
    log-probabilities of a step, and 32,768 tokens of a large vocabulary have 30 GB of them."""
    changed: dict[str, Any] = {"max_logprobs": max(20, k)}
    if arguments.get("gpu_memory_utilization"):
        changed["gpu_memory_utilization"] = min(arguments["gpu_memory_utilization"], _SCORING_MEMORY)
        tokens = arguments.get("max_num_batched_tokens") or _SCORING_TOKENS
        changed["max_num_batched_tokens"] = max(min(tokens, _SCORING_TOKENS), arguments["max_num_seqs"])
    return changed


def tensor_parallel(model: ModelConfig, path: str, count: int) -> int:
    """The most GPUs, up to `count`, over which vLLM can spread the model evenly: a power of two that divides its
    attention heads and inner sizes. Key-value heads are divided too, or each is held by as many GPUs as there are to
    one. Weights that are quantized in blocks are cut between blocks only (FP8 of 128 x 128, AWQ and GPTQ by groups). (vLLM
    pads the vocabulary to a multiple of 64 and asks for an even share of that as well.)
    """
    config = _text_config(model, path)
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    shared = int(getattr(config, "num_key_value_heads", 0) or heads or 1)
    names = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size")
    sizes = [int(getattr(config, name, 0) or 0) for name in names]
    quantization = getattr(config, "quantization_config", None) or {}
    block = max(1, int((quantization.get("weight_block_size") or [quantization.get("group_size") or 1])[0]))

    def fits(n: int) -> bool:
        even = heads % n == 0 and all(size % n == 0 and (n == 1 or size % (n * block) == 0) for size in sizes)
        return even and (shared % n == 0 or n % shared == 0)

    chosen = max(n for n in (1, 2, 4, 8, 16, 32, 64) if n == 1 or (n <= count and fits(n)))
    _advise(path, count, chosen)
    return chosen


def _advise(path: str, count: int, chosen: int) -> None:
    """Warns where the GPUs of this task could be used better."""
    weights = sum(file.stat().st_size for file in Path(path).glob("*.safetensors"))
    if chosen < count:
        log.warning(
            "%d of %d GPUs are used: %s cannot be spread evenly over more; ask for %d a task",
            chosen,
            count,
            path,
            chosen,
        )
    if chosen > 1 and 0 < weights <= _FITS_ONE_GPU:
        log.warning(
            "one model over %d GPUs, though its %.0f GB fit into one: tasks with one GPU each, and more shards, write more "
            "tokens in the same GPU-hours",
            chosen,
            weights / 1e9,
        )


def _derived_context(model: ModelConfig, path: str, needed_tokens: int) -> int:
    """The `max_model_len` that `needed_tokens` ask for, rounded up so that shards of one run get the same; 0 leaves vLLM's own choice,
    the model's context, where they need no less (or its config does not tell).
    """
    rounded = -(-needed_tokens // _CONTEXT_STEP) * _CONTEXT_STEP
    return rounded if 0 < rounded < _model_context(model, path) else 0


def _model_context(model: ModelConfig, path: str) -> int:
    """Most tokens that a model reads, by its config.json; 0 where it does not say."""
    config = _text_config(model, path)
    values = [getattr(config, name, None) for name in _CONTEXT_KEYS]
    return min((value for value in values if isinstance(value, int) and value > 0), default=0)


def _text_config(model: ModelConfig, path: str) -> Any:
    from transformers import AutoConfig

    with loading(f"{path}: its config.json cannot be read", hint="check the files of the model"):
        found = AutoConfig.from_pretrained(
            path, revision=model.revision or None, trust_remote_code=model.trust_remote_code
        )
        return found.get_text_config()


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
