"""On a GPU: the transformers engine against padded `generate` with the shape of a 1.5B model, and vLLM's prefix cache
on refinement prompts.

The weights are random (no download): speed depends on the shape, and lengths are set by the workload. Each part runs in a
process of its own, so that it starts with an empty GPU, and what breaks or takes too long is a row with the reason.
`python -m tests.bench --gpu --rehearse engines` runs the same code in a tiny shape, on a CPU too.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.bench_engines import workload
from tests.bench.frame import Measure, Skipped, in_turn, seconds_left
from tests.bench.model_shapes import QWEN2_1_5B, QWEN2_TINY


@dataclass(frozen=True)
class Shape:
    """How large it is.

    Args:
        model: of the Qwen2 configuration.
        requests: of the CPU benchmark's workload; answers are `longer` times as long, as of a real student.
        batch: rows of padded `generate`; ours takes four times as many at most.
        prompts: refinement prompts, four samples of `answer` tokens each.
        patience_s: seconds for a part, its start included.
    """

    model: dict[str, Any]
    requests: int
    longer: int
    batch: int
    repeats: int
    prompts: int
    answer: int
    patience_s: int


# Expected on an H200: about 25 s for ours and 80 s for `generate`, 40 s to start; vLLM: a start of 60 to 90 s.
REAL = Shape(
    QWEN2_1_5B | {"max_position_embeddings": 8192},
    requests=192,
    longer=2,
    batch=64,
    repeats=1,
    prompts=384,
    answer=128,
    patience_s=300,
)
REHEARSAL = Shape(
    QWEN2_TINY | {"max_position_embeddings": 4096, "dtype": "float32"},
    requests=12,
    longer=1,
    batch=2,
    repeats=1,
    prompts=4,
    answer=8,
    patience_s=900,  # a start of vLLM takes 40 CPU-seconds, of which a busy machine gives few a minute
)


def measures(rehearse: bool = False) -> Iterator[Measure | Skipped]:
    """Both comparisons; each needs a CUDA GPU, but for a rehearsal."""
    import torch

    from undo_hpc.engines.vllm_engine import is_installed

    ids = {"transformers": "engines.gpu.transformers", "vllm": "engines.gpu.prefix_caching"}
    if not (torch.cuda.device_count() or rehearse):
        yield from (Skipped(id_, "no CUDA GPU") for id_ in ids.values())
        return
    shape = REHEARSAL if rehearse else REAL
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "model", shape)
        for part, id_ in ids.items():
            if part == "vllm" and not is_installed():
                yield Skipped(id_, "vLLM is not installed (make gpu-wheels names it)")
                continue
            yield _alone(part, id_, Path(folder), rehearse)


def _alone(part: str, id_: str, folder: Path, rehearse: bool) -> Measure | Skipped:
    """One part in a process of its own."""
    shape = REHEARSAL if rehearse else REAL
    command = [sys.executable, "-m", "tests.bench.bench_gpu_engines", part, str(folder), str(int(rehearse))]
    result, log = folder / f"{part}.json", folder / f"{part}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
        try:
            patience = max(1.0, min(shape.patience_s, seconds_left()))
            code: int | str = process.wait(patience)
        except subprocess.TimeoutExpired:
            code = f"none after {patience:.0f} s"
        finally:
            _end_group(process)
    if result.exists():
        return Measure(**json.loads(result.read_text()))
    last = " | ".join(log.read_text(errors="replace").splitlines()[-6:])
    return Skipped(id_, f"it broke (exit code {code}): {last[-600:]}", broke=True)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a part with all that it has started: vLLM's engine would keep the GPU."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def build(path: Path, shape: Shape) -> Path:
    """Random weights in that shape, with a small real tokenizer. Made on the CPU: this process leaves the GPU alone."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from tests.engines.conftest import build_tokenizer

    tokenizer: Any = build_tokenizer()
    config = Qwen2Config(**shape.model, eos_token_id=2, pad_token_id=0, bos_token_id=None)
    torch.set_default_dtype(getattr(torch, shape.model["dtype"]))
    try:
        with torch.device("meta"):
            model = Qwen2ForCausalLM(config)
        weights = model.state_dict()
        generator = torch.Generator().manual_seed(0)
        for name, weight in weights.items():
            noise = (
                torch.randn(weight.shape, generator=generator) * 0.02
                if weight.dim() > 1
                else torch.ones(weight.shape)
            )
            weights[name] = noise.to(weight.dtype)
        weights.pop("lm_head.weight")  # tied
    finally:
        torch.set_default_dtype(torch.float32)
    from safetensors.torch import save_file

    path.mkdir(parents=True)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    config.architectures = ["Qwen2ForCausalLM"]
    config.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def wall_seconds(work: Callable[[], object]) -> float:
    """Wall time of a call, the GPU's queue emptied before and after."""
    import torch

    def synchronize() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    synchronize()
    began = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - began


def transformers_against_padded(path: Path, shape: Shape) -> Measure:
    """As on the CPU: the same requests, in file order and padded, each row ending at its own length."""
    from tests.bench.padded_generate import PaddedGenerate
    from undo_hpc.config.schema import EngineConfig, ModelConfig, TransformersEngineConfig
    from undo_hpc.engines import Request
    from undo_hpc.engines.transformers_engine import TransformersEngine

    asked = workload()[: shape.requests]
    requests = [Request(r.id, r.prompt, r.seed, r.temperature, r.max_tokens * shape.longer) for r in asked]
    part = TransformersEngineConfig(max_batch=4 * shape.batch, batch_tokens=10**6)
    dtype = shape.model["dtype"]
    engine = TransformersEngine(EngineConfig(transformers=part), ModelConfig(model=str(path), dtype=dtype))
    engine._chat.stop_ids = frozenset()  # lengths are the workload's
    device = engine._device
    padded = PaddedGenerate(path, shape.batch, dtype, device)

    def ours(asked: list[Request] = requests) -> None:
        written = sum(c.completion_tokens for c in engine.generate(asked))
        assert written == sum(r.max_tokens for r in asked)

    few = [Request(r.id, r.prompt, r.seed, 1.0, 8) for r in requests]
    ours(few)  # kernels and memory are warmed up for both
    padded(few[: shape.batch])
    ours_s, padded_s = in_turn(
        lambda: wall_seconds(ours), lambda: wall_seconds(lambda: padded(requests)), repeats=shape.repeats
    )
    engine.close()
    tokens = sum(r.max_tokens for r in requests)
    return Measure(
        "engines.gpu.transformers",
        "transformers engine against padded `generate` in file order, 1.5B shape",
        tokens / ours_s,
        tokens / padded_s,
        ">=3",
        unit="output tokens / s",
        note=f"at most {4 * shape.batch} rows and batches of {shape.batch}; {device.type}",
    )


def prefix_caching(path: Path, shape: Shape) -> Measure:
    """Four samples of each refinement prompt through vLLM, its prefix cache emptied before each turn, against the same
    requests told not to read it. One start serves both: on an H200 a start costs more than the work.
    """
    from undo_hpc.config.schema import EngineConfig, ModelConfig, VllmEngineConfig
    from undo_hpc.engines import Request
    from undo_hpc.engines.vllm_engine import VllmEngine
    from undo_hpc.prompts import load_prompts

    prompts = load_prompts("default")
    texts = [
        prompts.refine(r.prompt, f"{r.prompt} so {r.seed}. " * 4, f"{r.seed} and {r.prompt}", "wrong")
        for r in workload()[: shape.prompts]
    ]
    requests = [
        Request(f"{i}-{k}", text, 7 * i + k, 1.0, shape.answer)
        for i, text in enumerate(texts)
        for k in range(4)
    ]
    part = VllmEngineConfig(max_model_len=4096, max_num_seqs=512, gpu_memory_utilization=0.6)
    engine = VllmEngine(
        EngineConfig(name="vllm", vllm=part), ModelConfig(model=str(path), dtype=shape.model["dtype"])
    )
    list(engine.generate([Request("warm", "warm", 0, 1.0, 8)]))

    reading, blind = (
        engine._sampling_params,
        functools.partial(engine._sampling_params, skip_reading_prefix_cache=True),
    )

    def speed(params: Any) -> float:
        engine._sampling_params = params
        engine._llm.llm_engine.reset_prefix_cache()
        began = time.perf_counter()
        written = sum(c.completion_tokens for c in engine.generate(requests))
        return written / (time.perf_counter() - began)

    on, off = in_turn(lambda: speed(reading), lambda: speed(blind), repeats=3 if shape is REAL else 1)
    engine.close()
    return Measure(
        "engines.gpu.prefix_caching",
        "vLLM on refinement prompts, four samples each, prefix cache on against off",
        on,
        off,
        ">=1",
        unit="output tokens / s",
    )


def main(part: str, folder: str, rehearse: str) -> None:
    """A part, in its process."""
    work = {"transformers": transformers_against_padded, "vllm": prefix_caching}[part]
    measure = work(Path(folder) / "model", REHEARSAL if rehearse == "1" else REAL)
    (Path(folder) / f"{part}.json").write_text(json.dumps(asdict(measure)))


if __name__ == "__main__":
    main(*sys.argv[1:])
