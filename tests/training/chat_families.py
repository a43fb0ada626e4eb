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
        begins: what is learned between the prompt and an answer without reasoning.
        reasoning: what is learned of a rationale with reasoning R and answer A, up to the end of turn; or why it is not.
        composed: whether that text is put together without the template.
        gap: what stands between an answer and its end of turn.
        note: what the template does with reasoning, for the table of the documentation.
    """

    template: str
    special: tuple[str, ...]
    eos: str
    end: str
    bos: str | None = None
    sentencepiece: bool = False
    begins: str = ""
    reasoning: str = "<think>\n{R}\n</think>\n\n{A}"
    composed: bool = False
    gap: str = ""
    note: str = "writes the content as it is"
    template_kwargs: dict[str, Any] = field(default_factory=dict)


OFF = "it has reasoning, and the student's prompt turns thinking off"
_EMPTY = "<think>\n\n</think>\n\n"
_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_CHATML_PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_TURNS = "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
_LLAMA = "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
_LLAMA_TOKENS = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
_GEMMA_TOKENS = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
_R1_TOKENS = ("<|start|>", "<|stop|>", "<|User|>", "<|Assistant|>")
# Reasoning by a key of its own, or cut out of the content: what Qwen3 and its relatives do.
_TAKE_APART = (
    "{% set r = m.reasoning_content or '' %}{% set a = m.content %}"
    "{% if not r and '</think>' in a %}{% set r = a.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set a = a.split('</think>')[-1].lstrip('\n') %}{% endif %}"
)


def _qwen3(prompt_end: str, *, guard: str = "") -> str:
    """The last answer always gets a block. `guard`: the condition under which reasoning is cut out of the content."""
    apart = _TAKE_APART.replace("not r and '</think>' in a", guard) if guard else _TAKE_APART
    return (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        + apart
        + "<|im_start|>assistant\n{% if loop.last or r %}<think>\n{{ r }}\n</think>\n\n{% endif %}{{ a }}<|im_end|>\n"
        "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n" + prompt_end + "{% endif %}"
    )


_SWITCH = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"


def _r1(prompt_end: str, *, cut: bool = True) -> str:
    split = "{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}" if cut else ""
    return (
        "{{ bos_token }}{% for m in messages %}{% set c = m.content %}{% if m.role == 'system' %}{{ c }}"
        "{% elif m.role == 'user' %}<|User|>{{ c }}{% else %}"
        + split
        + "<|Assistant|>{{ c }}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|Assistant|>" + prompt_end + "{% endif %}"
    )


FAMILIES = {
    "Qwen2.5": Family(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
        + _CHATML
        + _CHATML_PROMPT,
        _IM,
        eos="<|endoftext|>",
        end="<|im_end|>",
    ),
    "Qwen3, thinking": Family(
        _qwen3(_SWITCH),
        _IM,
        eos="<|im_end|>",
        end="<|im_end|>",
        begins=_EMPTY,
        note="splits the content; puts an empty block before an answer without reasoning",
    ),
    "Qwen3, enable_thinking: false": Family(
        _qwen3(_SWITCH),
        _IM,
        eos="<|im_end|>",
        end="<|im_end|>",
        reasoning=OFF,
        template_kwargs={"enable_thinking": False},
        note="ends the prompt with an empty block",
    ),
    "Qwen3 Instruct 2507": Family(_CHATML + _CHATML_PROMPT, _IM, eos="<|im_end|>", end="<|im_end|>"),
    "Qwen3 Thinking 2507": Family(
        _qwen3("<think>\n"),
        _IM,
        eos="<|im_end|>",
        end="<|im_end|>",
        begins="\n</think>\n\n",
        reasoning="{R}\n</think>\n\n{A}",
        note="opens the block in the prompt",
    ),
    "Qwen3.5": Family(
        _qwen3("<think>\n", guard="not r and '<think>' in a and '</think>' in a"),
        _IM,
        eos="<|im_end|>",
        end="<|im_end|>",
        begins="\n</think>\n\n",
        reasoning="{R}\n</think>\n\n{A}",
        note="opens the block in the prompt; wraps a half block in another",
    ),
    "QwQ": Family(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
        _IM,
        eos="<|im_end|>",
        end="<|im_end|>",
        begins="\n</think>\n\n",
        reasoning="{R}\n</think>\n\n{A}",
        composed=True,
        note="opens the block in the prompt; cuts reasoning off",
    ),
    "R1 distill, January 2025": Family(
        _r1(""),
        _R1_TOKENS,
        eos="<|stop|>",
        end="<|stop|>",
        bos="<|start|>",
        composed=True,
        note="cuts reasoning off",
    ),
    "R1 distill, February 2025": Family(
        _r1("<think>\n"),
        _R1_TOKENS,
        eos="<|stop|>",
        end="<|stop|>",
        bos="<|start|>",
        begins="\n</think>\n\n",
        reasoning="{R}\n</think>\n\n{A}",
        composed=True,
        note="opens the block in the prompt; cuts reasoning off",
    ),
    "DeepSeek V3.1, thinking": Family(
        _r1("{{ '<think>' if thinking else '</think>' }}"),
        _R1_TOKENS,
        eos="<|stop|>",
        end="<|stop|>",
        bos="<|start|>",
        begins="\n</think>\n\n",
        reasoning="{R}\n</think>\n\n{A}",
        composed=True,
        template_kwargs={"thinking": True},
        note="opens the block in the prompt; cuts reasoning off",
    ),
    "DeepSeek V3.1, not thinking": Family(
        _r1("{{ '<think>' if thinking else '</think>' }}"),
        _R1_TOKENS,
        eos="<|stop|>",
        end="<|stop|>",
        bos="<|start|>",
        reasoning=OFF,
        note="ends the prompt with the closing mark",
    ),
    "Llama 3.1": Family(
        "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday: {{ strftime_now('%d %b %Y') }}<|eot_id|>"
        "{% for m in messages %}" + _LLAMA + "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        _LLAMA_TOKENS,
        eos="<|eot_id|>",
        end="<|eot_id|>",
        bos="<|begin_of_text|>",
        note="writes the content as it is; prints the date",
    ),
    "Llama Nemotron": Family(
        "{{ bos_token }}{% for m in messages %}{% set c = m.content %}{% if m.role == 'assistant' and '</think>' in c %}"
        "{% set c = c.split('</think>')[-1].lstrip() %}{% endif %}"
        + _LLAMA
        + "{{ c | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        _LLAMA_TOKENS,
        eos="<|eot_id|>",
        end="<|eot_id|>",
        bos="<|begin_of_text|>",
        composed=True,
        note="cuts reasoning off",
    ),
    "Nemotron Nano v2": Family(
        "{{ bos_token }}{% for m in messages %}<SPECIAL_10>{{ m.role | capitalize }}\n{{ m.content }}\n"
        "{% if m.role == 'assistant' %}<SPECIAL_12>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<SPECIAL_10>Assistant\n<think>\n{% endif %}",
        ("<s>", "<SPECIAL_10>", "<SPECIAL_12>"),
        eos="<SPECIAL_12>",
        end="<SPECIAL_12>",
        bos="<s>",
        gap="\n",
        begins="\n</think>\n\n",
        reasoning="{R}\n</think>\n\n{A}",
        note="opens the block in the prompt",
    ),
    "Gemma 2": Family(
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + _TURNS
        + "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        _GEMMA_TOKENS,
        eos="<eos>",
        end="<end_of_turn>",
        bos="<bos>",
        sentencepiece=True,
        note="writes the content as it is; refuses a system prompt",
    ),
    "Gemma 3": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
        "{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ first if loop.first }}"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        _GEMMA_TOKENS,
        eos="<eos>",
        end="<end_of_turn>",
        bos="<bos>",
        sentencepiece=True,
    ),
    "Mistral": Family(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
        ("<s>", "</s>"),
        eos="</s>",
        end="</s>",
        bos="<s>",
        sentencepiece=True,
        begins=" ",
        reasoning=" <think>\n{R}\n</think>\n\n{A}",
    ),
    "Magistral": Family(
        "{{ bos_token }}{% if messages[0].role != 'system' %}[SYSTEM_PROMPT]Draft in [THINK]...[/THINK].[/SYSTEM_PROMPT]{% endif %}"
        "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% elif m.role == 'system' %}"
        "[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
        ("<s>", "</s>", "[THINK]", "[/THINK]", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        eos="</s>",
        end="</s>",
        bos="<s>",
        reasoning="[THINK]{R}[/THINK]{A}",
        note="has marks of its own, which are special tokens",
    ),
    "Phi 3": Family(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"),
        eos="<|endoftext|>",
        end="<|end|>",
        sentencepiece=True,
    ),
    "Phi 4": Family(
        "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}",
        (*_IM, "<|im_sep|>"),
        eos="<|endoftext|>",
        end="<|im_end|>",
    ),
    "SmolLM2": Family(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are SmolLM.<|im_end|>\n{% endif %}"
        + _CHATML
        + _CHATML_PROMPT,
        _IM,
        eos="<|im_end|>",
        end="<|im_end|>",
    ),
    "SmolLM3, /no_think": Family(
        "<|im_start|>system\nToday Date: {{ strftime_now('%d %B %Y') }}<|im_end|>\n{% for m in messages %}"
        "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and not enable_thinking %}<think>\n\n</think>\n"
        "{{ m.content.lstrip('\n') }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% if not enable_thinking %}<think>\n\n</think>\n{% endif %}{% endif %}",
        _IM,
        eos="<|im_end|>",
        end="<|im_end|>",
        reasoning=OFF,
        template_kwargs={"enable_thinking": False},
        note="ends the prompt with an empty block; prints the date",
    ),
    "SmolLM3, /think": Family(
        "<|im_start|>system\nToday Date: {{ strftime_now('%d %B %Y') }}<|im_end|>\n"
        + _CHATML
        + _CHATML_PROMPT,
        _IM,
        eos="<|im_end|>",
        end="<|im_end|>",
        note="writes the content as it is; prints the date",
    ),
    "gpt-oss": Family(
        "<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}<|end|>{% for m in messages %}"
        "{% if m.role != 'assistant' %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% else %}"
        "{% if '<|channel|>' in m.content %}{{ raise_exception('use the thinking key') }}{% endif %}"
        "{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
        "<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|return|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"),
        eos="<|return|>",
        end="<|return|>",
        begins="<|channel|>final<|message|>",
        reasoning="<|channel|>analysis<|message|>{R}<|end|><|start|>assistant<|channel|>final<|message|>{A}",
        note="has channels; takes reasoning by a key of its own; prints the date",
    ),
    "GLM 4.5, thinking": Family(
        "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}"
        + _TAKE_APART.replace("\\n", "\n")
        + "{% if r %}<think>{{ r }}</think>{% else %}<think></think>{% endif %}{{ '\\n' + a }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% if enable_thinking is defined and not enable_thinking %}<think></think>\n"
        "{% endif %}{% endif %}",
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "[gMASK]", "<sop>"),
        eos="<|endoftext|>",
        end="<|endoftext|>",
        begins="<think></think>\n",
        reasoning="<think>{R}</think>\n{A}",
        note="splits the content; writes no end of turn (the tokenizer's end of text is learned)",
    ),
    "GLM 4.5, enable_thinking: false": Family(
        "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}<think></think>\n{% endif %}{{ m.content }}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n<think></think>\n{% endif %}",
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "[gMASK]", "<sop>"),
        eos="<|endoftext|>",
        end="<|endoftext|>",
        reasoning=OFF,
        template_kwargs={"enable_thinking": False},
        note="ends the prompt with an empty block",
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
