"""What generate and evaluate share: requests to an engine, each answer graded and made durable, nothing asked twice.

While a shard is made its rows lie in `shard-N.parts/`, one file a start of the task: a start appends to its own file only,
so a zombie of an earlier start can never tear a successor's rows. The names of these files say from which inputs the rows
came: rows of another student, or of other prompts, are no rows of this shard. They say which checker judged them, too: answers
of another one stand and are graded again, for a shard's verdicts are of one checker. The final shard is sorted, so its bytes depend
neither on the order of completion nor on restarts.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.config.schema import QualityConfig, RunConfig, SamplingConfig
from undo_hpc.engines.base import Completion, Engine, Request, TellsWhatIsUnderWay, with_reasoning
from undo_hpc.errors import EngineError, Requeue
from undo_hpc.grading import GradeItem
from undo_hpc.method.quality import assess
from undo_hpc.pipeline.plan import request_seed
from undo_hpc.pipeline.workload import longest
from undo_hpc.records import Attempt, FinishReason, Grade, Problem
from undo_hpc.stages.checker import AnswerChecker, checker_of
from undo_hpc.stages.context import StageContext
from undo_hpc.stages.verdicts import checker_version
from undo_hpc.stages.write_buffer import WriteBuffer
from undo_hpc.storage.atomic import make_folder, translate_os_error, write_bytes
from undo_hpc.storage.opening import ANY_SIZE, read_bytes
from undo_hpc.storage.shards import ShardWriter, decode_sealed, dump_rows, pack_ids

log = logging.getLogger(__name__)

Key = tuple[str, int]
UNDER_WAY_EVERY_S = 2.0


@dataclass(frozen=True)
class SampleRequest:
    """One answer wanted: the problem, which attempt, and the user's turn."""

    problem: Problem
    attempt: int
    prompt: str
    style: str
    temperature: float

    @property
    def key(self) -> Key:
        """What makes it unique in its shard."""
        return self.problem.problem_id, self.attempt


def request_of(
    name: str, ask: SampleRequest, run_seed: int, iteration: int, role: str, sampling: SamplingConfig
) -> Request:
    """What an engine is asked for an answer; nothing else of it depends on the engine's settings, so a probe asks the same."""
    return Request(
        name,
        ask.prompt,
        request_seed(run_seed, iteration, ask.problem.problem_id, ask.attempt, role),
        ask.temperature,
        longest(sampling, iteration),
        sampling.top_p,
        sampling.top_k,
        tuple(sampling.stop),
    )


class AttemptStore:
    """The rows of one shard: those of earlier starts, and those that this start adds.

    Args:
        quality: what makes an attempt fit to learn from, for the `flags` of its row; None for a student, whose answers are only graded.
        inputs: digests of what the answers come from, as the task's manifest will name them; rows of others are ignored.
        keeps_ids: whether the sampled tokens stand in the rows.
    """

    def __init__(
        self,
        ctx: StageContext,
        shard: Path,
        *,
        role: str,
        sampling: SamplingConfig,
        quality: QualityConfig | None = None,
        inputs: Mapping[str, str],
        keeps_ids: bool = False,
    ) -> None:
        self._keeps_ids = keeps_ids
        self._ctx, self.shard, self._role, self._sampling = ctx, shard, role, sampling
        self._quality = quality
        self._folder = ctx.at.parts(shard)
        with translate_os_error(self._folder):
            make_folder(self._folder)
        basis = basis_of({"config": ctx.run.config_digest} | dict(inputs))
        checker = checker_tag(ctx.run.config)
        files = ctx.at.part_files(shard, basis)
        mine = [path for path in files if f"-{basis}-{checker}-" in path.name]
        self.rows: dict[Key, Attempt] = {row_key(row): row for row in _earlier_rows(mine)}
        self._judged_otherwise = {
            key: row
            for row in _earlier_rows(f for f in files if f not in mine)
            if (key := row_key(row)) not in self.rows
        }
        self.right = sum(row.verdict == "correct" for row in self.rows.values())
        config = ctx.run.config.storage
        engine = (ctx.run.config.generate if role == "teacher" else ctx.run.config.evaluate).engine
        self._keeps_reasoning = engine.reasoning == "keep"
        number = len(list(self._folder.glob("*.jsonl")))
        self._writer = ShardWriter(
            ctx.at.part(shard, number, basis, f"{checker}-{os.getpid()}-{time.time_ns():x}"),
            flush_rows=config.flush_rows,
            flush_seconds=config.flush_seconds,
            sealed=True,
        )
        self._seconds = 0.0
        self._new_tokens = self._new_rows = 0
        self._shown = time.monotonic()  # when it was last told what is under way
        if there := len(self.rows) + len(self._judged_otherwise):
            ctx.say(f"resumes: {there} answers are there already")

    def adopt(self, rows: Iterable[Attempt]) -> None:
        """Takes in rows that are durable elsewhere, and that this task would write just so; its own stay."""
        more = {row_key(row): row for row in rows if row_key(row) not in self.rows}
        self.rows |= more
        self.right += sum(row.verdict == "correct" for row in more.values())

    def answer(
        self,
        engine: Engine,
        checker: AnswerChecker,
        asked: Sequence[SampleRequest],
        total: int,
        before: Sequence[AttemptStore] = (),
    ) -> None:
        """Answers, grades and keeps those requests that have no row yet.

        Args:
            total: rows expected of the whole task in the end, for the progress.
            before: the task's other shards, which are complete: their rows count for the progress, too.

        Raises:
            Requeue: the task was asked to stop; all rows so far are durable.
        """
        self._grade_again(asked, checker)
        wanted = {f"{ask.problem.problem_id}/{ask.attempt}": ask for ask in asked if ask.key not in self.rows}
        if wanted:
            requests = [self._request(name, ask) for name, ask in wanted.items()]
            config, began = self._ctx.run.config.storage, time.monotonic()
            if not self._new_rows:  # long answers take their time; until then there is no rate to tell
                self._ctx.progress.update(
                    force=True, total=total, left_s=None, unit="rows", **_so_far(self, before)
                )

            def keep(group: list[Completion]) -> None:
                self._keep(group, wanted, checker, chat_digest(engine))
                self._show(total, before, time.monotonic() - began)

            with WriteBuffer(keep, rows=config.flush_rows, seconds=config.flush_seconds) as buffer:

                def should_stop() -> bool:
                    buffer.save_if_old()
                    self._show_under_way(engine, total, before, time.monotonic() - began)
                    return self._ctx.should_stop()

                for completion in engine.generate(requests, should_stop=should_stop):
                    buffer.add(completion)
            self._seconds += time.monotonic() - began
        left = sum(ask.key not in self.rows for ask in asked)
        if left and not self._ctx.should_stop():
            raise EngineError(
                f"the engine ended by itself and left {left} of {len(asked)} requests without an answer",
                hint="answers so far are kept; look at the log above, then run the same command again",
            )
        if left:
            raise Requeue(
                f"{self._ctx.stage.name} {self._ctx.task.label}: {len(self.rows)} answers are saved, more are wanted"
            )

    def _request(self, name: str, ask: SampleRequest) -> Request:
        return request_of(
            name, ask, self._ctx.run.config.seed, self._ctx.plan.iteration, self._role, self._sampling
        )

    def _grade_again(self, asked: Sequence[SampleRequest], checker: AnswerChecker) -> None:
        """Answers that another checker has judged, an earlier version say: they stand, with the verdicts of this one."""
        old = [
            (ask, self._judged_otherwise.pop(ask.key)) for ask in asked if ask.key in self._judged_otherwise
        ]
        if not old:
            return
        self._ctx.lease.check()
        self._ctx.say(f"{len(old)} answers were judged by another checker, and are graded again")
        items = [_item(row.text, ask.problem) for ask, row in old]
        for (ask, row), grade in zip(old, checker.grade_many(items), strict=True):
            flags = self._flags(row.text, grade, row.finish_reason, ask.problem)
            self._add(
                replace(row, verdict=grade.verdict, answer=grade.answer, method=grade.method, flags=flags)
            )
        self._writer.flush()

    def _flags(
        self, text: str, grade: Grade, finish_reason: FinishReason, problem: Problem
    ) -> tuple[str, ...]:
        if self._quality is None:
            return ()
        return assess(
            text,
            verdict=grade.verdict,
            finish_reason=finish_reason,
            config=self._quality,
            problem=problem.problem,
        )

    def _add(self, row: Attempt) -> None:
        self.rows[row_key(row)] = row
        self.right += row.verdict == "correct"
        self._writer.append(row.to_dict())

    def _keep(
        self, batch: list[Completion], wanted: dict[str, SampleRequest], checker: AnswerChecker, chat_sha: str
    ) -> None:
        """Grades a group and appends it; the lease is asked first, so that a zombie stops here."""
        self._ctx.lease.check()
        texts = [with_reasoning(c) if self._keeps_reasoning else c.text for c in batch]
        items = [_item(text, wanted[c.id].problem) for c, text in zip(batch, texts, strict=True)]
        for completion, text, grade in zip(batch, texts, checker.grade_many(items), strict=True):
            ask = wanted[completion.id]
            request = self._request(completion.id, ask)
            flags = self._flags(text, grade, completion.finish_reason, ask.problem)
            row = Attempt(
                problem_id=ask.problem.problem_id,
                idx=ask.problem.idx,
                attempt=ask.attempt,
                style=ask.style,
                text=text,
                verdict=grade.verdict,
                answer=grade.answer,
                method=grade.method,
                finish_reason=completion.finish_reason,
                prompt_tokens=completion.prompt_tokens,
                completion_tokens=completion.completion_tokens,
                seed=request.seed,
                temperature=request.temperature,
                prompt_sha=completion.prompt_sha,
                error=completion.error,
                flags=flags,
                top_p=request.top_p,
                top_k=request.top_k,
                max_tokens=completion.sent.get(
                    "max_completion_tokens", completion.sent.get("max_tokens", request.max_tokens)
                ),
                stop=request.stop,
                chat_sha=chat_sha,
                raw_finish_reason=completion.raw_finish_reason,
                reasoning="" if not completion.reasoning else "kept" if self._keeps_reasoning else "dropped",
                sent=completion.sent,
                ids=pack_ids(completion.token_ids) if self._keeps_ids else "",
            )
            self._new_tokens += completion.completion_tokens
            self._new_rows += 1
            self._add(row)
        self._writer.flush()

    def _show_under_way(
        self, engine: Engine, total: int, before: Sequence[AttemptStore], seconds: float
    ) -> None:
        """Until the next answer is complete, which may take minutes: what is being written now, where the engine tells."""
        if time.monotonic() - self._shown < UNDER_WAY_EVERY_S or not isinstance(engine, TellsWhatIsUnderWay):
            return
        requests, tokens = engine.under_way()
        seconds = max(1e-6, self._seconds + seconds)
        rate = {"tokens_per_s": (self._new_tokens + tokens) / seconds} if tokens or self._new_tokens else {}
        so_far = _so_far(self, before)
        left = seconds / self._new_rows * max(0, total - so_far["done"]) if self._new_rows else None
        self._shown = time.monotonic()
        self._ctx.progress.update(
            force=True,
            total=total,
            left_s=left,
            unit="rows",
            under_way=requests,
            writing=tokens,
            **rate,
            **so_far,
        )

    def _show(self, total: int, before: Sequence[AttemptStore], seconds: float) -> None:
        seconds, so_far = max(1e-6, self._seconds + seconds), _so_far(self, before)
        self._ctx.progress.update(
            total=total,
            tokens_per_s=self._new_tokens / seconds,
            left_s=seconds / max(1, self._new_rows) * max(0, total - so_far["done"]),
            unit="rows",
            **so_far,
        )

    def publish(
        self, order: Iterable[Key], complete: Callable[[list[Attempt]], list[Attempt]] = list
    ) -> list[Attempt]:
        """Writes the final shard with the rows in that order; the parts go only after it is durable (see `finish`).

        Args:
            complete: adds to the rows what can be told only when all are there.
        """
        self._writer.close()
        rows = complete([self.rows[key] for key in order])
        self._ctx.lease.check()
        write_bytes(self.shard, dump_rows([row.to_dict() for row in rows]))
        return rows

    def finish(self) -> None:
        """Removes the parts, after the manifest stands."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Makes all rows durable, whatever happened."""
        self._writer.close()

    @property
    def seconds(self) -> float:
        """Seconds in which this start answered."""
        return self._seconds

    @property
    def new_tokens(self) -> int:
        """Completion tokens of this start."""
        return self._new_tokens


def chat_digest(engine: Engine) -> str:
    """16 digits of what an engine puts around a prompt."""
    described = engine.describe()
    around = [described.get(name) for name in ("template_sha", "system_prompt", "chat_template_kwargs")]
    return hashlib.sha256(orjson.dumps(around, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _so_far(now: AttemptStore, before: Sequence[AttemptStore]) -> dict[str, Any]:
    """Rows of a task over all its shards, and how many of them are right: both of the same rows, for a share is shown of them."""
    stores = (*before, now)
    return {"done": sum(len(s.rows) for s in stores), "correct": sum(s.right for s in stores)}


def row_key(row: Attempt) -> Key:
    """What makes a row unique in its shard."""
    return row.problem_id, row.attempt


def _item(text: str, problem: Problem) -> GradeItem:
    return GradeItem(text, problem.ground_truth, problem.kind, problem.options)


def checker_tag(config: RunConfig) -> str:
    """Which checker judges now, for the names of a shard's parts."""
    return "c" + hashlib.sha256(checker_version(config).encode()).hexdigest()[:8]


def basis_of(inputs: Mapping[str, str]) -> str:
    """Eight digits for the `inputs` of a manifest, for the names of a shard's parts."""
    return hashlib.sha256(orjson.dumps(dict(inputs), option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]


def _earlier_rows(files: Iterable[Path]) -> Iterator[Attempt]:
    """Rows of earlier starts; a torn or damaged line costs itself alone (its answer is made again)."""
    for path in files:
        for line in (read_bytes(path, ANY_SIZE) or b"").splitlines():
            try:
                yield Attempt.from_dict(decode_sealed(line))
            except (ValueError, TypeError, AttributeError):
                log.warning("%s: a damaged line is ignored; its answer is made again", path.name)


def open_checker(ctx: StageContext) -> AnswerChecker:
    """The checker as configured."""
    return checker_of(ctx.run.config)


def make_requests(
    problems: Iterable[Problem], attempts: Iterable[int], prompt: Callable[[Problem], str], temperature: float
) -> list[SampleRequest]:
    """The same attempts of the student for each of the problems."""
    return [
        SampleRequest(p, k, prompt(p), "student", temperature)
        for p, k in itertools.product(problems, tuple(attempts))
    ]
