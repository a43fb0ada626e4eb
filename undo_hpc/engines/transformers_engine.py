"""The transformers engine: runs wherever torch does, batches by length and token budget, survives out-of-memory.

Requests are sorted into buckets of about equal length. In a bucket, `batch_tokens` and `max_batch` fix the number of rows.
A batch that runs out of memory is halved and run again; a batch that fails is run again one request at a time, to find
the one that fails.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import transformers

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines import grouped_attention
from undo_hpc.engines.base import Completion, Failures, Request, failed, never, too_long
from undo_hpc.engines.chat import Chat, loading_hint
from undo_hpc.engines.continuous_batching import ContinuousBatchDecoder, rounded
from undo_hpc.engines.decoding import Decoder, Work
from undo_hpc.engines.scoring import ScoreRequest, TokenScores
from undo_hpc.engines.slot_cache import why_unsupported
from undo_hpc.engines.static_batching import StaticBatchDecoder
from undo_hpc.engines.transformers_scoring import score_in_lanes
from undo_hpc.errors import ConfigError, EngineError, loading
from undo_hpc.models.own_files import own_files

log = logging.getLogger(__name__)


class TransformersEngine:
    """See the module. One model on one device.

    Raises:
        DataError: the model cannot be loaded, or has no usable chat template.
        ConfigError: `device: cuda` without a GPU, or `batch_invariant` with a model that cannot keep it.
    """

    def __init__(self, config: EngineConfig, model: ModelConfig) -> None:
        self._config, self._retries = config.transformers, config.request_retries
        self._chat = Chat(model)
        self._device = self._choose_device()
        # With several threads, how a matrix product is cut between them, and so its last bits, depends on more than
        # its shape.
        threads = 1 if self._config.batch_invariant and self._device.type == "cpu" else self._config.threads
        if threads:
            torch.set_num_threads(threads)
        self._model = self._load(model)
        text_config = self._model.config.get_text_config()
        self._context = int(getattr(text_config, "max_position_embeddings", None) or 2**31)
        grouped = grouped_attention.install(self._model)
        self._static_reason = why_unsupported(self._model)
        if grouped and self._static_reason:
            self._model.set_attn_implementation("sdpa")
            self._static_reason = why_unsupported(self._model)
        if self._config.batch_invariant:
            experts = getattr(text_config, "num_experts", 0) or getattr(text_config, "num_local_experts", 0)
            reason = self._static_reason or (
                "a mixture of experts, whose batches depend on the routing" if experts else ""
            )
            if reason:
                raise ConfigError(
                    f"engine.transformers.batch_invariant cannot be kept for {model.model}: {reason}",
                    hint="set it to false, or take a dense decoder model with full attention",
                )
        self._max_rows = self._config.max_batch
        # A GPU's step takes as long with few rows, and which kernel draws depends on their number.
        self._same_bits: dict[tuple[int, int, int], bool] | None = {} if self._device.type == "cpu" else None
        self._at_work: Decoder | None = None

    def describe(self) -> dict[str, Any]:
        """What the completions depend on."""
        return {
            "engine": "transformers",
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "device": self._device.type,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "attention": self._model.config._attn_implementation,
            "decoder": f"static batching ({self._static_reason})"
            if self._static_reason
            else "continuous batching",
            "batch_invariant": self._config.batch_invariant,
            "batch_tokens": self._config.batch_tokens,
            "max_batch": self._config.max_batch,
            "context": self._context,
            **self._chat.describe(),
        }

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool] = never
    ) -> Iterator[Completion]:
        """See `Engine.generate`. Longest requests first, so that a lack of memory shows at once."""
        failures: Failures[Completion] = Failures("transformers")
        buckets: dict[int, list[Work]] = {}
        for request in requests:
            prompt = self._chat.encode(request.prompt)
            room = self._context - len(prompt)
            if room < 1:
                yield failed(request, too_long(len(prompt), self._context), prompt_tokens=len(prompt))
                continue
            work = Work(request, prompt, min(request.max_tokens, room))
            # Attention of an invariant batch covers the whole slot, so its lengths are graded finer.
            buckets.setdefault(
                rounded(work.total, 4 if self._config.batch_invariant else 1, least=64), []
            ).append(work)
        for length, bucket in self._merged(buckets):
            slot = length if self._config.batch_invariant else max(work.total for work in bucket)
            yield from self._run(bucket, slot, should_stop, failures)
        if not should_stop():
            yield from failures.release()

    def score(
        self,
        requests: Sequence[ScoreRequest],
        k: int,
        *,
        words: int = 0,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[TokenScores]:
        """See `Scorer.score`."""
        return score_in_lanes(
            self._model,
            self._chat,
            requests,
            k,
            words=words,
            lane_tokens=self._config.batch_tokens,
            most_rows=self._config.max_batch,
            context=self._context,
            should_stop=should_stop,
        )

    def under_way(self) -> tuple[int, int]:
        """See `TellsWhatIsUnderWay`."""
        return self._at_work.under_way() if self._at_work else (0, 0)

    def close(self) -> None:
        """Frees the model's memory. May be called again."""
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _merged(self, buckets: dict[int, list[Work]]) -> list[tuple[int, list[Work]]]:
        """The buckets, longest first, each in the order in which it is run.

        On a GPU, and with a large model anywhere, the time of a step hardly depends on its rows and columns while they
        are few: the weights are read once a step. So shorter requests join a longer bucket as long as rows of that
        length are left in the budget, and the longest of all go first.
        """
        found: list[tuple[int, list[Work]]] = []
        join = (
            self._device.type == "cuda" or grouped_attention.is_large(self._model)
        ) and not self._config.batch_invariant
        for length in sorted(buckets, reverse=True):
            bucket = sorted(buckets[length], key=lambda work: -(work.total if join else len(work.prompt)))
            if join and found:
                longest, before = found[-1]
                rows = self._rows(longest, self._max_rows)
                if rows == self._max_rows or rows > len(before):
                    before.extend(bucket)
                    continue
            found.append((length, bucket))
        return found

    def _run(
        self, bucket: list[Work], length: int, should_stop: Callable[[], bool], failures: Failures[Completion]
    ) -> Iterator[Completion]:
        groups = deque([deque(bucket)])  # run one after another; after a failure, those under way run alone
        decoder: Decoder | None = None
        while groups:
            if not groups[0] and not (decoder and decoder.active):
                groups.popleft()
                continue
            if should_stop():
                return
            try:
                if decoder is None:
                    decoder = self._at_work = self._decoder(length, len(bucket), should_stop)
                finished = decoder.advance(groups[0])
            except torch.OutOfMemoryError as error:
                under_way, decoder = decoder.drop() if decoder else [], None
                groups[0].extendleft(reversed(under_way))
                self._halve(self._rows(length, len(bucket)), length, groups[0], failures, error)
            except (RuntimeError, ValueError, IndexError) as error:
                suspects = decoder.drop() if decoder else []
                decoder = None
                if not suspects:
                    raise EngineError(
                        f"the transformers engine failed: {error}", hint="see the log above"
                    ) from error
                if len(suspects) == 1:
                    suspects[0].tries += 1
                    if suspects[0].tries >= self._retries:
                        failures.hold(failed(suspects.pop().request, f"{type(error).__name__}: {error}"))
                groups.extendleft(deque([work]) for work in reversed(suspects))
            else:
                if finished:
                    yield from failures.release()
                yield from finished

    def _rows(self, length: int, waiting: int) -> int:
        rows = max(1, min(self._max_rows, self._config.batch_tokens // length))
        return rows if self._config.batch_invariant else min(rows, waiting)

    def _decoder(self, length: int, waiting: int, should_stop: Callable[[], bool]) -> Decoder:
        rows = self._rows(length, waiting)
        if self._static_reason:
            return StaticBatchDecoder(self._model, self._chat, rows=rows, should_stop=should_stop)
        return ContinuousBatchDecoder(
            self._model,
            self._chat,
            rows=rows,
            length=length,
            invariant=self._config.batch_invariant,
            same_bits=self._same_bits,
        )

    def _halve(
        self,
        rows: int,
        length: int,
        queue: deque[Work],
        failures: Failures[Completion],
        error: torch.OutOfMemoryError,
    ) -> None:
        """Makes later batches smaller; a request that does not even fit alone fails."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if rows == 1:
            failures.hold(failed(queue.popleft().request, f"out of memory with this request alone: {error}"))
            return
        self._max_rows = rows // 2
        log.warning(
            "out of memory with %d rows of %d tokens; continuing with %d%s",
            rows,
            length,
            self._max_rows,
            " (batch_invariant holds between batches of one size only)"
            if self._config.batch_invariant
            else "",
        )

    def _choose_device(self) -> torch.device:
        name = self._config.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(
                "engine.transformers.device is cuda, but torch sees no GPU",
                hint="ask the cluster for a GPU (cluster.resources), or set device: auto",
            )
        return torch.device(name)

    def _load(self, model: ModelConfig) -> Any:
        dtype: Any = model.dtype if model.dtype == "auto" else getattr(torch, model.dtype)
        if dtype == "auto" and self._device.type == "cpu":
            dtype = torch.float32  # half precision is slower there, and less exact
        options: dict[str, Any] = (
            {} if self._config.attn == "auto" else {"attn_implementation": self._config.attn}
        )
        with (
            own_files(self._chat.path, model.revision),
            loading(f"{model.model}: the model cannot be loaded", hint=loading_hint(self._chat.path)),
        ):
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                self._chat.path,
                dtype=dtype,
                revision=model.revision or None,
                trust_remote_code=model.trust_remote_code,
                **options,
            )
        return loaded.to(self._device).eval()
