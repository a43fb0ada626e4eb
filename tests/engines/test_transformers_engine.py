"""The transformers engine's own promises: bitwise independence of the batch, out-of-memory, poison, static batches."""

from __future__ import annotations

import gc
import hashlib
import random
import weakref
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from undo_hpc.config.schema import EngineConfig, ModelConfig, TransformersEngineConfig
from undo_hpc.engines import Request, continuous_batching, load_engine
from undo_hpc.engines.chat import Chat
from undo_hpc.engines.continuous_batching import ContinuousBatchDecoder, rounded
from undo_hpc.engines.decoding import Work
from undo_hpc.engines.slot_cache import SlotModel, why_unsupported
from undo_hpc.engines.transformers_engine import TransformersEngine
from undo_hpc.errors import ConfigError, DataError, EngineError


def engine(path: Path, retries: int = 2, **settings: Any) -> TransformersEngine:
    part = TransformersEngineConfig(**{"threads": 1, "batch_tokens": 4096, **settings})
    config = EngineConfig(transformers=part, request_retries=retries)
    loaded = load_engine(config, ModelConfig(model=str(path)))
    assert isinstance(loaded, TransformersEngine)
    return loaded


def mixture(count: int, seed: int = 0) -> list[Request]:
    """Requests of all lengths and settings."""
    rng = random.Random(seed)
    return [
        Request(
            f"r{i}",
            " ".join(str(rng.randrange(1000)) for _ in range(rng.randrange(1, 30))),
            rng.randrange(2**40),
            rng.choice([0.0, 0.7, 1.0, 1.3]),
            rng.choice([5, 20, 60]),
            top_p=rng.choice([1.0, 0.9]),
            top_k=rng.choice([0, 20]),
        )
        for i in range(count)
    ]


class Watched:
    """Digests of the logits that each request's tokens were drawn from."""

    def __init__(self) -> None:
        self._digests: dict[str, Any] = defaultdict(hashlib.sha256)
        self.logits: torch.Tensor | None = None

    def add(self, request: str, logits: torch.Tensor) -> None:
        self._digests[request].update(logits.numpy().tobytes())

    def take(self) -> dict[str, str]:
        found = {request: digest.hexdigest() for request, digest in self._digests.items()}
        self._digests.clear()
        return found


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Looks at the logits of every step from outside."""
    watch, step, decode = Watched(), SlotModel.step, ContinuousBatchDecoder._step

    def seen_step(self: SlotModel, *arguments: Any) -> torch.Tensor:
        watch.logits = step(self, *arguments)
        return watch.logits

    def seen_decode(self: ContinuousBatchDecoder) -> Any:
        works = list(self._works)
        finished = decode(self)
        assert watch.logits is not None
        for row, work in enumerate(works):
            if work is not None:
                watch.add(work.request.id, watch.logits[row])
        return finished

    monkeypatch.setattr(SlotModel, "step", seen_step)
    monkeypatch.setattr(ContinuousBatchDecoder, "_step", seen_decode)
    yield watch


@pytest.mark.parametrize("max_batch", [16, 7])
def test_batch_invariance_is_bitwise(tiny_model: Path, watched: Watched, max_batch: int) -> None:
    """Neighbours, their number, the order, and how often the engine was used before: not a bit of any logit changes."""
    tested, requests, rng = (
        engine(tiny_model, batch_invariant=True, max_batch=max_batch),
        mixture(300),
        random.Random(1),
    )
    reference = {c.id: c for c in tested.generate(requests)}
    bits = watched.take()
    assert len(bits) == len(requests)
    for count in (300, 120, max_batch + 1, max_batch - 1, 3, 1, 1, 1):
        subset = rng.sample(requests, count)
        assert {c.id: c for c in tested.generate(subset)} == {r.id: reference[r.id] for r in subset}
        assert watched.take() == {r.id: bits[r.id] for r in subset}
    again = engine(tiny_model, batch_invariant=True, max_batch=max_batch)
    assert {c.id: c for c in again.generate(requests[:40])} == {r.id: reference[r.id] for r in requests[:40]}


def test_the_watch_would_see_a_dependence(tiny_model: Path, watched: Watched) -> None:
    """Without invariance the bits do change, so the test above can fail."""
    tested, requests = engine(tiny_model, max_batch=16), mixture(60)
    list(tested.generate(requests))
    bits = watched.take()
    list(tested.generate(requests[:5]))
    assert watched.take() != {r.id: bits[r.id] for r in requests[:5]}


def test_draws_depend_on_the_requests_own_seed_in_every_mode(tiny_model: Path) -> None:
    """Texts are equal in continuous, invariant and static batches: the draw is the same function of the same seed."""
    requests = mixture(60, seed=5)
    padded = engine(tiny_model, max_batch=8)
    padded._static_reason = "asked for by a test"
    texts = [
        {c.id: c.text for c in tested.generate(requests)}
        for tested in (engine(tiny_model), engine(tiny_model, batch_invariant=True), padded)
    ]
    for other in texts[1:]:  # a draw may fall between two roundings, once in a while
        assert sum(texts[0][i] != other[i] for i in other) <= 1


def test_the_distribution_of_draws_is_the_models(tiny_model: Path) -> None:
    """First tokens of 3,000 seeds against the softmax of a plain forward pass, with temperature and top-p."""
    tested = engine(tiny_model, max_batch=64)
    prompt = "How many cakes?"
    ids = tested._chat.encode(prompt)
    with torch.inference_mode():
        probability = (tested._model(torch.tensor([ids])).logits[0, -1] / 1.5).softmax(-1).double()
    order = probability.argsort(descending=True)
    nucleus = order[: int((probability[order].cumsum(0) < 0.6).sum()) + 1]
    expected = torch.zeros_like(probability)
    expected[nucleus] = probability[nucleus] / probability[nucleus].sum()
    count, seen = 3000, torch.zeros(len(expected))
    from undo_hpc.engines import sampling

    uniform = torch.stack([sampling.uniforms(seed, 1) for seed in range(count)])[:, 0]
    logits = (probability.log() * 1.5).float().expand(count, -1)
    drawn = sampling.draw(
        logits,
        uniform,
        torch.full((count,), 1.5),
        torch.full((count,), 0.6),
        torch.zeros(count, dtype=torch.long),
    )
    seen = torch.bincount(drawn, minlength=len(expected)).double() / count
    assert set(drawn.tolist()) <= set(nucleus.tolist())
    assert float((seen - expected).abs().max()) < 0.04  # four standard errors of the likeliest token


def test_out_of_memory_halves_the_batch_and_loses_nothing(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested, requests = engine(tiny_model, max_batch=16), mixture(40)
    expected = {c.id: c.text for c in tested.generate(requests)}
    step, rows_seen = SlotModel.step, []

    def small_memory(self: SlotModel, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows_seen.append(len(tokens))
        if len(tokens) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, tokens, *rest)

    monkeypatch.setattr(SlotModel, "step", small_memory)
    found = {c.id: c.text for c in tested.generate(requests)}
    assert sum(found[i] != expected[i] for i in expected) <= 1
    assert found.keys() == expected.keys()
    failed_with = [n for n in rows_seen if n > 5]
    assert failed_with[1:] == [failed_with[0] // 2]


def test_one_request_that_never_fits_is_given_up_alone(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested, step = engine(tiny_model, max_batch=4), SlotModel.fill

    def no_memory_for_long_ones(self: SlotModel, prompts: torch.Tensor, rows: torch.Tensor) -> None:
        if prompts.shape[1] > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(self, prompts, rows)

    monkeypatch.setattr(SlotModel, "fill", no_memory_for_long_ones)
    requests = [
        Request("big", "7 " * 110, 0, 1.0, 8),
        *(Request(f"r{i}", "7 8 9", i, 1.0, 8) for i in range(9)),
    ]
    found = {c.id: c for c in tested.generate(requests)}
    assert found["big"].finish_reason == "error" and "out of memory" in found["big"].error
    assert all(found[r.id].error == "" for r in requests[1:])


@pytest.mark.parametrize("padded", [False, True])
def test_a_poison_request_is_a_recorded_failure_after_its_tries(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, padded: bool, retries: int = 3
) -> None:
    tested = engine(tiny_model, retries=retries, max_batch=8)
    tested._static_reason = "asked for by a test" if padded else ""
    encode, tries = tested._chat.encode, []

    def poisoned(prompt: str) -> list[int]:
        return (
            [*encode(prompt), 10**6] if prompt == "poison" else encode(prompt)
        )  # a token outside of the vocabulary

    forward = tested._model.forward

    def counted(*arguments: Any, **named: Any) -> Any:
        ids = named["input_ids"]
        if int(ids.max()) == 10**6:
            tries.append(len(ids))
        return forward(*arguments, **named)

    monkeypatch.setattr(tested._chat, "encode", poisoned)
    monkeypatch.setattr(tested._model, "forward", counted)
    requests = [
        *(Request(f"r{i}", "7 8 9", i, 1.0, 8) for i in range(12)),
        Request("bad", "poison", 0, 1.0, 8),
    ]
    found = {c.id: c for c in tested.generate(requests)}
    assert found["bad"].finish_reason == "error" and "IndexError" in found["bad"].error
    assert all(found[r.id].error == "" for r in requests[:-1])
    assert len(tries) == 1 + retries, "once among others, then alone"


def test_an_engine_that_fails_on_everything_is_an_error_and_not_a_shard_of_failures(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = engine(tiny_model, max_batch=4)

    def broken(*_: Any) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(SlotModel, "step", broken)
    found = []
    with pytest.raises(EngineError, match="device-side assert"):
        for completion in tested.generate(mixture(100)):
            found.append(completion)
    assert not found, "no request is blamed for what the engine has done"


def test_a_model_without_full_attention_runs_in_static_batches_and_cannot_be_invariant(
    tmp_path: Path,
) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    from tests.engines.conftest import build_tokenizer

    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,  # type: ignore[arg-type]
        num_key_value_heads=1,
        sliding_window=8,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    MistralForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    tested = engine(tmp_path)
    assert tested.describe()["decoder"].startswith("static batching (")
    requests = [Request(f"r{i}", "7 8 " * i, i, 1.0, 12) for i in range(5)]
    assert all(c.error == "" and c.completion_tokens for c in tested.generate(requests))
    with pytest.raises(ConfigError, match="batch_invariant cannot be kept"):
        engine(tmp_path, batch_invariant=True)


@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Phi", "GPT2", "Gemma", "Bloom"])
def test_slots_are_used_only_where_they_give_the_models_own_logits(family: str) -> None:
    import transformers

    torch.manual_seed(0)
    sizes = {
        "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
        "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    }.get(
        family,
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
        },
    )
    extra = {"head_dim": 16} if family in ("Qwen3", "Gemma") else {}
    config = getattr(transformers, f"{family}Config")(vocab_size=99, pad_token_id=0, **sizes, **extra)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert bool(why_unsupported(model)) == (family == "Bloom")  # Bloom reads positions off the mask


def test_no_gpu_where_one_is_asked_for_is_a_configuration_error(tiny_model: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="sees no GPU"):
        engine(tiny_model, device="cuda")


def test_a_broken_model_directory_is_a_data_error(tiny_model: Path, tmp_path: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(DataError, match="cannot be loaded"):
        engine(tmp_path)


@pytest.mark.parametrize("per_octave", [1, 4, 8])
def test_rounded_lengths_are_few_and_never_short(per_octave: int) -> None:
    sizes = [rounded(n, per_octave, least=16) for n in range(1, 5000)]
    assert all(size >= n for n, size in enumerate(sizes, 1))
    assert all(size <= max(16, n * (1 + 1 / per_octave)) for n, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) <= per_octave * 9 + 1


def test_the_module_draws_with_the_function_under_test() -> None:
    from undo_hpc.engines.sampling import draw

    assert continuous_batching.draw is draw


@pytest.mark.parametrize("invariant", [False, True])
def test_slots_ask_the_device_once_a_step_and_never_mix_it_with_the_host(
    tiny_model: Path, invariant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's `meta` device, for want of a GPU: arithmetic on tensors of two devices raises there, as does
    any question for a value but the one that reads a step's tokens.
    """
    from transformers import AutoModelForCausalLM

    asked, of_the_host = [], torch.Tensor.tolist

    def tolist(tensor: torch.Tensor) -> list[int]:
        if not tensor.is_meta:
            return of_the_host(tensor)  # type: ignore[no-any-return]
        asked.append(tuple(tensor.shape))
        return [7] * tensor.shape[0]

    monkeypatch.setattr(torch.Tensor, "tolist", tolist)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).to("meta")
    chat = Chat(ModelConfig(model=str(tiny_model)))
    decoder = ContinuousBatchDecoder(model, chat, rows=4, length=64, invariant=invariant)
    works = [
        Work(Request(f"r{i}", "", i, float(i % 2), 9), list(range(3, 8 + 3 * i)), 8 + i) for i in range(7)
    ]
    queue, steps, done = deque(works), 0, []
    while queue or decoder.active:
        done += decoder.advance(queue)
        steps += 1
    assert sorted(c.id for c in done) == [w.request.id for w in works] and len(asked) == steps


def test_the_memory_of_a_decoder_is_free_as_soon_as_it_is_dropped(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    decoder = ContinuousBatchDecoder(
        model, Chat(ModelConfig(model=str(tiny_model))), rows=2, length=32, invariant=False
    )
    decoder.advance(deque([Work(Request("r", "", 0, 1.0, 9), [3, 4, 5], 8)]))
    keys = weakref.ref(decoder._slots.cache._slot_layers[0].keys)
    gc.disable()
    try:
        del decoder
        assert keys() is None, "the next bucket's cache would have to share the GPU with it"
    finally:
        gc.enable()


def test_on_a_gpu_lanes_are_merged_while_rows_are_left(tiny_model: Path) -> None:
    part = TransformersEngineConfig(threads=1, max_batch=8, batch_tokens=1024)
    engine = TransformersEngine(EngineConfig(transformers=part), ModelConfig(model=str(tiny_model)))
    works = [
        Work(Request(f"r{i}", "", i, 1.0, 9), [3] * 4, total - 4)
        for i, total in enumerate((60, 250, 120, 100, 30))
    ]
    buckets = {64: [works[0], works[4]], 128: [works[2], works[3]], 256: [works[1]]}
    totals = [[work.total for work in bucket] for _, bucket in engine._merged(buckets)]
    assert totals == [[250], [120, 100], [60, 30]]
    engine._device = torch.device("cuda")
    totals = [[work.total for work in bucket] for _, bucket in engine._merged(buckets)]
    assert totals == [[250, 120, 100, 60, 30]], (
        "four rows of 256 fit; three were taken when the shortest came"
    )
    engine._device = torch.device("cpu")
    engine.close()
    engine.close()
