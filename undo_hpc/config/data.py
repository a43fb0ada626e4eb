"""The configuration of problems: where they are read from, which columns mean what, and how they are split."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import field_validator, model_validator

from undo_hpc.config.fields import Section, result_field, runtime_field
from undo_hpc.records import AnswerKind


class FieldsConfig(Section):
    """Which columns of a source mean what. A list names candidates, the first present one wins; a text with braces is a template.

    A dotted name reads inside a column (reward_model.ground_truth); of a conversation (`messages`) the user's turn is the problem and
    the assistant's the answer.
    """

    problem: str | list[str] = result_field(
        ["problem", "question", "input"], "column(s) of the problem, or a template like '{Body} {Question}'"
    )
    answer: str | list[str] = result_field(
        ["answer", "gt", "output", "solution", "target"], "column(s) of the ground truth, or a template"
    )
    solution: str | list[str] = result_field(
        ["solution", "answer"], "column(s) of a worked solution, where there is one"
    )
    options: str = result_field(
        "",
        "column holding a list of choices, or {A: ..., B: ...}; they are lettered and put behind the question",
    )
    metadata: list[str] = result_field(
        [],
        "columns that are carried along, such as [level, subject]: accuracies are told for each of their values, too",
    )


def _column(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"the name of a column is text, and YAML reads {key!r} here: put it in quotes")
    return key


def _condition(key: Any, wanted: Any) -> Any:
    """A condition of `where` with dates as text. Raises ValueError where it is no scalar, list of scalars or {not: ...}."""
    if isinstance(wanted, dict) and list(wanted) == ["not"] and not isinstance(wanted["not"], dict):
        return {"not": _condition(key, wanted["not"])}
    if isinstance(wanted, list) and wanted and not any(isinstance(item, list | dict) for item in wanted):
        return [_condition(key, item) for item in wanted]
    if isinstance(wanted, date):
        return wanted.isoformat()
    if isinstance(wanted, dict | list):
        raise ValueError(
            f"the condition of {key!r} is neither a value, a list of values, nor {{not: value or list}}"
        )
    return None if isinstance(wanted, float) and wanted != wanted else wanted


class SourceConfig(Section):
    """Where problems come from: a local file (or folder), or a data set on the Hub."""

    path: str = result_field(
        "",
        "local JSONL, JSON, CSV, TSV (also .gz, .zst), parquet or Arrow file, a pattern like data/*.parquet, or a folder; wins over `hub`",
    )
    hub: str = result_field("", "id of a data set on the Hugging Face Hub")
    hub_config: str = result_field(
        "", "configuration of the data set on the Hub, or of a local copy with several"
    )
    split: str = result_field("train", "split of the Hub data set")
    revision: str = result_field("", "git revision of the Hub data set")
    tiny: str = result_field("", "a split of the embedded tiny world (train, test)")
    fields: FieldsConfig = result_field(FieldsConfig(), "which columns mean what")
    where: dict[str, Any] = result_field(
        {},
        "keep only rows whose column has this value, e.g. {category: math, ok: true}; a list means any of them, {not: proof} none of them",
    )
    answer_from: Literal["auto", "plain", "boxed", "hashes"] = result_field(
        "auto",
        "where the ground truth stands: the plain field, the last \\boxed{}, after ####, or whichever is found",
    )
    answer_kind: AnswerKind = result_field(
        "auto", "kind of answer: number, expression, letter, text, or auto"
    )
    answer_names: dict[str, str] = result_field(
        {}, "what an answer of the data is called where the words differ, e.g. {'True': 'yes', 'False': 'no'}"
    )
    sample: int | None = result_field(None, "use this many rows, drawn by `sample_seed`; null for all", ge=1)
    sample_seed: int = result_field(42, "seed of the draw")
    draw: Literal["rows", "datasets"] = result_field(
        "rows",
        "how `sample` draws: rows (a random number for each row), or datasets (the first rows of `Dataset.shuffle(seed)`, as others draw)",
    )
    licence: str = result_field("", "licence of the source, for the cards")

    @field_validator("where", mode="before")
    @classmethod
    def _conditions(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {_column(key): _condition(key, wanted) for key, wanted in value.items()}


class AddedEvaluation(Section):
    """A set of problems that the students of a run answer besides, added when the run has begun already."""

    benchmark: str = runtime_field(
        "", "name of an embedded benchmark, a YAML file, a data file or a Hub data set"
    )
    limit: int = runtime_field(0, "use the first N problems; 0 for all", ge=0)
    samples: int = runtime_field(0, "answers a problem; 0 takes evaluate.samples", ge=0)
    temperature: float | None = runtime_field(None, "null takes that of evaluate.sampling", ge=0)
    source: SourceConfig | None = runtime_field(None, "another source of the benchmark, e.g. a local file")

    @property
    def settings(self) -> dict[str, Any]:
        """What is told of its answers: how many problems and samples, and how they are drawn."""
        return self.model_dump(mode="json", include={"limit", "samples", "temperature"})


class RationalesConfig(Section):
    """Rationales that exist already: iteration 0 begins with them, and no teacher is asked. Each belongs to a training problem of the run."""

    path: str = result_field(
        "", "local file, pattern or folder of any format that `data.train.path` reads; wins over `hub`"
    )
    hub: str = result_field("", "id of a data set on the Hugging Face Hub")
    hub_config: str = result_field("", "configuration of the data set on the Hub")
    split: str = result_field("train", "split of the Hub data set")
    revision: str = result_field("", "git revision of the Hub data set")
    run: str = result_field("", "directory of another run, whose distilled set is taken")
    iteration: int | None = result_field(
        None, "iteration of that run; null for its last one with a distilled set", ge=0
    )
    problem: str | list[str] = result_field(
        ["problem", "question", "input", "prompt", "messages", "conversations"],
        "column(s) of the problem, by whose text a rationale finds its problem; the first present one wins",
    )
    rationale: str | list[str] = result_field(
        [
            "teacher_solution",
            "rationale",
            "generation",
            "response",
            "completion",
            "output",
            "solution",
            "messages",
            "conversations",
        ],
        "column(s) of the rationale; the first present one wins",
    )
    id: str = result_field("", "column with the run's own problem ids; empty finds problems by their text")

    def named(self) -> list[str]:
        """The sources that are given: none, or one."""
        return [name for name in ("path", "hub", "run") if getattr(self, name)]

    @model_validator(mode="after")
    def _have_one_source(self) -> RationalesConfig:
        if len(self.named()) > 1:
            raise ValueError(f"{' and '.join(self.named())} are given; rationales come from one of them")
        return self


class DataConfig(Section):
    """The training problems and how they are split."""

    train: SourceConfig = result_field(SourceConfig(), "the source of the training problems")
    rationales: RationalesConfig = result_field(
        RationalesConfig(), "rationales that exist already, for iteration 0"
    )
    diagnosis: int | float = result_field(
        0.1, "problems held out to find kinds of errors of the student: a number, or a share below 1", ge=0
    )
    validation: int | float = result_field(
        0.1, "problems held out to choose the iteration and to stop: a number, or a share below 1", ge=0
    )
    contamination: Literal["off", "report", "drop"] = result_field(
        "drop", "training problems whose text stands in a benchmark: leave, report, or drop them"
    )
    ngram: int = result_field(13, "length in words of an n-gram overlap that counts as contamination", ge=3)

    @field_validator("contamination", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML 1.1 reads a bare `off` as false
