"""From rows of the distilled set to token ids with a known answer part: what the student sees, and what it is judged on.

The prompt is tokenised exactly as it will be at examination (the chat template with the generation prompt); the answer begins
where that ends and stops at the template's own end of turn. The loss falls on the answer and that one end token, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import DataError
from undo_hpc.models import check_tokenizer
from undo_hpc.prompts import load_prompts
from undo_hpc.storage.atomic import translate_os_error
from undo_hpc.training.spec import TrainSpec

_BATCH = 512  # rows tokenised in one call
_PROBE = "Two."


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
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    prompts: npt.NDArray[np.int64]
    names: npt.NDArray[np.str_]
    end_token: int
    rows: int
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each example, prompt and answer. Shape (examples,)."""
        return np.diff(self.starts)

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Tokens of each example that the loss falls on. Shape (examples,)."""
        return self.lengths - self.prompts

    def tokens(self, index: int) -> npt.NDArray[np.int32]:
        """The tokens of one example."""
        return self.ids[self.starts[index] : self.starts[index + 1]]

    def __len__(self) -> int:
        return len(self.prompts)


def read_rows(paths: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of parquet files, with the columns that training needs. Raises DataError where a file or column is missing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    needed = ["id", "problem", "teacher_solution"]
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
        spec: for the prompt set, instruction, system prompt and the template's arguments.

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
        self._tokenizer, self._spec = tokenizer, spec
        self._prompts = load_prompts(spec.prompt)
        self._special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special.add(tokenizer.eos_token_id)
        self.end_token, self.end_from_template = self._find_end()

    def _messages(self, problem: str, answer: str | None) -> list[dict[str, str]]:
        system, user = self._spec.system_prompt, self._prompts.student(problem, self._spec.instruction)
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": user})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        return messages

    def _render(self, problem: str, answer: str | None) -> str:
        text = self._tokenizer.apply_chat_template(
            self._messages(problem, answer),
            tokenize=False,
            add_generation_prompt=answer is None,
            **self._spec.chat_template_kwargs,
        )
        return str(text)

    def texts(self, problem: str, answer: str) -> tuple[str, str]:
        """The rendered prompt, and what follows it in the whole conversation (the answer and the template's closing).

        Raises DataError where the template does not continue its own generation prompt.
        """
        prompt, whole = self._render(problem, None), self._render(problem, answer)
        if not whole.startswith(prompt):
            at = next(
                (i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b),
                min(len(prompt), len(whole)),
            )
            raise DataError(
                f"the chat template of {self._spec.model} writes a conversation that does not begin with its own generation "
                f"prompt: expected {prompt[at : at + 40]!r}, found {whole[at : at + 40]!r} at character {at}",
                hint="set student.chat_template_kwargs as at examination (e.g. {enable_thinking: false}), or mend the template",
            )
        return prompt, whole[len(prompt) :]

    def _find_end(self) -> tuple[int, bool]:
        """The token that the template closes an answer with, else the tokenizer's end-of-text; and whether it is the template's.

        It is the first special one behind the answer: a template may write more (Phi-3: `<|end|>`, then `<|endoftext|>`), but
        generation ends there.
        """
        _, tail = self.texts("1+1?", _PROBE)
        closing = tail.rpartition(_PROBE)[2]
        found = [i for i in self._ids([closing])[0] if i in self._special]
        return (found[0], True) if found else (self._tokenizer.eos_token_id, False)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def encode(self, rows: list[dict[str, Any]]) -> list[tuple[list[int], list[int] | None]]:
        """Prompt ids and answer ids (end token last) of each row; None where the answer itself holds an end token.

        The answer is tokenised in its place, behind the prompt: by itself, a SentencePiece tokenizer would put a space before it.
        Only where its beginning would melt into the prompt's end are the two tokenised apart, as they are at examination.
        """
        pairs = [self.texts(row["problem"], row["teacher_solution"]) for row in rows]
        prompts, wholes = (
            self._ids([prompt for prompt, _ in pairs]),
            self._ids([prompt + tail for prompt, tail in pairs]),
        )
        return [
            (
                prompt,
                self._close(whole[len(prompt) :] if whole[: len(prompt)] == prompt else self._ids([tail])[0]),
            )
            for prompt, whole, (_, tail) in zip(prompts, wholes, pairs, strict=True)
        ]

    def _close(self, tail: list[int]) -> list[int] | None:
        ends = [at for at, token in enumerate(tail) if token == self.end_token]
        if not self.end_from_template:
            return None if ends else [*tail, self.end_token]
        return tail[: ends[0] + 1] if len(ends) == 1 else None


def encode_rows(rows: list[dict[str, Any]], encoder: Encoder, config: TrainConfig) -> EncodedSet:
    """Encodes all rows and sorts out those that cannot be learned from.

    Raises DataError where none is left, with the counts of each reason.
    """
    flat: list[npt.NDArray[np.int32]] = []
    prompts: list[int] = []
    names: list[str] = []
    left_out: dict[str, list[str]] = {}
    for begin in range(0, len(rows), _BATCH):
        batch = []
        for row in rows[begin : begin + _BATCH]:
            if not (row["problem"] or "").strip() or not (row["teacher_solution"] or "").strip():
                left_out.setdefault("no problem or no answer", []).append(row["id"])
            else:
                batch.append(row)
        for row, (prompt, answer) in zip(batch, encoder.encode(batch) if batch else [], strict=True):
            if answer is None:
                left_out.setdefault("the answer holds an end-of-turn token", []).append(row["id"])
                continue
            if len(prompt) + len(answer) > config.max_length:
                if config.too_long == "drop" or len(prompt) >= config.max_length:
                    left_out.setdefault(f"longer than max_length ({config.max_length})", []).append(row["id"])
                    continue
                answer = answer[: config.max_length - len(prompt)]
            flat.append(np.asarray(prompt + answer, dtype=np.int32))
            prompts.append(len(prompt))
            names.append(str(row["id"]))
    if not flat:
        why = (
            "; ".join(f"{len(ids)} rows: {reason}" for reason, ids in left_out.items())
            or "the distilled set is empty"
        )
        raise DataError(
            f"there is nothing to learn from: {why}",
            hint="raise train.max_length, or look at the teacher's accepted rationales with `undo-hpc status`",
        )
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in flat])]).astype(np.int64)
    return EncodedSet(
        np.concatenate(flat),
        starts,
        np.asarray(prompts, dtype=np.int64),
        np.asarray(names),
        encoder.end_token,
        len(rows),
        left_out,
    )


def encode_spec(spec: TrainSpec, tokenizer: Any) -> EncodedSet:
    """The examples of a spec, encoded."""
    return encode_rows(read_rows(spec.data), Encoder(tokenizer, spec), spec.config)


def save_encoded(data: EncodedSet, path: Path) -> None:
    """Writes an encoded set beside and renames it, so that other ranks and later starts need not tokenise again.

    Raises StorageError where the disk is full.
    """
    import json
    import os

    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.npz")
    meta = {"end_token": data.end_token, "rows": data.rows, "left_out": data.left_out}
    with translate_os_error(path):
        try:
            np.savez(
                temporary,
                ids=data.ids,
                starts=data.starts,
                prompts=data.prompts,
                names=data.names,
                meta=np.asarray(json.dumps(meta)),
            )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def load_encoded(path: Path) -> EncodedSet:
    """Reads what `save_encoded` wrote."""
    import json

    with np.load(path, allow_pickle=False) as stored:
        meta = json.loads(str(stored["meta"]))
        return EncodedSet(stored["ids"], stored["starts"], stored["prompts"], stored["names"], **meta)
