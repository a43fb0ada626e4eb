"""The models of the GPU benchmarks: Qwen2 in the shape of Qwen2.5-1.5B, and a tiny one for rehearsals."""

from __future__ import annotations

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
