"""What a task of score is to score: rationales of the distilled set, or the student's own answers, each with what stands before it.

An answer of the student is scored after the problem alone or, where the teacher wrote a rationale for it in this iteration, after the
problem and that rationale: never after the answer itself, for a teacher that sees an attempt copies it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from undo_hpc.data.distilled import parquet_files, read_distilled
from undo_hpc.engines.scoring import ScoreRequest
from undo_hpc.method.copying import tokens_within, wrong_result
from undo_hpc.prompts import PromptSet
from undo_hpc.records import Attempt
from undo_hpc.stages.context import StageContext
from undo_hpc.stages.train import make_spec
from undo_hpc.storage.manifest import Manifest
from undo_hpc.storage.scores import ScoredText, ids_digest, sample_key, text_key, unpack_ids
from undo_hpc.storage.shards import pack_ids, read_rows
from undo_hpc.training import student
from undo_hpc.training.encoding import Encoder, encoded_rows
from undo_hpc.training.encoding import read_rows as read_parquet

PLAIN = "#plain"  # behind the key of a text that is also scored after the problem alone, to compare


@dataclass(frozen=True)
class ToScore:
    """A text to be scored.

    Attributes:
        plain: the same after the problem alone, where both are compared; None elsewhere.
        log_q: of a student's own answer, as in its row.
        right: whether that answer is right.
        wrong_tokens: tokens of its first wrong result; empty where it has none that can be pointed at.
    """

    text: ScoredText
    request: ScoreRequest
    plain: ScoreRequest | None = None
    log_q: str = ""
    right: bool = False
    wrong_tokens: tuple[int, ...] = ()


@dataclass
class Left:
    """Counts of what is scored otherwise than asked, or not at all."""

    not_learned: int = 0
    context_dropped: int = 0


def rationales(ctx: StageContext, prompts: PromptSet, digest: str, left: Left) -> list[ToScore]:
    """This task's share of the distilled set (signal soft), in the tokens that the student will learn."""
    spec = make_spec(ctx, digest)
    rows = read_parquet([str(path) for path in parquet_files(ctx.at.distilled)], "iteration", "attempt")
    encoder = Encoder(student.load_tokenizer(spec), spec)
    found = []
    for row, encoded in encoded_rows(rows[share_of(ctx, len(rows))], encoder, spec.config):
        if isinstance(encoded, str):
            left.not_learned += 1
            continue
        answer, key = tuple(encoded[1]), text_key(row["id"], row["iteration"], row["attempt"])
        prompt = prompts.problem(row["problem"], ctx.run.config.teacher.instruction)
        found.append(ToScore(ScoredText(key, 0, ids_digest(answer)), ScoreRequest(key, prompt, answer)))
    return found


def own_answers(
    ctx: StageContext, prompts: PromptSet, sampled: Sequence[Manifest], tokenizer: object, left: Left
) -> list[ToScore]:
    """This task's share of the student's answers (signal on_policy)."""
    config = ctx.run.config
    written = {}
    if config.method.condition != "one_shot":
        written = {
            e.id: e.teacher_solution
            for e in read_distilled(ctx.at.distilled)
            if e.iteration == ctx.plan.iteration
        }
    problems = {p.problem_id: p for p in ctx.run.problems("train")}
    total = sum(output.rows or 0 for manifest in sampled for output in manifest.outputs.values())
    measured = min(1.0, 4 * config.distill.gate_rows / max(1, total))
    found = []
    for row in islice(_samples(ctx), *share_of(ctx, total).indices(total)):
        right = row.verdict == "correct"
        if not row.ids or (right and config.distill.rows == "wrong"):
            left.not_learned += not row.ids
            continue
        problem, key = problems[row.problem_id], sample_key(row.problem_id, row.attempt)
        answer = tuple(unpack_ids(row.ids).tolist())
        alone = ScoreRequest(key, prompts.problem(problem.problem, config.teacher.instruction), answer)
        text = ScoredText(key, 0, ids_digest(answer), 0, row.problem_id, problem.problem, pack_ids(answer))
        rationale = written.get(row.problem_id, "")
        if rationale and row.text.strip() and row.text.strip() in rationale:
            left.context_dropped += 1
            rationale = ""
        if not rationale:
            found.append(ToScore(text, alone, log_q=row.log_q, right=right))
            continue
        request = ScoreRequest(
            key, prompts.score(problem.problem, rationale, config.teacher.instruction), answer
        )
        plain: ScoreRequest | None = None
        wrong: tuple[int, ...] = ()
        if _fraction(key) < measured:
            plain = ScoreRequest(key + PLAIN, alone.prompt, answer)
            wrong = _wrong_tokens(row, problem.ground_truth, rationale, answer, tokenizer)
        found.append(ToScore(text, request, plain, row.log_q, right, wrong))
    return found


def share_of(ctx: StageContext, total: int) -> slice:
    """The rows of this task among all."""
    number, tasks = ctx.task.index, ctx.plan.score
    return slice(total * number // tasks, total * (number + 1) // tasks)


def _samples(ctx: StageContext) -> Iterator[Attempt]:
    for part in ctx.plan.slices("sample"):
        yield from map(Attempt.from_dict, read_rows(ctx.at.shard("sample", part.shard, part.problem_set)))


def _wrong_tokens(
    row: Attempt, truth: str, rationale: str, answer: Sequence[int], tokenizer: object
) -> tuple[int, ...]:
    if row.verdict == "correct" or (place := wrong_result(row, truth, rationale)) is None:
        return ()
    pieces = [tokenizer.decode([token], skip_special_tokens=True) for token in answer]  # type: ignore[attr-defined]
    return tuple(tokens_within(pieces, *place)) if "".join(pieces).startswith(row.text[: place[1]]) else ()


def _fraction(key: str) -> float:
    """A number from 0 to 1 that a key alone decides, so that no cutting into tasks changes what is measured."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32
