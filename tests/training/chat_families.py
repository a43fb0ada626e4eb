"""Tokenizers and chat templates in the manner of the families that students come from, small enough to be made in a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.training import tiny_student

_CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_TURNS = "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"


@dataclass(frozen=True)
class Family:
    """A chat format: its template, its special tokens, and what an answer is closed with.

    Attributes:
        sentencepiece: whether the tokenizer marks words with a leading space, and puts one before a text.
        begins: what the template writes between the prompt and the answer's first word.
    """

    template: str
    special: tuple[str, ...]
    eos: str
    end: str
    bos: str | None = None
    sentencepiece: bool = False
    begins: str = ""
    template_kwargs: dict[str, Any] = field(default_factory=dict)


_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FAMILIES = {
    "qwen2.5, base tokenizer": Family(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
        + _CHATML
        + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        _IM,
        eos="<|endoftext|>",
        end="<|im_end|>",
    ),
    "qwen3, thinking": Family(
        _THINKING, _IM, eos="<|im_end|>", end="<|im_end|>", begins="<think>\n\n</think>\n\n"
    ),
    "qwen3, not thinking": Family(
        _THINKING, _IM, eos="<|im_end|>", end="<|im_end|>", template_kwargs={"enable_thinking": False}
    ),
    "llama 3": Family(
        "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday: {{ strftime_now('%d %b %Y') }}<|eot_id|>"
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        eos="<|eot_id|>",
        end="<|eot_id|>",
        bos="<|begin_of_text|>",
    ),
    "gemma": Family(
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + _TURNS
        + "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        eos="<eos>",
        end="<end_of_turn>",
        bos="<bos>",
        sentencepiece=True,
    ),
    "mistral": Family(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
        ("<s>", "</s>"),
        eos="</s>",
        end="</s>",
        bos="<s>",
        sentencepiece=True,
        begins=" ",
    ),
    "phi 3": Family(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"),
        eos="<|endoftext|>",
        end="<|end|>",
        sentencepiece=True,
    ),
}


def make_tokenizer(family: Family) -> Any:
    """A BPE tokenizer with the family's special tokens, byte-level or in SentencePiece's manner."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    if family.sentencepiece:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Metaspace(prepend_scheme="first")
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    alphabet = [] if family.sentencepiece else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    every_character = "".join(chr(c) for c in range(32, 127)) + "\n"
    corpus = [f"{r['problem']}\n{r['teacher_solution']}" for r in tiny_student.rows(60, seed=9)]
    backend.train_from_iterator([*corpus, *(f"{c}{c}" for c in every_character)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=family.eos, bos_token=family.bos)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [t for t in family.special if t not in (family.eos, family.bos)]}
    )
    tokenizer.chat_template = family.template
    return tokenizer
