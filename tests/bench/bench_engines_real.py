"""Generation at a real shape (SmolLM2-135M, random weights): prompts and answers as long as real ones.

The transformers engine against padded `generate` and against transformers' own continuous batching; vLLM's CPU build through us against
`LLM.chat`; and what prefix sharing spares on refinement prompts, in tokens computed. CPU seconds of all threads, one thread at work, each
contestant in a process of its own.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench import model_shapes
from tests.bench.bench_engines import cpu_seconds
from tests.bench.frame import Measure, Skipped, told_by
from tests.bench.rationale_lengths import PAIRS, PROMPT_EXTRA

REQUESTS, ROWS = 16, 8
HALVED = 2  # answers are half as long as real ones, spread alike: all fit into eight minutes
SHORT = 48  # most tokens of an answer beside continuous batching, which is slow on a CPU
PROBLEMS, SAMPLES, SAMPLE_TOKENS = 4, 4, 32
PATIENCE_S = 420


def measures() -> Iterator[Measure | Skipped]:
    """Our engine first, then each rival; a row as soon as its two have run, and one that breaks is a row with the reason."""
    longest = max(answer for _, answer in PAIRS[:REQUESTS]) // HALVED
    note = (
        f"SmolLM2-135M shape, fp32, {REQUESTS} requests with prompts of real lengths and answers half as long as real ones "
        f"(longest {longest}), one thread"
    )
    padded = f"transformers engine against padded `generate`, {ROWS} rows in file order"
    continuous = (
        f"transformers engine against transformers' continuous batching, answers of at most {SHORT} tokens"
    )
    with tempfile.TemporaryDirectory() as folder:
        model = build(Path(folder) / "model")
        yield _against("P15a", padded, ">=2", _alone("ours", model), _alone("padded", model), note)
        short = [_alone(name, model) for name in ("ours_short", "continuous")]
        yield _against("P15b", continuous, ">=1", *short, note)
        yield _vllm(_alone("vllm_ours", model), _alone("vllm_chat", model))
        yield _shared("P15d", "transformers", _alone("shared", model))
        yield _shared("P15e", "vLLM", _alone("vllm_shared", model))


def _against(
    id_: str, what: str, goal: str, ours: dict[str, Any], other: dict[str, Any], note: str
) -> Measure | Skipped:
    for one in (ours, other):
        if "failed" in one:
            return Skipped(id_, f"{what}: {one['failed']}", broke=not one.get("missing"))
    rates = [one["written"] / one["cpu_s"] for one in (ours, other)]
    return Measure(id_, what, round(rates[0], 1), round(rates[1], 1), goal, "output tokens / CPU-s", note)


def _vllm(ours: dict[str, Any], other: dict[str, Any]) -> Measure | Skipped:
    what = "CPU-seconds of our vLLM path over `LLM.chat`, the same requests"
    for one in (ours, other):
        if "failed" in one:
            return Skipped("P15c", f"{what}: {one['failed']}", broke=not one.get("missing"))
    note = f"SmolLM2-135M shape, fp32; {ours['written'] / ours['cpu_s']:.0f} output tokens / CPU-s"
    return Measure("P15c", what, ours["cpu_s"], other["cpu_s"], "<=1.03", "CPU-s", note)


def _shared(id_: str, engine: str, one: dict[str, Any]) -> Measure | Skipped:
    """Prompt tokens that were computed, over prompt tokens asked: 1 / samples where each prompt is computed once."""
    what = (
        f"{engine} engine, refinement prompts with {SAMPLES} samples each: prompt tokens computed over asked"
    )
    if "failed" in one:
        return Skipped(id_, f"{what}: {one['failed']}", broke=not one.get("missing"))
    each = one["asked"] / PROBLEMS / SAMPLES
    note = f"{PROBLEMS} problems; {each:.0f} tokens a prompt, padding counts; {one['cpu_s']:.1f} CPU-s"
    return Measure(id_, what, one["computed"], one["asked"], "<=0.5", "tokens", note)


def build(path: Path) -> Path:
    """The model. Its last norm is scaled so that logits spread as a trained model's do (some 4): flat ones make sampling another job."""
    from safetensors.torch import load_file, save_file

    from tests.engines.conftest import build_tokenizer

    model_shapes.build(path, model_shapes.SMOLLM2_135M, build_tokenizer())
    weights = load_file(path / "model.safetensors")
    weights["model.norm.weight"] *= 8
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


def requests(longest: int = 10**6) -> list[Any]:
    """Requests in the order of the file: prompts of digits, which are a token each, and answers of a set length.

    Args:
        longest: most tokens of an answer.
    """
    from undo_hpc.engines import Request

    return [
        Request(f"r{i}", _digits(prompt + PROMPT_EXTRA, i), i, 1.0, min(answer // HALVED, longest))
        for i, (prompt, answer) in enumerate(PAIRS[:REQUESTS])
    ]


def refinements() -> list[Any]:
    """Samples of prompts that show a problem, its last rationale and the student's attempt."""
    from undo_hpc.engines import Request

    found = []
    for i, (prompt, answer) in enumerate(PAIRS[:PROBLEMS]):
        text = _digits(prompt + 2 * answer + PROMPT_EXTRA, i)
        found += [Request(f"r{i}-{k}", text, 7 * i + k, 1.0, SAMPLE_TOKENS) for k in range(SAMPLES)]
    return found


def _digits(count: int, seed: int) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice("123456789") for _ in range(count))


def _engine(model: Path, name: str) -> Any:
    from undo_hpc.config.schema import EngineConfig, ModelConfig, TransformersEngineConfig, VllmEngineConfig
    from undo_hpc.engines import load_engine

    parts = {
        "transformers": TransformersEngineConfig(threads=1, max_batch=ROWS, batch_tokens=10**6),
        "vllm": VllmEngineConfig(max_num_seqs=ROWS, max_model_len=4096),
    }
    engine: Any = load_engine(
        EngineConfig(name=name, **{name: parts[name]}), ModelConfig(model=str(model), dtype="float32")
    )
    engine._chat.stop_ids = frozenset()  # lengths are the workload's
    return engine


def _told(work: Callable[[], int]) -> dict[str, Any]:
    written: list[int] = []
    return {"cpu_s": cpu_seconds(lambda: written.append(work())), "written": written[0]}


def ours(model: Path, name: str = "transformers", longest: int = 10**6) -> dict[str, Any]:
    """An engine of ours."""
    engine, asked = _engine(model, name), requests(longest)
    told = _told(lambda: sum(c.completion_tokens for c in engine.generate(asked)))
    assert told["written"] == sum(r.max_tokens for r in asked)
    engine.close()
    return told


def shared(model: Path) -> dict[str, Any]:
    """Refinement prompts with several samples each; the prompt tokens that the model was given are counted at its door."""
    from undo_hpc.engines.slot_cache import SlotModel

    engine, computed, fill = _engine(model, "transformers"), [0], SlotModel.fill

    def counted(self: SlotModel, prompts: Any, rows: Any) -> None:
        computed[0] += prompts.numel()
        fill(self, prompts, rows)

    SlotModel.fill = counted  # type: ignore[method-assign]
    asked = [0]

    def work() -> int:
        done = list(engine.generate(refinements()))
        asked[0] = sum(c.prompt_tokens for c in done)
        return sum(c.completion_tokens for c in done)

    return _told(work) | {"computed": computed[0], "asked": asked[0]}


def padded(model: Path) -> dict[str, Any]:
    """The rival that pads its batches."""
    from tests.bench.padded_generate import PaddedGenerate

    generate, asked = PaddedGenerate(model, ROWS), requests()

    def work() -> int:
        generate(asked)
        return sum(r.max_tokens for r in asked)

    return _told(work)


def continuous(model: Path) -> dict[str, Any]:
    """transformers' continuous batching, each request with its own length, in the order of the file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig

    asked = requests(SHORT)
    tokenizer = AutoTokenizer.from_pretrained(model)
    net: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    settings = GenerationConfig(do_sample=True, top_k=0, eos_token_id=-1, pad_token_id=0, max_new_tokens=2048)
    batching = ContinuousBatchingConfig(
        num_blocks=64, max_batch_tokens=2048, max_requests_per_batch=ROWS, use_async_batching=False, seed=0
    )

    def work() -> int:
        written = finished = 0
        with net.continuous_batching_context_manager(
            generation_config=settings, continuous_batching_config=batching, warmup=False
        ) as manager:
            for r in asked:
                chat = [{"role": "user", "content": r.prompt}]
                ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
                manager.add_request(ids, request_id=r.id, max_new_tokens=r.max_tokens)
            while finished < REQUESTS:
                result = manager.get_result(timeout=1)
                if result is None:
                    assert manager.is_running(), "its thread has ended"
                elif result.is_finished():
                    assert result.error is None, result.error
                    finished, written = finished + 1, written + len(result.generated_tokens)
        return written

    told = _told(work)
    assert told["written"] == sum(r.max_tokens for r in asked), told
    return told


def vllm_chat(model: Path) -> dict[str, Any]:
    """The same requests in one call of `LLM.chat`, with the engine that ours starts."""
    engine = _engine(model, "vllm")
    chats = [[{"role": "user", "content": r.prompt}] for r in requests()]

    def work() -> int:
        params = [
            engine._sampling_params(temperature=1.0, seed=r.seed, max_tokens=r.max_tokens, ignore_eos=True)
            for r in requests()
        ]
        outputs = engine._llm.chat(chats, params, use_tqdm=False)
        return sum(len(o.outputs[0].token_ids) for o in outputs)

    told = _told(work)
    engine.close()
    return told


def vllm_shared(model: Path) -> dict[str, Any]:
    """Refinement prompts through vLLM: what its own outputs say was cached."""
    engine = _engine(model, "vllm")
    told: dict[str, Any] = {"asked": 0, "cached": 0}
    completion = engine._completion

    def counted(request: Any, output: Any) -> Any:
        told["asked"] += len(output.prompt_token_ids)
        told["cached"] += output.num_cached_tokens or 0
        return completion(request, output)

    engine._completion = counted
    told |= _told(lambda: sum(c.completion_tokens for c in engine.generate(refinements())))
    engine.close()
    return told | {"computed": told["asked"] - told["cached"]}


CONTESTANTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ours": ours,
    "padded": padded,
    "ours_short": lambda model: ours(model, longest=SHORT),
    "continuous": continuous,
    "shared": shared,
    "vllm_ours": lambda model: ours(model, "vllm"),
    "vllm_chat": vllm_chat,
    "vllm_shared": vllm_shared,
}


def _alone(name: str, model: Path) -> dict[str, Any]:
    """A contestant's figures; why there are none, under `failed`."""
    from undo_hpc.engines.vllm_engine import is_installed

    if name.startswith("vllm") and not is_installed():
        return {"failed": "vLLM is not installed", "missing": True}
    variables = {"OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    return told_by("tests.bench.bench_engines_real", name, str(model), patience_s=PATIENCE_S, env=variables)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    print(json.dumps(CONTESTANTS[sys.argv[1]](Path(sys.argv[2]))))
