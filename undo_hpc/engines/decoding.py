"""What in-process engines share: a request with its tokens, where its completion ends, and its text."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from undo_hpc.engines.base import Completion, Request, digest
from undo_hpc.engines.chat import Chat
from undo_hpc.records import FinishReason


@dataclass(slots=True)
class Work:
    """A request on its way: prompt token ids, max new tokens (as many as fit), and how often it has failed."""

    request: Request
    prompt: list[int]
    max_new_tokens: int
    tries: int = 0

    @property
    def total(self) -> int:
        """Most tokens that prompt and completion can take."""
        return len(self.prompt) + self.max_new_tokens


class Decoder(Protocol):
    """Runs a batch of requests. Made for a number of rows and a length; a new one is made when either changes."""

    @property
    def active(self) -> bool:
        """Whether any request is under way."""
        ...

    def under_way(self) -> tuple[int, int]:
        """Requests under way, and the tokens that they have so far."""
        ...

    def advance(self, queue: deque[Work]) -> list[Completion]:
        """Takes work from the left of `queue` where rows are free, decodes a while, returns what is finished."""
        ...

    def drop(self) -> list[Work]:
        """Takes back what is under way, after an error."""
        ...


def ending(work: Work, ids: list[int], chat: Chat) -> FinishReason | None:
    """Why a completion ends after these ids, or None where it continues."""
    if ids[-1] in chat.stop_ids:
        return "stop"
    if work.request.stop:
        # A token is a byte at least, so the newest stop text lies within that many tokens, and some more for broken
        # characters.
        tail = chat.raw_text(ids[-(max(len(text.encode()) for text in work.request.stop) + 8) :])
        if any(text in tail for text in work.request.stop):
            return "stop"
    return "length" if len(ids) >= work.max_new_tokens else None


def complete(
    request: Request, prompt_tokens: int, ids: Sequence[int], reason: FinishReason, chat: Chat
) -> Completion:
    """The finished completion: special tokens, and all from the first stop text on, taken off; reasoning in its normal form."""
    text = chat.raw_text(ids[:-1] if ids and ids[-1] in chat.stop_ids else ids)
    cut = min((place for place in map(text.find, request.stop) if place >= 0), default=len(text))
    return Completion(
        request.id,
        chat.normal_form(text[:cut]),
        reason,
        prompt_tokens,
        len(ids),
        digest(request.prompt),
        token_ids=tuple(ids),
    )
