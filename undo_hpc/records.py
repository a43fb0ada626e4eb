"""The rows that flow through a run. Plain frozen dataclasses: what is written to disk is exactly their fields."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Self

SCHEMA_VERSION = 2  # of all files of a run directory
_WRITTEN_BY = {1: "0.1"}  # schema -> the version of undo-hpc that continues such a run
SPLITS = (
    "train",
    "diagnosis",
    "validation",
)  # the run's own problems; every other set that the student answers is a benchmark

Verdict = Literal["correct", "wrong", "no_answer", "unparsed", "timeout"]
AnswerKind = Literal["auto", "number", "expression", "letter", "text"]
JUDGED = "judge"  # the `method` of a verdict that a judge model gave
NOT_JUDGED = "judge failed"  # and of one that stays undecided, for the judge model did not answer
FinishReason = Literal["stop", "length", "error"]


def other_schema(version: object) -> tuple[str, str]:
    """A message and a hint for a file of another schema than SCHEMA_VERSION."""
    if isinstance(version, int) and version in _WRITTEN_BY:
        number = _WRITTEN_BY[version]
        return (
            f"this run was made by undo-hpc {number} (schema version {version}; this program reads {SCHEMA_VERSION})",
            f"continue it with undo-hpc {number}, or start a new run",
        )
    return (
        f"schema version {version}; this program reads {SCHEMA_VERSION}",
        "use the version of undo-hpc that made this run, or start a new run",
    )


def normalise_text(text: str) -> str:
    """Text as compared across splits: Unicode NFKC, lower case, runs of white space as one space."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip().lower()


def content_id(*parts: str) -> str:
    """A stable id from content: 16 hexadecimal digits of SHA-256 over the normalised parts."""
    joined = "\x1f".join(normalise_text(part) for part in parts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Row:
    """What all rows share: to a plain dictionary and back, unknown keys ignored (rows of a newer schema)."""

    def to_dict(self) -> dict[str, Any]:
        """The row as it stands on disk. Shallow, for rows hold no rows: `asdict` copies each value, which takes longer than writing it."""
        names = _names(type(self))  # type: ignore[arg-type]
        return dict(zip(names, attrgetter(*names)(self), strict=True))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The row from its form on disk. Raises TypeError where a required key is missing."""
        plan = _slots(cls)  # type: ignore[arg-type]
        if missing := plan.required - data.keys():
            raise TypeError(f"{cls.__name__}: {min(missing)} is missing")
        row, get = object.__new__(cls), data.get
        for put, name, default in plan.plain:
            put(row, get(name, default))
        for put, name, make in plan.made:
            put(row, data[name] if name in data else make())
        for put, name, default in plan.tuples:
            put(row, tuple(get(name, default)))
        return row


@cache
def _names(row: type[Row]) -> dict[str, None]:
    """The fields of a kind of row, in their order (`dataclasses.fields` for each of a million rows takes longer than reading them)."""
    return dict.fromkeys(f.name for f in fields(row))  # type: ignore[arg-type]


class _Slots(NamedTuple):
    """How a frozen row is filled: `__init__` sets each field by way of `object.__setattr__`, which takes three times as long.

    Each entry has what puts a value into its slot, the name, and the default, or what makes one; tuples are lists in JSON.
    """

    required: frozenset[str]
    plain: list[tuple[Any, str, Any]]
    made: list[tuple[Any, str, Any]]
    tuples: list[tuple[Any, str, Any]]


@cache
def _slots(row: type[Row]) -> _Slots:
    found = _Slots(
        frozenset(f.name for f in fields(row) if f.default is f.default_factory is MISSING),  # type: ignore[arg-type]
        [],
        [],
        [],
    )
    for f in fields(row):  # type: ignore[arg-type]
        put = getattr(row, f.name).__set__
        if f.default_factory is not MISSING:
            found.made.append((put, f.name, f.default_factory))
        else:
            (found.tuples if str(f.type).startswith("tuple") else found.plain).append(
                (put, f.name, f.default)
            )
    return found


@dataclass(frozen=True, slots=True)
class Problem(Row):
    """A problem with its ground truth. `problem_id` comes from the text; `idx` is its row number in the source; `metadata` are columns
    of the source that figures are told by (level, subject)."""

    problem_id: str
    problem: str
    ground_truth: str
    idx: int
    source: str = ""
    solution: str = ""
    kind: AnswerKind = "auto"
    options: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The row as it stands on disk; without `metadata` where there is none, as in runs of before it."""
        data = super(Problem, self).to_dict()
        if not self.metadata:
            del data["metadata"]
        return data


@dataclass(frozen=True, slots=True)
class Attempt(Row):
    """One completion of a problem by the teacher or the student, with its verdict. Every one is kept.

    `attempt` counts from 0 for each problem; `seed` follows from (run seed, iteration, problem id, attempt).
    `error` is set, and `text` empty, where the engine could not answer the request. `prompt_sha` is of the user's turn, `chat_sha`
    of what the engine put around it (chat template, system prompt, template arguments such as thinking on or off); the shard's
    manifest spells both out. Of a server's answers: `raw_finish_reason` is its own word, `sent` the parameters that it got (one that
    it refuses is missing there, `max_tokens` is what was sent), `reasoning` is "kept" (in `text`) or "dropped", empty where it told
    none apart. Where the sampled tokens are learned from, `ids` holds them (base64 of int32) and `log_q` their log-probabilities when they were
    sampled (base64 of float16); elsewhere both are left out. `error_kind` is `method.diagnosis`'s word on the first wrong answer to a problem of a
    split; elsewhere it is left out.
    """

    problem_id: str
    idx: int
    attempt: int
    style: str
    text: str
    verdict: Verdict
    answer: str
    method: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    seed: int
    temperature: float
    prompt_sha: str = ""
    error: str = ""
    flags: tuple[str, ...] = ()
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    chat_sha: str = ""
    raw_finish_reason: str = ""
    reasoning: Literal["", "kept", "dropped"] = ""
    sent: dict[str, Any] = field(default_factory=dict)
    ids: str = ""
    log_q: str = ""
    error_kind: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as it stands on disk."""
        data = super(Attempt, self).to_dict()
        if not self.ids:
            del data["ids"], data["log_q"]
        if not self.error_kind:
            del data["error_kind"]
        return data


@dataclass(frozen=True, slots=True)
class Example(Row):
    """A row of the distilled set: what the student learns from."""

    id: str
    idx: int
    problem: str
    teacher_solution: str
    gt: str
    iteration: int
    attempt: int
    style: str
    verdict: Verdict
    completion_tokens: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class Feedback(Row):
    """What the next iteration's teacher sees of one problem, and how the student failed it.

    `rationale_from_data`: the rationale is the data's own solution, which the student did not learn from.
    """

    problem_id: str
    idx: int
    split: str
    problem: str
    ground_truth: str
    rationale: str
    student_answer: str
    verdict: Verdict
    error_kind: str
    score: float
    unstable: bool = False
    rationale_from_data: bool = False


@dataclass(frozen=True, slots=True)
class ShownExample(Row):
    """A rationale and an attempt that are shown to the teacher: of another problem as an example, of its own as history.

    `score` is the share of the student's answers that are right, in words; empty where it is not shown. `iteration` is of history.
    """

    problem_id: str
    problem: str
    rationale: str
    student_answer: str
    verdict: str
    score: str = ""
    iteration: int = 0


@dataclass(frozen=True, slots=True)
class Target(Row):
    """What the teacher is asked of one problem: a row of a targets file, from which alone the prompt is rendered.

    `style` is `plain` for a first rationale and `refine` for a later one. Down to `failed_step` stands what the teacher is shown: its
    last rationale, an attempt of the student with its verdict (both empty where nothing of it is shown; another problem's in the
    control `shuffled`), the ground truth where `method.show_truth` asks for it; then what else the switches of the method add:
    the attempt's score, its kind of error or the step that fails, what was shown and tried in earlier iterations. The rest is for
    grading; `solution`, the data's own, is filled in the control `ground_truth` only, `given` where the rationales exist already.
    """

    problem_id: str
    idx: int
    style: str
    problem: str
    rationale: str = ""
    student_answer: str = ""
    verdict: str = ""
    shown_ground_truth: str = ""
    examples: tuple[ShownExample, ...] = ()
    history: tuple[ShownExample, ...] = ()
    score: str = ""
    error_kind: str = ""
    failed_step: str = ""
    ground_truth: str = ""
    kind: AnswerKind = "auto"
    options: tuple[str, ...] = ()
    solution: str = ""
    given: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The row as it stands on disk; `given` only where there is something."""
        row = super(Target, self).to_dict()
        if not self.given:
            del row["given"]
        return row

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The row from its form on disk. Raises TypeError where a required key is missing."""
        shown = {
            key: tuple(ShownExample.from_dict(row) for row in data.get(key, ()))
            for key in ("examples", "history")
        }
        return super(Target, cls).from_dict(data | shown)

    def to_problem(self) -> Problem:
        """The problem to grade an answer against."""
        return Problem(
            self.problem_id,
            self.problem,
            self.ground_truth,
            self.idx,
            solution=self.solution,
            kind=self.kind,
            options=self.options,
        )


@dataclass(frozen=True, slots=True)
class Grade(Row):
    """The checker's word on one answer. `answer` is what was extracted, `method` what said so, `boxed`: it stood in a box."""

    verdict: Verdict
    answer: str = ""
    method: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    boxed: bool = False

    @property
    def correct(self) -> bool:
        """True only for the verdict `correct`."""
        return self.verdict == "correct"
