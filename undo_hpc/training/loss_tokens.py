"""The tokens that a student learns of one row, found without torch: what a dry run shows of training.

The rules are those of `training.encoding`, with `tokenizers` in the place of transformers' tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undo_hpc.chat.training_text import Turn, close_turn


@dataclass(frozen=True)
class LossTokens:
    """One row in tokens: those of its prompt, which are read without loss, and those that are learned, as texts."""

    prompt: int
    learned: tuple[str, ...]


def load_tokenizer(folder: Path) -> Any | None:
    """The tokenizer of a model folder; None where its files are of another kind, or `tokenizers` cannot read them."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # noqa: BLE001 -- tokenizers raises bare Exception
        return None
    tokenizer.no_padding()  # as transformers does: what the file says of either counts for nothing
    tokenizer.no_truncation()
    return tokenizer


def loss_tokens(tokenizer: Any, turn: Turn, *, eos_token: str, closing: str) -> LossTokens | None:
    """What the loss falls on, end of turn included; None where the answer itself holds an end-of-turn token.

    Args:
        closing: what the chat template writes behind an answer (`TurnWriter.closing`).
    """

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    eos = tokenizer.token_to_id(eos_token)
    special |= {eos} - {None}
    ends = [i for i in ids(closing) if i in special]
    end = ends[0] if ends else eos
    prompt, whole = ids(turn.prompt), ids(turn.prompt + turn.target)
    tail = whole[len(prompt) :] if whole[: len(prompt)] == prompt else ids(turn.target)
    learned = close_turn(tail, end, from_template=bool(ends))
    return None if learned is None else LossTokens(len(prompt), tuple(_texts(tokenizer, learned)))


def _texts(tokenizer: Any, ids: list[int]) -> list[str]:
    """Each token as the text that it adds; the token's own name where it is a part of a character."""
    texts, before = [], ""
    for count, token in enumerate(ids, start=1):
        now = tokenizer.decode(ids[:count], skip_special_tokens=False)
        grown = now.startswith(before) and len(now) > len(before) and not now.endswith("\ufffd")
        texts.append(now[len(before) :] if grown else tokenizer.id_to_token(token) or "?")
        before = now
    return texts
