"""From rows of the distilled set to token ids with a known answer part: what the student sees, and what it is judged on.

The prompt is tokenised exactly as it will be at evaluation (the chat template with the generation prompt); the answer begins
where that ends and stops at the template's own end of turn. The loss falls on the answer and that one end token, nothing else.
A row that cannot be learned whole is left out with its reason; it never ends the training.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from undo_hpc.chat.plain_text import PlainText, ids_of, uncovered
from undo_hpc.chat.template import Message, clock_of, rendered
from undo_hpc.chat.training_text import NotLearned, Turn, TurnWriter, close_turn
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import DataError, StorageError
from undo_hpc.models.tokenizer import check_tokenizer
from undo_hpc.prompts import load_prompts
from undo_hpc.storage.atomic import fsync_dir, temporary_name, translate_os_error
from undo_hpc.storage.manifest import seal_of, sealed
from undo_hpc.storage.opening import open_binary
from undo_hpc.training.ranks import DistContext
from undo_hpc.training.soft_scores import SoftScores
from undo_hpc.training.spec import TrainSpec

_BATCH = 512  # rows tokenised in one call
_DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, BadZipFile, zlib.error)


@dataclass(frozen=True)
class EncodedSet:
    """Token ids of all examples, in flat arrays.

    Attributes:
        ids: tokens one example after another, int32, shape (tokens,).
        starts: where example i begins in `ids`; one more for the end. Shape (examples + 1,).
        prompts: tokens of each example's prompt. Shape (examples,).
        names: id of each example's row. Shape (examples,).
        end_token: the id that ends a turn, learned with every answer that is not cut.
        left_out: reason -> ids of rows that are not learned from.
        rows: rows that were read.
        keys: key of each example's scores, empty for one that is learned as text; None where nothing was scored. Shape (examples,).
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    prompts: npt.NDArray[np.int64]
    names: npt.NDArray[np.str_]
    end_token: int
    rows: int
    left_out: dict[str, list[str]] = field(default_factory=dict)
    keys: npt.NDArray[np.str_] | None = None

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each example, prompt and answer. Shape (examples,)."""
        return np.diff(self.starts)

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Tokens of each example that the loss falls on. Shape (examples,)."""
        return self.lengths - self.prompts

    @property
    def counts(self) -> dict[str, Any]:
        """Rows given and learned, and how many were left out for which reason."""
        left_out = {reason: len(ids) for reason, ids in self.left_out.items()}
        return {"rows_given": self.rows, "rows_learned": len(self), "rows_left_out": left_out}

    def tokens(self, index: int) -> npt.NDArray[np.int32]:
        """The tokens of one example."""
        return self.ids[self.starts[index] : self.starts[index + 1]]

    def __len__(self) -> int:
        return len(self.prompts)


def read_rows(paths: Iterable[str], *more: str) -> list[dict[str, Any]]:
    """The rows of parquet files, with the columns that training needs and `more`. Raises DataError where a file or column is missing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    needed = ["id", "problem", "teacher_solution", *more]
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            table = pq.ParquetFile(path).read(columns=needed)  # read_table would import pandas
        except FileNotFoundError as error:
            raise DataError(
                f"{path}: no such data file", hint="the merge stage writes it; run the same command again"
            ) from error
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(
                f"{path}: cannot be read as parquet: {error}", hint="run the merge stage again"
            ) from error
        if absent := sorted(set(needed) - set(table.column_names)):
            raise DataError(
                f"{path}: lacks the column {absent[0]!r}", hint=f"a distilled set has {', '.join(needed)}"
            )
        rows += table.to_pylist()
    return rows


class Encoder:
    """Tokenises prompt and answer of a row, and finds the answer's end.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        spec: for the prompt set, instruction, system prompt, the template's arguments and date, and what becomes of reasoning.

    Attributes:
        end_token: the id that ends a turn.
        end_from_template: whether the template writes it; else it is the tokenizer's end of text, put behind each answer.

    Raises:
        DataError: the tokenizer has no chat template, one that refuses the system prompt, or no end-of-text token.
    """

    def __init__(self, tokenizer: Any, spec: TrainSpec) -> None:
        check_tokenizer(
            tokenizer,
            name=spec.model,
            system_prompt=spec.system_prompt,
            template_kwargs=spec.chat_template_kwargs,
        )
        if tokenizer.eos_token_id is None:
            raise DataError(
                f"the tokenizer of {spec.model} has no end-of-text token",
                hint="set eos_token in its tokenizer_config.json",
            )
        self._tokenizer, self._instruction = tokenizer, spec.instruction
        self._prompts = load_prompts(spec.prompt)
        self._special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special.add(tokenizer.eos_token_id)
        self._arguments = {**clock_of(spec.date), **spec.chat_template_kwargs}
        self.writer = TurnWriter(
            self._render,
            source=str(tokenizer.chat_template),
            eos_token=tokenizer.eos_token,
            policy=spec.reasoning,
            system_prompt=spec.system_prompt,
            cover=PlainText.of(tokenizer).cover,
        )
        # The first special token behind an answer: a template may write more (Phi-3: `<|end|>`, then `<|endoftext|>`), but
        # generation ends there.
        closing = [i for i in self._ids([self.writer.closing])[0] if i in self._special]
        self.end_from_template = bool(closing)
        self.end_token: int = closing[0] if closing else tokenizer.eos_token_id

    def _render(self, messages: Sequence[Message], generation_prompt: bool) -> str:
        return rendered(
            lambda: self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generation_prompt, **self._arguments
            )
        )

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return ids_of(lambda pieces: self._tokenizer(pieces, add_special_tokens=False)["input_ids"], texts)

    def turn(self, row: Mapping[str, Any]) -> Turn | str:
        """The rendered prompt of a row and the text learned behind it; or the reason why it is not learned from."""
        problem, rationale = (row[key] or "" for key in ("problem", "teacher_solution"))
        if not problem.strip() or not rationale.strip():
            return "no problem or no answer"
        try:
            return self.writer.write(self._prompts.student(problem, self._instruction), rationale)
        except NotLearned as error:
            return str(error)

    def prompt_ids(self, problem: str) -> list[int]:
        """What stands before the student's answer to a problem, as it is at evaluation."""
        return self._ids(
            [self._render(self.writer.chat(self._prompts.student(problem, self._instruction)), True)]
        )[0]

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[list[int], list[int]] | str]:
        """Prompt ids and answer ids (end token last) of each row, or the reason why it cannot be learned from.

        The answer is tokenised in its place, behind the prompt: by itself, a SentencePiece tokenizer would put a space before it.
        Only where its beginning would melt into the prompt's end are the two tokenised apart, as they are at evaluation.
        """
        found: list[Any] = [self.turn(row) for row in rows]
        turns = [turn for turn in found if isinstance(turn, Turn)]
        if not turns:
            return found
        prompts = self._ids([turn.prompt for turn in turns])
        wholes = self._ids([turn.prompt + turn.target for turn in turns])
        encoded = []
        for turn, prompt, whole in zip(turns, prompts, wholes, strict=True):
            joined = whole[: len(prompt)] == prompt
            encoded.append(
                (prompt, self._close(whole[len(prompt) :] if joined else self._ids([turn.target])[0]))
            )
        texts = self._tokenizer.batch_decode(
            [answer or [] for _, answer in encoded], clean_up_tokenization_spaces=False
        )
        checked = iter(
            "the answer holds an end-of-turn token"
            if answer is None
            else (prompt, answer)
            if self._survives(turn.target, text)
            else "the tokenizer does not know some of its characters"
            for turn, (prompt, answer), text in zip(turns, encoded, texts, strict=True)
        )
        return [next(checked) if isinstance(turn, Turn) else turn for turn in found]

    def _survives(self, target: str, decoded: str) -> bool:
        """Whether the tokens under the loss give the whole text again (white space and Unicode's compatible forms aside)."""
        wanted, found = (
            "".join(unicodedata.normalize("NFKC", text).split())
            for text in (uncovered(target.removesuffix(self.writer.closing)), decoded)
        )
        return found.startswith(wanted)

    def _close(self, tail: list[int]) -> list[int] | None:
        return close_turn(tail, self.end_token, from_template=self.end_from_template)


Encoded = tuple[list[int], list[int]]  # prompt ids, answer ids


def encoded_rows(
    rows: list[dict[str, Any]], encoder: Encoder, config: TrainConfig
) -> Iterator[tuple[dict[str, Any], Encoded | str]]:
    """Each row with its tokens as they are learned, or with the reason why it is not learned from. Rows that have `answer_ids`, tokens
    of the student's own, keep just these."""
    for begin in range(0, len(rows), _BATCH):
        batch = rows[begin : begin + _BATCH]
        texts = iter(encoder.encode([row for row in batch if "answer_ids" not in row]))
        for row in batch:
            own = row.get("answer_ids")
            encoded = next(texts) if own is None else (encoder.prompt_ids(row["problem"]), list(own))
            yield row, encoded if isinstance(encoded, str) else _fitting(encoded[0], encoded[1], config)


def _fitting(prompt: list[int], answer: list[int], config: TrainConfig) -> Encoded | str:
    if len(prompt) + len(answer) <= config.max_length:
        return prompt, answer
    if config.too_long == "drop" or len(prompt) >= config.max_length:
        return f"longer than max_length ({config.max_length})"
    return prompt, answer[: config.max_length - len(prompt)]


def encode_rows(
    rows: list[dict[str, Any]], encoder: Encoder, config: TrainConfig, scores: SoftScores | None = None
) -> EncodedSet:
    """Encodes all rows and sorts out those that cannot be learned from.

    Args:
        scores: the teacher's scores of some of the rows.

    Raises DataError where none is left, with the counts of each reason.
    """
    flat: list[npt.NDArray[np.int32]] = []
    prompts: list[int] = []
    names: list[str] = []
    keys: list[str] = []
    left_out: dict[str, list[str]] = {}
    for row, encoded in encoded_rows(rows, encoder, config):
        key = str(row.get("key", ""))
        missing = scores.missing(key, encoded[1]) if scores and not isinstance(encoded, str) else ""
        if isinstance(encoded, str) or missing:
            left_out.setdefault(encoded if isinstance(encoded, str) else missing, []).append(str(row["id"]))
            continue
        prompt, answer = encoded
        flat.append(np.asarray(prompt + answer, dtype=np.int32))
        prompts.append(len(prompt))
        names.append(str(row["id"]))
        keys.append(key)
    if not flat:
        why = (
            "; ".join(f"{len(ids)} rows: {reason}" for reason, ids in left_out.items())
            or "the distilled set is empty"
        )
        raise DataError(f"there is nothing to learn from: {why}", hint=_hint(left_out))
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in flat])]).astype(np.int64)
    return EncodedSet(
        np.concatenate(flat),
        starts,
        np.asarray(prompts, dtype=np.int64),
        np.asarray(names),
        encoder.end_token,
        len(rows),
        left_out,
        np.asarray(keys) if scores else None,
    )


def _hint(left_out: Mapping[str, Sequence[str]]) -> str:
    """What to change where no row can be learned from, by the most frequent reason."""
    reason = max(left_out, key=lambda each: len(left_out[each]), default="")
    if "max_length" in reason:
        return "raise train.max_length, or set train.too_long to truncate"
    if "reasoning" in reason and "no answer" not in reason:
        return "set student.reasoning to strip: the answers behind the reasoning are learned (until a student is trained the same run continues)"
    return "look at the teacher's accepted rationales in the distilled set"


def encode_spec(spec: TrainSpec, tokenizer: Any) -> EncodedSet:
    """The examples of a spec, encoded."""
    if not spec.scores:
        return encode_rows(read_rows(spec.data), Encoder(tokenizer, spec), spec.config)
    scores = SoftScores(spec)
    return encode_rows(
        scores.rows(read_rows(spec.data, *scores.columns)), Encoder(tokenizer, spec), spec.config, scores
    )


def save_encoded(data: EncodedSet, path: Path) -> None:
    """Writes an encoded set durably, so that other ranks and later starts need not tokenise again.

    Raises StorageError where the disk is full.
    """
    temporary = temporary_name(path)
    meta = {"end_token": data.end_token, "rows": data.rows, "left_out": data.left_out}
    with translate_os_error(path):
        try:
            with temporary.open("wb") as file:
                np.savez(
                    file,
                    ids=data.ids,
                    starts=data.starts,
                    prompts=data.prompts,
                    names=data.names,
                    meta=np.asarray(json.dumps(sealed(meta))),
                    **({} if data.keys is None else {"keys": data.keys}),  # type: ignore[arg-type]
                )
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            fsync_dir(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def load_encoded(path: Path) -> EncodedSet:
    """Reads what `save_encoded` wrote; each array carries a checksum. Raises StorageError where the file is damaged."""
    try:
        with open_binary(path) as file, np.load(file, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            if meta.pop("seal", None) != seal_of(meta):
                raise ValueError("its counts have changed since it was written")
            ids, starts, prompts, names = (stored[name] for name in ("ids", "starts", "prompts", "names"))
            return EncodedSet(ids, starts, prompts, names, **meta, keys=stored.get("keys"))
    except _DAMAGE as error:
        raise StorageError(
            f"{path} is damaged ({error})", hint="remove it and run the same command again; it is made again"
        ) from error


def load_data(spec: TrainSpec, tokenizer: Any, dist_context: DistContext) -> EncodedSet:
    """The encoded examples: tokenised by rank 0 once, kept for the other ranks and for later starts."""
    key = f"{spec.data_digest or 'data'}-{abs(hash_of(spec)):x}"
    path = Path(spec.work_dir) / f"encoded-{key}.npz"

    found: list[EncodedSet] = []

    def encode() -> None:
        if path.exists():
            with contextlib.suppress(StorageError):  # damaged: made again
                return found.append(load_encoded(path))
        for old in path.parent.glob("encoded-*.npz"):
            old.unlink()
        save_encoded(encode_spec(spec, tokenizer), path)

    dist_context.on_rank_zero(encode)
    return found[0] if found else load_encoded(path)


def hash_of(spec: TrainSpec) -> int:
    """A number for everything beside the data that decides the tokens."""
    parts = [
        spec.model,
        spec.revision,
        load_prompts(spec.prompt).digest,
        spec.instruction,
        spec.system_prompt,
        spec.chat_template_kwargs,
        spec.reasoning,
        spec.date,
        spec.config.max_length,
        spec.config.too_long,
        spec.data,
        *([spec.scores, spec.distill, spec.seed] if spec.scores else []),
    ]
    return int.from_bytes(hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()[:8], "big")
