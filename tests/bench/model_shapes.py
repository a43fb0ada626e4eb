"""The models of the benchmarks at real shapes, with random weights: SmolLM2-135M, Qwen2.5-0.5B, Qwen2.5-1.5B, and a tiny one for rehearsals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

QWEN2_1_5B: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
QWEN2_TINY: dict[str, Any] = QWEN2_1_5B | {
    "vocab_size": 420,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
QWEN2_0_5B: dict[str, Any] = QWEN2_1_5B | {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "dtype": "float32",
}
SMOLLM2_135M: dict[str, Any] = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rope_theta": 100_000.0,
    "tie_word_embeddings": True,
    "dtype": "float32",
}


def build(path: Path, shape: dict[str, Any], tokenizer: Any) -> Path:
    """A model directory of that shape, with random weights and a small real tokenizer; a Llama where there are no Qwen2 shapes' 151,936 words."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    llama = shape["vocab_size"] == SMOLLM2_135M["vocab_size"]
    ends = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "max_position_embeddings": 8192,
    }
    torch.manual_seed(0)
    model: Any = (
        LlamaForCausalLM(LlamaConfig(**shape, **ends))
        if llama
        else Qwen2ForCausalLM(Qwen2Config(**shape, **ends))
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
