"""From the examples of a step to the tensors of each rank's micro-batches."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch

from undo_hpc.config.train import TrainConfig
from undo_hpc.training import attention as attentions
from undo_hpc.training.attention import VarlenLayout, put
from undo_hpc.training.divergence import Scored
from undo_hpc.training.encoding import EncodedSet
from undo_hpc.training.packing import Step, pack, pad_bins
from undo_hpc.training.soft_scores import Kind, SoftScores, spread


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes.

    Attributes:
        inputs: keyword arguments of the model; `input_ids` has the shape (1, tokens) packed and (rows, longest) padded,
            `logits_to_keep` the positions whose logits are computed, shape (kept,).
        targets: ids the loss falls on, in the order of the kept logits, shape (rows * kept,); -100 where one has no target.
        tokens: real tokens in it.
        padded_tokens: positions computed, padding included.
        examples: which examples it holds.
        scored: the teacher's scores in the order of `targets`; None where text alone is learned.
    """

    inputs: dict[str, Any]
    targets: torch.Tensor
    tokens: int
    padded_tokens: int
    examples: list[int] = field(default_factory=list)
    scored: Scored | None = None

    def __post_init__(self) -> None:
        assert self.scored is None or len(self.scored) == len(self.targets), (
            "scores and targets are of other positions"
        )


class Batcher:
    """Builds this rank's micro-batches of a step.

    Args:
        attention: name of the attention in use; decides how documents of a packed row are kept apart.
        pad_token: fills the end of rows where packing is off.
        scores: the teacher's; None where text alone is learned.
    """

    def __init__(
        self,
        data: EncodedSet,
        config: TrainConfig,
        *,
        rank: int,
        ranks: int,
        attention: str,
        pad_token: int,
        device: torch.device,
        scores: SoftScores | None = None,
    ) -> None:
        self._scores, self._scales = scores, dict[Kind, float]()
        self._data, self._config, self._rank, self._ranks = data, config, rank, ranks
        self._attention, self._pad, self._device = attention, pad_token, device
        self._kernel = not attentions.kernel_missing(config.precision, attentions.capability_of(device))

    def micro_batches(self, step: Step) -> list[MicroBatch]:
        """This rank's share of the step; equally many on each rank, the last ones possibly without work."""
        self._weigh([int(i) for i in step.examples])
        lengths = [int(n) for n in self._data.lengths[step.examples]]
        split = pack if self._config.packing else pad_bins
        bins = split(lengths, self._config.micro_batch_tokens, self._ranks)
        return [self._build([int(step.examples[i]) for i in b]) for b in bins[self._rank :: self._ranks]]

    def targets(self, step: Step) -> int:
        """Tokens of the step that the loss falls on, over all ranks."""
        return int(self._data.targets[step.examples].sum())

    def build(self, examples: list[int]) -> MicroBatch:
        """One micro-batch of these examples, as a step of its own; without any, one token that counts for nothing."""
        self._weigh(examples)
        return self._build(examples)

    def _weigh(self, examples: list[int]) -> None:
        """Settles what a token of each kind counts, by all examples of a step."""
        if self._scores is not None:
            self._scales = self._scores.scales(self._keys(examples), self._data.targets[examples])

    def _keys(self, examples: list[int]) -> list[str]:
        assert self._data.keys is not None, "scores without keys"
        return [str(self._data.keys[i]) for i in examples]

    def _scored(self, examples: list[int], *, idle: bool = False) -> Scored | None:
        """The scores of these examples, in the order of their answers; an idle rank's one position has no weight."""
        if self._scores is None:
            return None
        if idle:
            return self._scores.of([""], [1], {"text": 0.0})
        return self._scores.of(
            self._keys(examples), [int(n) for n in self._data.targets[examples]], self._scales
        )

    def _build(self, examples: list[int]) -> MicroBatch:
        """A rank without examples still takes part."""
        if not examples:
            return self._packed([0], idle=True)
        examples = sorted(examples, key=lambda i: (-int(self._data.lengths[i]), i))
        return self._packed(examples) if self._config.packing else self._padded(examples)

    def _packed(self, examples: list[int], *, idle: bool = False) -> MicroBatch:
        rows = [self._data.tokens(i)[: 1 if idle else None] for i in examples]
        lengths = [len(row) for row in rows]
        ids = torch.from_numpy(np.concatenate(rows).astype(np.int64))
        positions = torch.cat([torch.arange(n) for n in lengths])
        if idle:
            kept, targets = torch.zeros(1, dtype=torch.long), torch.full((1,), -100)
        else:
            starts = np.cumsum([0, *lengths[:-1]])
            where = np.concatenate(
                [
                    np.arange(at + self._data.prompts[i], at + n)
                    for i, at, n in zip(examples, starts, lengths, strict=True)
                ]
            )
            kept = torch.from_numpy(where - 1)  # a token is predicted one position before it
            targets = ids[torch.from_numpy(where)]
        inputs: dict[str, Any] = {
            "input_ids": self._put(ids[None]),
            "position_ids": self._put(positions[None]),
            "logits_to_keep": self._put(kept),
            "use_cache": False,
        }
        if self._attention == "varlen":
            inputs["varlen_layout"] = VarlenLayout.of(lengths, self._device, kernel=self._kernel)
        elif self._attention == "flash_attention_2":
            offsets = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
            inputs |= dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), self._put(offsets))
            inputs |= dict.fromkeys(("max_length_q", "max_length_k"), max(lengths))
        elif len(lengths) > 1:
            owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
            mask = _block_mask(self._put(owner))
            if self._attention == "eager":  # adds its mask to the scores
                mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -1e30)
            inputs["attention_mask"] = mask
        scored = self._scored(examples, idle=idle)
        return MicroBatch(
            inputs,
            self._put(targets),
            0 if idle else len(ids),
            len(ids),
            [] if idle else examples,
            scored and self._put_scored(scored),
        )

    def _padded(self, examples: list[int]) -> MicroBatch:
        rows = [self._data.tokens(i) for i in examples]
        width = len(rows[0])
        ids = torch.full((len(rows), width), self._pad)
        labels = torch.full((len(rows), width), -100)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for at, (index, row) in enumerate(zip(examples, rows, strict=True)):
            ids[at, : len(row)] = torch.from_numpy(row.astype(np.int64))
            mask[at, : len(row)] = 1
            begin = int(self._data.prompts[index])
            labels[at, begin : len(row)] = ids[at, begin : len(row)]
        columns = torch.nonzero((labels != -100).any(0)).flatten()
        inputs = {
            "input_ids": self._put(ids),
            "attention_mask": self._put(mask),
            "logits_to_keep": self._put(columns - 1),
            "use_cache": False,
        }
        tokens = sum(len(row) for row in rows)
        targets = labels[:, columns].flatten()
        scored = self._scored(examples)
        if scored is not None:
            scored = self._put_scored(spread(scored, torch.nonzero(targets != -100).flatten(), len(targets)))
        return MicroBatch(inputs, self._put(targets), tokens, ids.numel(), examples, scored)

    def _put_scored(self, scored: Scored) -> Scored:
        moved: dict[str, Any] = {
            f.name: self._put(value)
            for f in fields(scored)
            if isinstance(value := getattr(scored, f.name), torch.Tensor)
        }
        return replace(scored, **moved)

    def _put(self, tensor: torch.Tensor) -> torch.Tensor:
        return put(tensor, self._device)


def _block_mask(owner: torch.Tensor) -> torch.Tensor:
    """The dense mask of a packed row for attentions without a shorter way: True where a query may look. (1, 1, t, t).

    It is made where it is needed: a row of 16,384 tokens has 256 MiB of it.
    """
    return (
        (owner[:, None] == owner)
        & torch.ones(len(owner), len(owner), dtype=torch.bool, device=owner.device).tril()
    )[None, None]
