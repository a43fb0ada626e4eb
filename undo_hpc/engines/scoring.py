"""What engines that score share: a text in, the teacher's log-probabilities of its tokens out, checked and in one form.

All engines give log-probabilities at temperature 1, whatever a request's sampling says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from undo_hpc.engines.base import never
from undo_hpc.errors import DataError, EngineError

_LEAST = -60000.0  # float16 reaches to -65504
_LEAST_TAIL = -16.0  # as training takes it at least
_ABOVE_ONE = 1e-3  # rounding of a float32 sum, or of bfloat16 weights, may give this much too much
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One text to be scored.

    Attributes:
        id: unique among the requests of a call.
        prompt: the user's turn; the engine puts the model's own chat template around it.
        answer: token ids that follow, at least one.
    """

    id: str
    prompt: str
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TokenScores:
    """The scores of one text: as `storage.scores.Block` without `old`, in the order of the answer's tokens; or the `error`.

    Where the teacher cannot end with the answer's end token, the last token is not scored.
    """

    id: str
    ids: npt.NDArray[np.int32]
    log_p: npt.NDArray[np.float16]
    own: npt.NDArray[np.float16]
    tail: npt.NDArray[np.float16]
    prompt_tokens: int = 0
    error: str = ""


@runtime_checkable
class Scorer(Protocol):
    """What scores: an engine with this method beside those of `Engine`."""

    def score(
        self,
        requests: Sequence[ScoreRequest],
        k: int,
        *,
        words: int = 0,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[TokenScores]:
        """Yields the scores of each text as they are ready, in any order; ends soon when `should_stop()` turns true.

        Args:
            k: likeliest tokens that are kept.
            words: ids from this one on are the model's padding and count as the rest; 0 where there are none.

        Raises:
            EngineError: the engine cannot continue, or what it gives are no log-probabilities.
        """
        ...


def not_scored(request: ScoreRequest, error: str, prompt_tokens: int = 0) -> TokenScores:
    """The result for a text that cannot be scored."""
    none, no_ids = np.zeros(0, np.float16), np.zeros((0, 0), np.int32)
    return TokenScores(request.id, no_ids, none.reshape(0, 0), none, none, prompt_tokens, error[:500])


def too_long_to_score(prompt: int, answer: int, context: int) -> str:
    """The message for a text that the teacher cannot read whole."""
    return f"the prompt has {prompt} tokens and the answer {answer}, and the teacher's context is {context}"


def compressed(
    requests: Sequence[ScoreRequest],
    prompt_tokens: Sequence[int],
    counts: Sequence[int],
    own: Floats,
    ids: npt.NDArray[np.int32],
    log_p: Floats,
    *,
    words: int = 0,
) -> list[TokenScores]:
    """Scores in their final form: float16, the likeliest first, equal ones by id, so that no kernel decides an order.

    Args:
        counts: scored tokens of each text; the arrays hold those of all texts, one behind the other.
        own: log-probabilities of the answers' tokens, shape (n,).
        ids, log_p: the k likeliest tokens of each, shape (n, k).

    Raises:
        EngineError: there are NaN or positive values, or they sum to more than one.
    """
    ids, log_p, own = ids.astype(np.int32), log_p.astype(np.float32), own.astype(np.float32)
    ends = np.cumsum(counts)
    _require_log_probs(requests, ends, own, log_p)
    own, log_p = np.clip(own, _LEAST, 0.0), np.clip(log_p, _LEAST, 0.0)
    if words:
        _move_padding(ids, log_p, words)
    realised = np.array([t for r, n in zip(requests, counts, strict=True) for t in r.answer[:n]], np.int64)
    listed = (ids == realised[:, None]).any(1)
    mass = np.exp(log_p.astype(np.float64)).sum(1) + np.where(listed, 0.0, np.exp(own.astype(np.float64)))
    tail = np.log(np.maximum(1.0 - mass, np.exp(_LEAST_TAIL)))
    half = log_p.astype(np.float16)
    order = np.lexsort((ids, -half), axis=1)
    arrays = (
        np.take_along_axis(ids, order, 1),
        np.take_along_axis(half, order, 1),
        own.astype(np.float16),
        tail.astype(np.float16),
    )
    split = zip(*(np.split(array, ends[:-1]) for array in arrays), strict=True)
    return [
        TokenScores(r.id, ids, log_p, own, tail, n)
        for r, (ids, log_p, own, tail), n in zip(requests, split, prompt_tokens, strict=True)
    ]


def _require_log_probs(
    requests: Sequence[ScoreRequest], ends: npt.NDArray[np.int64], own: Floats, log_p: Floats
) -> None:
    """Raises EngineError where values are no log-probabilities, as those of a cached prefix would be (vLLM #42019)."""
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.maximum(own, log_p.max(1, initial=-np.inf))  # NaN where there is one
        sound = (largest <= _ABOVE_ONE) & (np.exp(log_p).sum(1) <= 1 + _ABOVE_ONE)
    if not sound.all():
        request = requests[int(np.searchsorted(ends, int(np.argmin(sound)), side="right"))]
        raise EngineError(
            f"text {request.id}: the engine's values are no log-probabilities (NaN, above 0, or more than one in sum)",
            hint="nothing of it is kept; is the engine a version that is supported, and are the model's weights sound?",
        )


def _move_padding(ids: npt.NDArray[np.int32], log_p: Floats, words: int) -> None:
    """Puts ids that the student does not have to the rest: in place of each stands one that is not listed, with next to no mass."""
    for row in np.flatnonzero((ids >= words).any(1)):
        free = (word for word in range(words) if word not in set(ids[row].tolist()))
        for column in np.flatnonzero(ids[row] >= words):
            ids[row, column], log_p[row, column] = next(free), _LEAST_TAIL


def match_tokenizers(teacher: Any, student: Any, texts: Sequence[str] = ()) -> int:
    """Makes sure that a student's token ids mean the same to the teacher; no weight is needed. Returns the number of the student's words.

    Sizes of models say nothing (they are padded), and special tokens that no text holds may differ.

    Args:
        texts: some of those that are scored; both tokenizers must cut them alike.

    Raises:
        DataError: names the first token that differs.
    """
    own, special = student.get_vocab(), {int(i) for i in student.added_tokens_decoder}
    theirs = {index: token for token, index in teacher.get_vocab().items()}
    used = set()
    for text in texts:
        cut = [list(each(text, add_special_tokens=False)["input_ids"]) for each in (student, teacher)]
        used |= {i for i in cut[0] if i in special}
        if cut[0] != cut[1]:
            at = next((i for i, (a, b) in enumerate(zip(*cut, strict=False)) if a != b), min(map(len, cut)))
            words = [
                tok.convert_ids_to_tokens(ids[at]) if at < len(ids) else "the end"
                for tok, ids in zip((student, teacher), cut, strict=True)
            ]
            raise _other(
                f"they cut {text[:60]!r} differently: token {at} is {words[0]!r} to the student and {words[1]!r} to the teacher"
            )
    for token, index in sorted(own.items(), key=lambda item: item[1]):
        if theirs.get(index) != token and (index not in special or index in used):
            found = f"{theirs[index]!r}" if index in theirs else "no token"
            raise _other(f"id {index} is {token!r} to the student and {found} to the teacher")
    return max(own.values()) + 1


def _other(what: str) -> DataError:
    return DataError(
        f"student and teacher have different tokenizers: {what}",
        hint="scores are of token ids, so both must have the same ones; take a teacher of the student's family, or method.signal: text",
    )
