"""P2r, P3r, P4r: training at the shapes that users have (random weights), on lengths of real rationales, beside the others at their best.

SmolLM2-135M and Qwen2.5-0.5B. Each contestant takes the same rows once, one process each; CPU seconds and growth of memory are those from the
first step to the last.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from tests.bench import model_shapes, training_race
from tests.bench.rationale_lengths import PAIRS, PROMPT_EXTRA
from tests.training import tiny_student


def rows(count: int, tokenizer: Any) -> list[dict[str, Any]]:
    """Rows of exactly these lengths in tokens: digits, which are a token each."""
    rng = random.Random(0)

    def digits(n: int) -> str:
        return "".join(rng.choice("123456789") for _ in range(max(1, n)))

    return [
        tiny_student.rows(1)[0]
        | {
            "id": f"{idx:08d}",
            "idx": idx,
            "problem": digits(prompt + PROMPT_EXTRA - 13),
            "teacher_solution": digits(answer),
            "gt": "1",
        }
        for idx, (prompt, answer) in enumerate(PAIRS[:count])
    ]


if __name__ == "__main__":
    place, shape, count, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    import json

    more = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
    tok = tiny_student.make_tokenizer()
    if not (place / "model").exists():
        model_shapes.build(place / "model", getattr(model_shapes, shape), tok)
    training_race.prepare(place, count, batch, data=rows(count, tok), learning_rate=1e-4, log_steps=1, **more)
