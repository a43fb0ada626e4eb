"""A random tiny model with a real byte-level BPE tokenizer, made once per session: any engine can load it."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    raw.train_from_iterator(["Ann has 17 cakes and buys 7 more. How many cakes has she now? \\boxed{24}. user assistant"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE, model_max_length=CONTEXT)


def build_model(directory: Path, *, seed: int = 0, eos_bias: float = 0.0) -> Path:
    """A random Qwen2 with two layers. Large weights, so that the draws are not all alike; heads of 32, as vLLM needs on a CPU."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,  # type: ignore[arg-type]
        num_key_value_heads=1, max_position_embeddings=CONTEXT, initializer_range=0.3, tie_word_embeddings=False,
        eos_token_id=2, pad_token_id=0, bos_token_id=None)
    model = Qwen2ForCausalLM(config).eval()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)  # type: ignore[attr-defined]
    return directory


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete random model directory."""
    import torch

    torch.set_num_threads(1)
    return build_model(tmp_path_factory.mktemp("models") / "random")
