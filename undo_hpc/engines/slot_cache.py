"""A static key-value cache with one slot a row, each row at its own position, for continuous batching.

Prompts stand at the left of their slot and completions follow, so a row that is done can be given to the next request
while the others continue, and no row pays for the padding of another. Only for decoder models with full attention in each
layer; `why_unsupported` tests the model at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from undo_hpc.engines import grouped_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(slots=True)
class SlotLayout:
    """Where the layers write and read next. They share this and not the cache itself: a reference cycle would
    keep their memory until the garbage collector runs, while the next cache needs it.
    """

    rows: int
    length: int
    window: int
    row_index: torch.Tensor
    positions: torch.Tensor
    filling: torch.Tensor | None = None


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, each (rows, heads, slot length, head size)."""

    def __init__(self, layout: SlotLayout) -> None:
        super().__init__()
        self._layout = layout

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Takes the memory, now that shapes and types are known. Zeros, for what is masked must still be finite."""
        rows, length = self._layout.rows, self._layout.length
        self.keys = key_states.new_zeros(rows, key_states.shape[1], length, key_states.shape[3])
        self.values = value_states.new_zeros(rows, value_states.shape[1], length, value_states.shape[3])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes a step (one token a row) or the prompts of some rows; returns what the queries may look at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        layout = self._layout
        if layout.filling is not None:
            width, count = key_states.shape[2], len(layout.filling)
            self.keys[layout.filling, :, :width] = key_states[:count]
            self.values[layout.filling, :, :width] = value_states[:count]
            return key_states, value_states
        self.keys[layout.row_index, :, layout.positions] = key_states[:, :, 0]
        self.values[layout.row_index, :, layout.positions] = value_states[:, :, 0]
        return self.keys[:, :, : layout.window], self.values[:, :, : layout.window]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Unused, for we always bring our own mask; there to satisfy the base class."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Rows differ in length; positions are always given."""
        return 0

    def get_max_length(self) -> int:
        """The length of a slot."""
        return self._layout.length

    def select(self, rows: torch.Tensor) -> None:
        """Keeps these rows, in this order."""
        assert self.keys is not None and self.values is not None
        self.keys, self.values = self.keys[rows], self.values[rows]

    def copy_columns(self, rows: torch.Tensor, to: torch.Tensor, width: int) -> None:
        """Copies the first `width` columns of `rows` to the rows `to`."""
        assert self.keys is not None and self.values is not None
        self.keys[to, :, :width] = self.keys[rows, :, :width]
        self.values[to, :, :width] = self.values[rows, :, :width]


class SlotCache(Cache):
    """The cache of all layers.

    Args:
        layers: number of layers.
        rows: number of slots.
        length: tokens in a slot.
    """

    def __init__(self, layers: int, rows: int, length: int, device: torch.device) -> None:
        zeros = torch.zeros(rows, dtype=torch.long, device=device)
        self.layout = SlotLayout(rows, length, length, torch.arange(rows, device=device), zeros)
        self._slot_layers = [SlotLayer(self.layout) for _ in range(layers)]
        super().__init__(layers=list(self._slot_layers))

    def copy_columns(self, rows: torch.Tensor, to: torch.Tensor, width: int) -> None:
        """Copies the first `width` columns of `rows` to the rows `to`, in all layers."""
        for layer in self._slot_layers:
            layer.copy_columns(rows, to, width)

    def select(self, rows: torch.Tensor) -> None:
        """Keeps these rows, in this order."""
        self.layout.rows, self.layout.row_index = len(rows), self.layout.row_index[: len(rows)]
        for layer in self._slot_layers:
            layer.select(rows)

    def snapshot(self) -> list[tuple[torch.Tensor | None, torch.Tensor | None]]:
        """What `restore` takes back after a `select`."""
        return [(layer.keys, layer.values) for layer in self._slot_layers]

    def restore(self, before: list[tuple[torch.Tensor | None, torch.Tensor | None]]) -> None:
        """All rows again, as they were at a `snapshot`."""
        for layer, (keys, values) in zip(self._slot_layers, before, strict=True):
            layer.keys, layer.values = keys, values
        keys = self._slot_layers[0].keys
        assert keys is not None
        self.layout.rows = len(keys)
        self.layout.row_index = torch.arange(len(keys), device=keys.device)


class SlotModel:
    """A model and its cache: `fill` puts prompts into slots, `step` gives the logits of each row's next token."""

    def __init__(self, model: PreTrainedModel, rows: int, length: int) -> None:
        self.model = model
        config = model.config.get_text_config()
        self.cache = SlotCache(config.num_hidden_layers, rows, length, model.device)
        self._columns = torch.arange(length, device=model.device)
        self._masked = torch.finfo(model.dtype).min

    def fill(self, prompts: torch.Tensor, rows: torch.Tensor) -> None:
        """Runs prompts, (at least len(rows), width), padded on the right; the first ones are kept in the slots `rows`.

        The last token of a prompt is not to be part of it: the first `step` takes that one.
        """
        width = prompts.shape[1]
        causal = self._columns[:width] <= self._columns[:width, None]
        self.cache.layout.filling = rows
        try:
            self._forward(
                prompts,
                self._columns[:width].expand(len(prompts), -1),
                causal.expand(len(prompts), 1, -1, -1),
            )
        finally:
            self.cache.layout.filling = None

    def step(self, tokens: torch.Tensor, positions: torch.Tensor, window: int) -> torch.Tensor:
        """Logits (rows, vocabulary) after `tokens` (rows,) at `positions` (rows,); rows look at the first `window`
        columns at most.
        """
        self.cache.layout.positions, self.cache.layout.window = positions, window
        visible = self._columns[:window] <= positions[:, None]
        return self._forward(tokens[:, None], positions[:, None], visible[:, None, None, :])[:, -1]

    def is_same_alone(self, rows: torch.Tensor, tokens: torch.Tensor, positions: torch.Tensor) -> bool:
        """Whether a step of these rows alone gives the bits that it gives among all.

        Args:
            tokens, positions: of the next step, for all rows.
        """
        length = len(self._columns)
        whole, before = self.step(tokens, positions, length)[rows], self.cache.snapshot()
        self.cache.select(rows)
        alone = self.step(tokens[rows], positions[rows], length)
        self.cache.restore(before)
        return torch.equal(alone, whole)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        mask = torch.where(visible, 0.0, self._masked).to(self.model.dtype)
        logits: torch.Tensor = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits


@torch.inference_mode()
def why_unsupported(model: PreTrainedModel) -> str:
    """Why a model cannot be run with this cache; empty where it can. Compares with a plain forward pass over a few tokens."""
    config = model.config.get_text_config()
    if getattr(model.config, "is_encoder_decoder", False):
        return "an encoder-decoder model"
    layer_types = getattr(config, "layer_types", None)
    window = None if layer_types else getattr(config, "sliding_window", None)  # an older way to say it
    if set(layer_types or ["full_attention"]) != {"full_attention"} or (
        window and window < config.max_position_embeddings
    ):
        return "layers without full attention"
    if getattr(model.config, "_attn_implementation", "") not in ("sdpa", "eager", grouped_attention.NAME):
        return f"attention {model.config._attn_implementation}"
    ids = (torch.arange(14, device=model.device).reshape(2, 7) * 37 + 11) % config.vocab_size
    lengths = torch.tensor([7, 5], device=model.device)
    plain = [
        model(input_ids=row[None, :length]).logits[0, -1]
        for row, length in zip(ids, lengths.tolist(), strict=True)
    ]
    try:
        slots = SlotModel(model, rows=2, length=16)
        slots.fill(ids[:, :-1], torch.arange(2, device=model.device))
        ours = slots.step(ids.gather(1, lengths[:, None] - 1)[:, 0], lengths - 1, 16)
    except (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError, IndexError) as error:
        return f"the model's code does not take our cache ({type(error).__name__}: {error})"
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    difference = (ours - torch.stack(plain)).abs().max() / torch.stack(plain).abs().max().clamp(min=1e-6)
    return (
        ""
        if float(difference) <= tolerance
        else f"logits differ from a plain forward pass by {float(difference):.3g}"
    )
