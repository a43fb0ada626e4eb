"""The scores of one task while they are made: durable in groups, taken up again by key, and written in their final form at the end.

Parts are JSON lines with the scores as base64, one file a start, named by the inputs as those of answers are (stages/attempts.py). The
final form is an index and a binary file (storage/scores.py); blocks are read back from the parts one by one, so memory stays small.
"""

from __future__ import annotations

import base64
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson

from undo_hpc.engines.scoring import Scorer, ScoreRequest, TokenScores
from undo_hpc.errors import EngineError, Requeue
from undo_hpc.stages.attempts import basis_of
from undo_hpc.stages.context import StageContext
from undo_hpc.stages.write_buffer import WriteBuffer
from undo_hpc.storage.atomic import translate_os_error, write_bytes
from undo_hpc.storage.scores import Block, ScoredText, binary_of, block_from, block_size
from undo_hpc.storage.shards import ShardWriter, decode_sealed, dump_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """Where a row stands in the parts; n tokens, or the error."""

    path: Path
    offset: int
    n: int
    error: str
    prompt_tokens: int


class ScoreStore:
    """See the module.

    Args:
        inputs: digests of what the scores come from, as the task's manifest will name them; rows of others are ignored.
    """

    def __init__(self, ctx: StageContext, shard: Path, k: int, inputs: Mapping[str, str]) -> None:
        self._ctx, self.shard, self._k = ctx, shard, k
        self._folder = ctx.at.parts(shard)
        with translate_os_error(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._basis = basis_of({"config": ctx.run.config_digest} | dict(inputs))
        number = len(list(self._folder.glob("*.jsonl")))
        storage = ctx.run.config.storage
        self._writer = ShardWriter(
            ctx.at.part(shard, number, self._basis, f"{os.getpid()}-{time.time_ns():x}"),
            flush_rows=storage.flush_rows,
            flush_seconds=storage.flush_seconds,
            sealed=True,
        )
        self.done = set(self._places())
        if self.done:
            ctx.say(f"resumes: {len(self.done)} scores are there already")

    def buffer(self) -> WriteBuffer[TokenScores]:
        """Takes scores in; they are durable a group later."""
        storage = self._ctx.run.config.storage
        return WriteBuffer(self._keep, rows=storage.flush_rows, seconds=storage.flush_seconds)

    def ask(self, engine: Scorer, asked: Sequence[ScoreRequest], words: int = 0) -> tuple[int, float]:
        """Has an engine score texts that have no scores yet; returns the tokens that it read, and the seconds.

        Raises:
            Requeue: the task was asked to stop; all scores so far are durable.
            EngineError: the engine ended by itself.
        """
        ctx, began, tokens = self._ctx, time.monotonic(), 0
        total = len(self.done) + len(asked)
        with self.buffer() as buffer:

            def should_stop() -> bool:
                buffer.save_if_old()
                return ctx.should_stop()

            for scores in engine.score(asked, self._k, words=words, should_stop=should_stop):
                buffer.add(scores)
                tokens += len(scores.own) + scores.prompt_tokens
                speed = tokens / max(1e-6, time.monotonic() - began)
                ctx.progress.update(done=len(self.done), total=total, unit="rows", tokens_per_s=speed)
        missing = sum(request.id not in self.done for request in asked)
        if missing and ctx.should_stop():
            raise Requeue(
                f"{ctx.stage.name} {ctx.task.label}: {len(self.done)} scores are saved, {missing} more are wanted"
            )
        if missing:
            raise EngineError(
                f"the engine ended by itself and left {missing} of {len(asked)} texts without scores",
                hint="scores so far are kept; look at the log above, then run the same command again",
            )
        return tokens, round(time.monotonic() - began, 3)

    def _keep(self, group: list[TokenScores]) -> None:
        self._ctx.lease.check()
        for scores in group:
            old = np.zeros(len(scores.own), np.float16)  # filled in from the student's row at the end
            block = (
                b""
                if scores.error
                else Block(scores.ids, scores.log_p, scores.own, scores.tail, old).to_bytes()
            )
            self._writer.append(
                {
                    "key": scores.id,
                    "n": len(scores.own),
                    "prompt_tokens": scores.prompt_tokens,
                    "error": scores.error,
                    "block": base64.b64encode(block).decode(),
                }
            )
            self.done.add(scores.id)
        self._writer.flush()

    def _places(self) -> dict[str, _Place]:
        """Where each row stands; a torn or damaged line costs itself alone."""
        found = {}
        for path in self._ctx.at.part_files(self.shard, self._basis):
            offset = 0
            with path.open("rb") as file:
                for line in file:
                    try:
                        row = decode_sealed(line)
                        whole = len(row["block"]) == -(-block_size(row["n"], self._k) // 3) * 4
                        if whole or row["error"]:
                            found[row["key"]] = _Place(
                                path, offset, row["n"], row["error"], row["prompt_tokens"]
                            )
                    except (ValueError, KeyError, TypeError):
                        log.warning("%s: a damaged line is ignored; its text is scored again", path.name)
                    offset += len(line)
        return found

    def read(self, keys: Sequence[str]) -> dict[str, Block]:
        """The scores of some texts; those that could not be scored are missing."""
        places = self._places()
        return {key: self._block(places[key]) for key in keys if key in places and not places[key].error}

    def _block(self, place: _Place) -> Block:
        with place.path.open("rb") as file:
            file.seek(place.offset)
            data = base64.b64decode(orjson.loads(file.readline())["block"])
        return block_from(data, place.n, self._k)

    def publish(
        self, texts: Sequence[tuple[ScoredText, str]]
    ) -> tuple[list[ScoredText], dict[str, int], str]:
        """Writes index and binary file with the texts in this order.

        Args:
            texts: each with the student's own log-probabilities (base64 of float16), empty for a text of the teacher.

        Returns:
            The rows of the index, counts, and the first error.
        """
        self._writer.close()
        places, rows, at = self._places(), list[ScoredText](), 0
        errors = [p.error for text, _ in texts if (p := places[text.key]).error]
        good = [(text, log_q, places[text.key]) for text, log_q in texts if not places[text.key].error]
        for text, _, place in good:
            rows.append(replace(text, n=place.n, at=at))
            at += block_size(place.n, self._k)

        def blocks() -> Iterator[bytes]:
            for _, log_q, place in good:
                block = self._block(place)
                if log_q:
                    old = np.frombuffer(base64.b64decode(log_q), np.float16)[: place.n]
                    block = replace(block, old=old)
                yield block.to_bytes()

        self._ctx.lease.check()
        write_bytes(binary_of(self.shard), blocks())
        write_bytes(self.shard, dump_rows([row.to_dict() for row in rows]))
        read = bool(self._k)  # else it is the control that asks no teacher
        counts = {
            "rows": len(rows),
            "tokens": sum(p.n + p.prompt_tokens for p in places.values()) * read,
            "scored_tokens": sum(row.n for row in rows) * read,
            "errors": len(errors),
        }
        return rows, counts, next(iter(errors), "")

    def finish(self) -> None:
        """Removes the parts, after the manifest stands."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Makes all rows durable, whatever happened."""
        self._writer.close()
