"""The teacher's scores beside the examples that are learned: which rows have them, what of them a micro-batch needs, and the weights.

A text is matched by its key, and by a digest of its tokens: scores of other tokens (another tokenizer or template since) are refused.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from undo_hpc.config.distill import DistillConfig
from undo_hpc.errors import DataError
from undo_hpc.storage.scores import ScoredText, Scores, ids_digest, text_key, unpack_ids
from undo_hpc.training.divergence import FIGURES, LEAST_TAIL, Objective, Scored
from undo_hpc.training.spec import TrainSpec

NO_SCORES = "the teacher gave no scores for it"
Kind = Literal["text", "scored", "own"]


def kept_k(distill: DistillConfig) -> int:
    """How many of the teacher's likeliest tokens a run's files hold; 0 for the control without a teacher."""
    return 0 if distill.loss == "fixed_advantage" else distill.k


class SoftScores:
    """All scores of a training.

    Raises:
        DataError: see `Scores`.
    """

    columns = ("iteration", "attempt")  # of the distilled set, for the keys

    def __init__(self, spec: TrainSpec) -> None:
        self.signal = spec.distill["signal"]
        self.distill = DistillConfig(**{k: v for k, v in spec.distill.items() if k != "signal"})
        self._seed, self.k = spec.seed, kept_k(self.distill)
        self._scores = Scores(spec.scores, self.k)
        beta = self.distill.beta
        if beta is None:
            beta = 0.0 if self.signal == "soft" else 0.5
        self.objective = Objective(self.distill.loss, beta, self.distill.clip, self.distill.unlikely)

    def rows(self, rationales: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What is learned: all rationales with their scores (soft), or the student's answers and a share of rationales as text."""
        if self.signal == "soft":
            return [
                row | {"key": text_key(row["id"], row["iteration"], row["attempt"])} for row in rationales
            ]
        texts = [row for _, row in self._scores.rows.values()]
        own = [
            {"id": t.id, "key": t.key, "problem": t.problem, "answer_ids": unpack_ids(t.answer).tolist()}
            for t in texts
        ]
        share = self.distill.text_share
        wanted = min(len(rationales), round(len(own) * share / (1 - share)))
        chosen = sorted(random.Random(self._seed).sample(range(len(rationales)), wanted))
        return [rationales[number] for number in chosen] + own

    def missing(self, key: str, answer: Sequence[int]) -> str:
        """Why a row cannot be learned with its scores; empty where it can.

        Raises:
            DataError: the scores are of other tokens.
        """
        if not key:
            return ""
        if key not in self._scores.rows:
            return NO_SCORES
        text: ScoredText = self._scores.rows[key][1]
        if ids_digest(unpack_ids(text.answer) if text.answer else answer) != text.sha:
            raise DataError(
                f"text {key}: its scores are of other tokens than the student learns now",
                hint="the student's tokenizer or template has changed since; run the launcher again, which scores again",
            )
        return ""

    def kind(self, key: str) -> Kind:
        """How a row is learned."""
        if not key:
            return "text"
        return "own" if self._scores.rows[key][1].answer else "scored"

    def scales(self, keys: Sequence[str], targets: npt.NDArray[np.int64]) -> dict[Kind, float]:
        """What a token of each kind counts in a step, so that each kind's mean has its share whatever its number of tokens: on average 1.

        Args:
            keys, targets: of all examples of the step, on all ranks.
        """
        counts: dict[Kind, int] = {}
        for key, n in zip(keys, targets, strict=True):
            counts[self.kind(key)] = counts.get(self.kind(key), 0) + int(n)
        if len(counts) < 2:
            return dict.fromkeys(counts, 1.0)
        share = {"text": self.distill.text_share, "own": 1 - self.distill.text_share, "scored": 1.0}
        return {kind: share[kind] * sum(counts.values()) / n for kind, n in counts.items()}

    def of(self, keys: Sequence[str], targets: Sequence[int], scales: dict[Kind, float]) -> Scored:
        """The scores of some examples, one behind the other, one position a target."""
        total = sum(targets)
        found: dict[str, npt.NDArray[Any]] = {
            "ids": np.tile(np.arange(self.k, dtype=np.int64), (total, 1)),
            "log_p": np.full((total, self.k), LEAST_TAIL, np.float32),
            **{
                name: np.zeros(total, np.float32)
                for name in ("own", "tail", "old", "divergence", "cross_entropy")
            },
        }
        at = 0
        for key, n in zip(keys, targets, strict=True):
            kind, here = self.kind(key), slice(at, at + n)
            scale, at = scales[kind], at + n
            found["cross_entropy"][here] = 0.0 if kind == "own" else scale
            if kind == "text":
                continue
            block = self._scores.block(key)
            here = slice(here.start, here.start + min(n, len(block.own)))
            for name in ("ids", "log_p", "own", "tail", "old"):
                found[name][here] = getattr(block, name)[: here.stop - here.start]
            plain = self.distill.cross_entropy if kind == "scored" else 0.0
            found["divergence"][here], found["cross_entropy"][here] = (1 - plain) * scale, plain * scale
        tensors = {name: torch.from_numpy(array) for name, array in found.items()}
        return Scored(
            **tensors, objective=self.objective, figures=torch.zeros(len(FIGURES), dtype=torch.float64)
        )


def spread(scored: Scored, where: torch.Tensor, size: int) -> Scored:
    """The scores at these places of a larger row of positions, the others weighted with 0 (padded batches)."""
    fields: dict[str, Any] = {}
    for name in ("ids", "log_p", "own", "tail", "old", "divergence", "cross_entropy"):
        value = getattr(scored, name)
        fields[name] = value.new_zeros(size, *value.shape[1:])
        fields[name][where] = value
    return replace(scored, **fields)
