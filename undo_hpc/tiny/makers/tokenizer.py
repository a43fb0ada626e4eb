"""The tiny models' tokenizer: a byte-level BPE in the form that `model_type: qwen2` demands.

AutoTokenizer puts Qwen2Tokenizer in the place of whatever a directory with that model type holds, with its own normaliser and
pre-tokeniser (digits one by one). So the merges are learnt under exactly these, and `check_round_trip` proves that nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from undo_hpc.errors import DataError

PAD, END, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], merges: int) -> Any:
    """A Qwen2Tokenizer with all 256 bytes and at most `merges` merges learnt from `texts`."""
    from tokenizers import Tokenizer, trainers
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    empty = Qwen2Tokenizer().backend_tokenizer
    learner = Tokenizer(BPE())
    learner.normalizer, learner.pre_tokenizer = empty.normalizer, empty.pre_tokenizer
    alphabet = sorted(ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False, min_frequency=20
    )
    learner.train_from_iterator(texts, trainer)
    model: dict[str, Any] = json.loads(learner.to_str())["model"]
    merges_learnt: list[Any] = [
        tuple(pair) for pair in model["merges"]
    ]  # the annotation of Qwen2Tokenizer says str; it needs pairs
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=merges_learnt,
        unk_token=PAD,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        model_max_length=2048,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def check_round_trip(tokenizer: Any, texts: Iterable[str]) -> None:
    """Raises DataError where decoding the ids of a text does not give it back."""
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if tokenizer.decode(ids, clean_up_tokenization_spaces=False) != text:
            raise DataError(
                f"the tokenizer loses text: {text!r} -> {tokenizer.decode(ids)!r}",
                hint="`model_type: qwen2` forces Qwen2Tokenizer; train the merges under its pre-tokeniser",
            )
