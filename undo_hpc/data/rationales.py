"""Rationales that exist already: rows of any source, each found to be of a problem of the run, or counted as none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import FieldsConfig, RationalesConfig, SourceConfig
from undo_hpc.data.conversations import Unusable
from undo_hpc.data.fields import as_text, cell, resolve, value_of
from undo_hpc.data.loading import open_source
from undo_hpc.data.tables import BadRow
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.pipeline.layout import Layout, distilled_files
from undo_hpc.records import Problem, content_id
from undo_hpc.storage.manifest import read_manifest, verify_outputs
from undo_hpc.system.data_files import expanded
from undo_hpc.system.wording import counted

SHOWN = 3  # rows that a message names


@dataclass
class Rationales:
    """What a source gave.

    Attributes:
        texts: the distinct rationales of each problem, by its id, in the order of the source.
        rows: of the source; each is kept, or one of the following.
        held_out: rows whose problem is in validation or diagnosis, and is not learned from.
        unknown: rows whose problem is not of the run.
        unusable: rows without a problem or a rationale.
        twice: rows that repeat a rationale of the same problem.
        examples: a few rows that were not used, in words.
    """

    texts: dict[str, list[str]] = field(default_factory=dict)
    rows: int = 0
    held_out: int = 0
    unknown: int = 0
    unusable: int = 0
    twice: int = 0
    examples: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """For the manifest."""
        names = ("rows", "held_out", "unknown", "unusable", "twice")
        return {"problems": len(self.texts)} | {name: getattr(self, name) for name in names}


def load_rationales(
    config: RationalesConfig, train: Iterable[Problem], held_out: Iterable[Problem]
) -> Rationales:
    """Reads the rationales of the training problems.

    Args:
        config: the source, and which columns mean what.
        train: problems that may have rationales.
        held_out: problems of the run that are not learned from, to tell their rows from those of strangers.

    Raises:
        ConfigError: `run` is no run, or has no distilled set.
        DataError: the source cannot be read, or not one of its rows belongs to a training problem of the run.
    """
    source = _as_source(config)
    try:
        tables, identity, label = open_source(source, None)
        shapes = [resolve(source, table.columns, table.name) for table in tables]
    except DataError as error:
        raise _in_our_words(error) from error
    mine = {p.problem_id: p for p in train}
    others = {p.problem_id for p in held_out}
    key = "id" if config.run else config.id
    out = Rationales(source=identity)
    for table, columns in zip(tables, shapes, strict=True):
        if key and key not in table.columns:
            raise DataError(
                f"{table.name} has no column {key!r} for the ids of problems; it has {', '.join(map(repr, table.columns))}",
                hint="correct data.rationales.id, or leave it empty to find problems by their text",
            )
        for index in range(len(table)):
            out.rows += 1
            row = table.row(index)
            try:
                if isinstance(row, BadRow):
                    raise Unusable(row.reason)
                text = cell(row, columns.answer, "answer")
                question = "" if key else cell(row, columns.problem, "problem")
                found = as_text(value_of(row, key), key) if key else content_id(question)
            except Unusable as reason:
                out.unusable += 1
                _note(out, f"{table.where(index)}: {reason}")
                continue
            if found in mine:
                texts = out.texts.setdefault(found, [])
                out.twice += text in texts
                if text not in texts:
                    texts.append(text)
            elif found in others:
                out.held_out += 1
            else:
                out.unknown += 1
                _note(out, f"{table.where(index)}: {(question or found)[:80]!r}")
    if not out.texts:
        raise _none_fits(out, label, list(mine.values()), key)
    return out


def _note(out: Rationales, text: str) -> None:
    if len(out.examples) < SHOWN:
        out.examples.append(text)


def _none_fits(out: Rationales, label: str, train: list[Problem], key: str) -> DataError:
    parts = [(out.unknown, "of problems that the run does not have"), (out.held_out, "of problems that it holds out"),
             (out.unusable, "without a problem or a rationale")]  # fmt: skip
    told = ", ".join(f"{number:,} {what}" for number, what in parts if number)
    first = (
        f"; the run's first problem is {(train[0].problem_id if key else train[0].problem)[:80]!r}"
        if train
        else ""
    )
    return DataError(
        f"none of the {counted(out.rows, 'row')} of {label} is a rationale of a training problem of this run ({told}), "
        f"for example {'; '.join(out.examples) or label}{first}",
        hint="give the problems that these rationales were written for as data.train (the same file, where it holds their ground truths), "
        "or name the columns: data.rationales.problem, .rationale, .id",
    )


def _as_source(config: RationalesConfig) -> SourceConfig:
    fields = FieldsConfig(problem=config.problem, answer=config.rationale, solution=[])
    if config.run:
        return SourceConfig(path=str(_distilled_of(Path(config.run), config.iteration)), fields=fields)
    return SourceConfig(
        fields=fields, **config.model_dump(include={"path", "hub", "hub_config", "split", "revision"}, exclude_unset=True)
    )  # fmt: skip


def _distilled_of(run_dir: Path, iteration: int | None) -> Path:
    """The folder of another run's distilled set, its files as its manifest says. Raises ConfigError, DataError."""
    layout = Layout(expanded(run_dir).resolve())
    if not layout.config.exists():
        raise ConfigError(
            f"data.rationales.run: {run_dir} is not a run directory (it has no {layout.config.name})",
            hint="name the directory of a run; of a file or folder of rationales say data.rationales.path",
        )
    have = [k for k in layout.iterations() if layout.iteration(k).stage_manifest("merge").exists()]
    wanted = max(have, default=None) if iteration is None else iteration
    if wanted is None or wanted not in have:
        raise ConfigError(
            f"data.rationales: iteration {wanted} of {run_dir} has no distilled set"
            if wanted is not None
            else f"data.rationales: {run_dir} has no distilled set yet",
            hint=f"iterations with one: {', '.join(map(str, have)) or 'none'}",
        )
    at = layout.iteration(wanted)
    manifest = read_manifest(at.stage_manifest("merge"))
    problem = verify_outputs(layout.root, manifest, deep=True) if manifest else "its manifest is missing"
    if problem or not distilled_files(at.distilled):
        raise DataError(
            f"data.rationales: the distilled set of iteration {wanted} of {run_dir} is damaged: {problem}",
            hint="put the file back, or have that run make it again",
        )
    return at.distilled


def _in_our_words(error: DataError) -> DataError:
    """What reading problems calls an answer is a rationale here."""
    hint = (error.hint or "").replace("fields.answer", "data.rationales.rationale")
    hint = hint.replace("fields.problem", "data.rationales.problem").replace(
        "a template such as '{Body} {Question}'", "a template such as '{thinking} {answer}'"
    )
    message = error.message.replace("the answer:", "the rationale:")
    return DataError(f"data.rationales: {message}", hint=hint)
