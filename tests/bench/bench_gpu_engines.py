"""On a GPU: the transformers engine against padded `generate` with the shape of a 1.5B model, and vLLM's prefix cache
on refinement prompts.

The weights are random (no download): speed depends on the shape, and lengths are set by the workload.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.bench_engines import workload
from tests.bench.frame import Measure, Skipped, in_turn

BATCH = 64
LONGER = 4  # times the lengths of the CPU workload: answers of a real student


def measures() -> Iterator[Measure | Skipped]:
    """Both comparisons; each needs a CUDA GPU."""
    import torch

    if not torch.cuda.is_available():
        yield Skipped("engines.gpu", "no CUDA GPU")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = build_1_5b(Path(folder) / "model")
        yield transformers_against_padded(path)
        yield prefix_caching(path)


def build_1_5b(path: Path) -> Path:
    """Random bfloat16 weights in the shape of Qwen2.5-1.5B, with a small real tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from tests.engines.conftest import build_tokenizer

    tokenizer: Any = build_tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        dtype="bfloat16",
        eos_token_id=2,
        pad_token_id=0,
        bos_token_id=None,
    )
    with torch.device("cuda"):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def wall_seconds(work: Callable[[], object]) -> float:
    """Wall time of a call, the GPU's queue emptied before and after."""
    import torch

    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def transformers_against_padded(path: Path) -> Measure:
    """As on the CPU: the same requests, in file order and padded, each row ending at its own length."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList

    from undo_hpc.config.schema import EngineConfig, ModelConfig, TransformersEngineConfig
    from undo_hpc.engines import Request
    from undo_hpc.engines.transformers_engine import TransformersEngine

    requests = [Request(r.id, r.prompt, r.seed, r.temperature, r.max_tokens * LONGER) for r in workload()]
    part = TransformersEngineConfig(max_batch=4 * BATCH, batch_tokens=10**6)
    engine = TransformersEngine(EngineConfig(transformers=part), ModelConfig(model=str(path), dtype="bfloat16"))
    engine._chat.stop_ids = frozenset()  # lengths are the workload's
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).to("cuda").eval()
    model.generation_config.eos_token_id = None

    class Lengths(StoppingCriteria):
        """Ends each row at its own length."""

        def __init__(self, limits: list[int]) -> None:
            self._limits, self._step = torch.tensor(limits, device="cuda"), 0

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            self._step += 1
            return self._step >= self._limits

    def padded() -> None:
        for start in range(0, len(requests), BATCH):
            chosen = requests[start : start + BATCH]
            chats = [[{"role": "user", "content": r.prompt}] for r in chosen]
            inputs = tokenizer.apply_chat_template(
                chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
            )
            limits = [r.max_tokens for r in chosen]
            model.generate(
                **inputs.to("cuda"),
                do_sample=True,
                top_k=0,
                max_new_tokens=max(limits),
                pad_token_id=0,
                stopping_criteria=StoppingCriteriaList([Lengths(limits)]),
            )

    def ours() -> None:
        for _ in engine.generate(requests):
            pass

    ours()  # warm-up of kernels and memory
    ours_s, padded_s = in_turn(lambda: wall_seconds(ours), lambda: wall_seconds(padded), repeats=3)
    engine.close()
    model.to("cpu")
    gc.collect()
    torch.cuda.empty_cache()
    tokens = sum(r.max_tokens for r in requests)
    return Measure(
        "engines.gpu.transformers",
        "transformers engine against padded `generate` in file order, 1.5B shape",
        tokens / ours_s,
        tokens / padded_s,
        ">=3",
        unit="output tokens / s",
        note=f"batches of {4 * BATCH} and {BATCH} rows",
    )


def prefix_caching(path: Path) -> Measure | Skipped:
    """Four samples of each refinement prompt through vLLM, with the prefix cache and without."""
    from undo_hpc.engines.vllm_engine import is_installed

    if not is_installed():
        return Skipped("engines.gpu.prefix_caching", "vLLM is not installed")
    from undo_hpc.config.schema import EngineConfig, ModelConfig, VllmEngineConfig
    from undo_hpc.engines import Request
    from undo_hpc.engines.vllm_engine import VllmEngine
    from undo_hpc.prompts import load_prompts

    prompts = load_prompts("default")
    texts = [
        prompts.refine(r.prompt, f"{r.prompt} so {r.seed}. " * 4, f"{r.seed} and {r.prompt}", "wrong")
        for r in workload()
    ]
    requests = [Request(f"{i}-{k}", text, 7 * i + k, 1.0, 128) for i, text in enumerate(texts) for k in range(4)]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for enabled in (True, False):
        part = VllmEngineConfig(enable_prefix_caching=enabled, max_model_len=4096, gpu_memory_utilization=0.6)
        engine = VllmEngine(EngineConfig(name="vllm", vllm=part), ModelConfig(model=str(path), dtype="bfloat16"))
        list(engine.generate([Request("warm", "warm", 0, 1.0, 8)]))
        began = time.perf_counter()
        written = sum(c.completion_tokens for c in engine.generate(requests))
        seconds[enabled].append(written / (time.perf_counter() - began))
        engine.close()
    return Measure(
        "engines.gpu.prefix_caching",
        "vLLM on refinement prompts, four samples each, prefix cache on against off",
        seconds[True][0],
        seconds[False][0],
        ">=1",
        unit="output tokens / s",
    )
