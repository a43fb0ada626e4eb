"""Continuous batching over slots: a finished row is given to the next request while the others continue.

Two ways to shape the batches. `invariant`: all shapes follow from the decoder's own size and from the request's own
lengths, and free rows are computed as dummies, so that neither neighbours nor their number can change a request's
arithmetic; towards the end dummies are dropped where this machine was seen to compute the same bits without them.
Otherwise shapes follow the need: attention ends at the longest row, and rows without a request are dropped at the end.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import torch

from undo_hpc.engines.base import Completion
from undo_hpc.engines.chat import Chat
from undo_hpc.engines.decoding import Work, complete, ending
from undo_hpc.engines.sampling import draw, uniforms
from undo_hpc.engines.slot_cache import SlotModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WINDOW = 64  # columns that the view of a step grows by


class ContinuousBatchDecoder:
    """Decodes models for which `why_unsupported` finds no reason.

    Args:
        rows: slots.
        length: tokens of a slot; no work in it may be longer.
        same_bits: for `invariant`, what was seen of (rows, length, fewer rows): whether a step computes the same bits with fewer rows.
            Decoders of one model share it; None never drops a dummy.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        chat: Chat,
        *,
        rows: int,
        length: int,
        invariant: bool,
        same_bits: dict[tuple[int, int, int], bool] | None = None,
    ) -> None:
        self._slots = SlotModel(model, rows, length)
        self._rows, self._same_bits = rows, same_bits
        self._chat, self._length, self._invariant = chat, length, invariant
        self._fill_rows = max(1, rows // 4)
        self._works: list[Work | None] = [None] * rows
        self._written: list[list[int]] = [[] for _ in range(rows)]
        device = model.device
        self._tokens = torch.zeros(rows, dtype=torch.long, device=device)
        self._positions = torch.zeros(rows, dtype=torch.long, device=device)
        self._steps = torch.zeros(rows, dtype=torch.long, device=device)  # tokens written
        self._uniforms = torch.zeros(rows, length, device=device)
        self._temperature = torch.zeros(rows, device=device)
        self._top_p = torch.ones(rows, device=device)
        self._top_k = torch.zeros(rows, dtype=torch.long, device=device)

    @property
    def active(self) -> bool:
        """Whether any request is under way."""
        return any(work is not None for work in self._works)

    def under_way(self) -> tuple[int, int]:
        """Requests under way, and the tokens that they have so far."""
        rows = [ids for work, ids in zip(self._works, self._written, strict=True) if work is not None]
        return len(rows), sum(map(len, rows))

    def drop(self) -> list[Work]:
        """Takes back what is under way."""
        works = [work for work in self._works if work is not None]
        self._works = [None] * len(self._works)
        self._positions.zero_()
        return works

    @torch.inference_mode()
    def advance(self, queue: deque[Work]) -> list[Completion]:
        """One token for each request under way, after free rows have been filled."""
        free = [row for row, work in enumerate(self._works) if work is None]
        if queue and (len(free) >= self._fill_rows or len(free) == len(self._works)):
            while queue and free:
                self._fill(queue, free)
        elif not queue and len(free) * 2 >= len(self._works) > 1:
            if self._invariant:
                self._shrink_with_same_bits()
            else:
                self._shrink([row for row, work in enumerate(self._works) if work is not None])
        return self._step()

    def _fill(self, queue: deque[Work], free: list[int]) -> None:
        """Starts the next requests in free rows; those taken are removed from `queue` and `free`.

        A prompt that a row holds already, or that another request of this call has, is computed once and copied.
        """
        width = self._width(queue[0])
        holders = {work.request.prompt: row for row, work in enumerate(self._works) if work is not None}
        taken: list[tuple[int, Work]] = []
        computed: list[tuple[int, Work]] = []
        copied: list[tuple[int, int]] = []  # from a row to another
        while queue and free and self._width(queue[0]) <= width:
            if self._invariant and self._width(queue[0]) != width:
                break
            holder = holders.get(queue[0].request.prompt)
            if holder is None and len(computed) == self._fill_rows:
                break
            row, work = free.pop(0), queue.popleft()
            self._works[row] = work  # entered first, so that `drop` finds it whatever happens
            taken.append((row, work))
            if holder is None:
                computed.append((row, work))
                holders[work.request.prompt] = row
            else:
                copied.append((holder, row))
        prompts = torch.zeros(self._fill_rows if self._invariant else len(computed), width, dtype=torch.long)
        for index, (_, work) in enumerate(computed):
            prompts[index, : len(work.prompt) - 1] = torch.tensor(work.prompt[:-1])
        drawn = torch.zeros(len(taken), self._length)
        for index, (row, work) in enumerate(taken):
            self._written[row] = []
            if work.request.temperature > 0:
                drawn[index, : work.max_new_tokens] = uniforms(work.request.seed, work.max_new_tokens)
        device = self._tokens.device
        rows, works = torch.tensor([row for row, _ in taken]).to(device), [work for _, work in taken]
        self._tokens[rows] = torch.tensor([work.prompt[-1] for work in works]).to(device)
        self._positions[rows] = torch.tensor([len(work.prompt) - 1 for work in works]).to(device)
        self._steps[rows] = torch.zeros_like(rows)
        self._uniforms[rows] = drawn.to(device)
        self._temperature[rows] = torch.tensor([float(work.request.temperature) for work in works]).to(device)
        self._top_p[rows] = torch.tensor([float(work.request.top_p) for work in works]).to(device)
        self._top_k[rows] = torch.tensor([work.request.top_k for work in works]).to(device)
        if computed:
            self._slots.fill(prompts.to(device), torch.tensor([row for row, _ in computed]).to(device))
        if copied:
            holding, free_rows = (torch.tensor(ends).to(device) for ends in zip(*copied, strict=True))
            self._slots.cache.copy_columns(holding, free_rows, width)

    def _width(self, work: Work) -> int:
        """Columns that the prompt of `work` is filled with: its own length, rounded up."""
        return min(rounded(max(1, len(work.prompt) - 1), 4 if self._invariant else 8, least=16), self._length)

    def _step(self) -> list[Completion]:
        # What the host knows is not asked of the device: a GPU is waited for once a step, when the tokens are read.
        active = [
            (work, ids) for work, ids in zip(self._works, self._written, strict=True) if work is not None
        ]
        window = self._length
        if not self._invariant:
            longest = max((len(work.prompt) + len(ids) for work, ids in active), default=1)
            window = min(window, -(-longest // _WINDOW) * _WINDOW)
        logits = self._slots.step(self._tokens, self._positions, window)
        uniform = self._uniforms.gather(1, self._steps.clamp(max=self._length - 1)[:, None])[:, 0]
        greedy = all(work.request.temperature <= 0 for work, _ in active)
        self._tokens = draw(logits, uniform, self._temperature, self._top_p, self._top_k, greedy=greedy)
        self._positions, self._steps = self._positions + 1, self._steps + 1
        finished, ended = [], []
        for row, (work, token) in enumerate(zip(self._works, self._tokens.tolist(), strict=True)):
            if work is None:
                ended.append(row)
                continue
            ids = self._written[row]
            ids.append(token)
            reason = ending(work, ids, self._chat)
            if reason is not None:
                finished.append(complete(work.request, len(work.prompt), ids, reason, self._chat))
                self._works[row], self._written[row] = None, []
                ended.append(row)
        if ended:  # free rows wait at the first column, as greedy dummies
            rows = torch.tensor(ended).to(self._tokens.device)
            self._tokens[rows], self._positions[rows], self._temperature[rows] = 0, 0, 0.0
        return finished

    def _shrink_with_same_bits(self) -> None:
        """Drops dummies, when no request waits: to the least of 1/2, 1/4, 1/8... of the rows that holds all requests and computes the same bits.

        How a matrix product is summed up may depend on its number of rows. The first step with fewer is computed both ways, on what
        is under way, and compared bit by bit; where a bit differs, that number of rows is never used.
        """
        if self._same_bits is None or not self.active:
            return
        busy = [row for row, work in enumerate(self._works) if work is not None]
        dummies = [row for row, work in enumerate(self._works) if work is None]
        for halvings in range(len(self._works).bit_length() - 1, 0, -1):
            count = len(self._works) >> halvings
            if count < len(busy):
                continue
            kept = sorted([*busy, *dummies[: count - len(busy)]])
            case = (self._rows, self._length, count)
            if case not in self._same_bits:
                rows = torch.tensor(kept).to(self._tokens.device)
                self._same_bits[case] = self._slots.is_same_alone(rows, self._tokens, self._positions)
            if self._same_bits[case]:
                return self._shrink(kept)

    def _shrink(self, kept: list[int]) -> None:
        """Drops the other rows."""
        rows = torch.tensor(kept).to(self._tokens.device)
        self._slots.cache.select(rows)
        self._works, self._written = [self._works[row] for row in kept], [self._written[row] for row in kept]
        for name in ("_tokens", "_positions", "_steps", "_uniforms", "_temperature", "_top_p", "_top_k"):
            setattr(self, name, getattr(self, name)[rows])


def rounded(count: int, per_octave: int, *, least: int) -> int:
    """`count` rounded up to one of `per_octave` evenly spaced sizes between powers of two, from `least` on.

    So lengths fall into few classes, and none grows by more than 1/per_octave.
    """
    base = least
    while base * 2 <= count:
        base *= 2
    if count <= base:
        return base
    step = max(1, base // per_octave)
    return base + -(-(count - base) // step) * step
