"""A campaign as its file says it: a base configuration, arms, seeds, and the comparisons that are decided before any arm is looked at."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from undo_hpc.campaign.values import Values
from undo_hpc.config.differences import is_neutral
from undo_hpc.config.fields import Section, path_component, result_field, wrong_key
from undo_hpc.config.load import find_config, load_config, validate_section
from undo_hpc.config.schema import RunConfig
from undo_hpc.config.yaml_text import read_yaml
from undo_hpc.errors import ConfigError
from undo_hpc.records import SPLITS
from undo_hpc.system.data_files import data_file
from undo_hpc.system.ownership import require_not_for_everybody

ARM = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,40}")
# What must be the same in all arms: else their answers are not to the same items, or not judged alike.
SAME_ITEMS = ("evaluate", "grading")
Measure = Literal["teacher_tokens", "student_tokens", "problems"]
REPEATED = {"module": "undo_hpc.stages.repeat", "after": ["train"]}


def tells_runs_apart(key: str) -> bool:
    """Whether runs that differ in this key are of different arms: in a name, a seed or a place, or in `repeat`, which one run of a
    campaign has, they are not."""
    apart = key not in ("name", "seed", "stages") and not key.startswith(
        "stages.repeat."
    )  # `stages` is a leaf where there are none
    return apart and not is_neutral(key)


class MatchException(Section):
    """Compute in which a comparison cannot be matched, or is not meant to be: said before the start, and on the page."""

    pair: list[str] = result_field([], "the arms, as under `primary`")
    measures: list[Measure] = result_field([], "teacher_tokens, student_tokens, problems")
    reason: str = result_field("", "why, in words that follow a colon")

    @model_validator(mode="after")
    def _is_whole(self) -> MatchException:
        if len(self.pair) != 2 or not self.measures or not self.reason.strip():
            raise ValueError("an exception names a pair, at least one measure, and the reason")
        return self


class MatchConfig(Section):
    """How far two arms of a primary comparison may differ in compute; a share of the larger. A wider difference is shown as not matched."""

    teacher_tokens: float = result_field(
        0.1, "tokens that the teacher read and wrote in the whole run", ge=0, le=1
    )
    student_tokens: float = result_field(0.1, "tokens that the compared student was trained on", ge=0, le=1)
    problems: float = result_field(
        0.05, "distinct problems that the compared student learned from", ge=0, le=1
    )
    exceptions: list[MatchException] = result_field([], "comparisons that are not matched, with the reason")

    def reason(self, a: str, b: str, measure: str) -> str:
        """Why two arms are not matched in a measure; empty where the file does not say that."""
        for exception in self.exceptions:
            if {a, b} == set(exception.pair) and measure in exception.measures:
                return exception.reason.strip()
        return ""


class TransferConfig(Section):
    """A second student that learns from the rationales of arms, and is compared on the same problems."""

    arms: list[str] = result_field([], "the arms whose data it learns from")
    set: dict[str, Any] = result_field(
        {}, "values over those of all arms: the other student.model, its training"
    )


class CampaignConfig(Section):
    """A campaign."""

    name: str = result_field("campaign", "name of the campaign, and of its directory under checkpoints/")
    base: str = result_field(
        "tiny", "the configuration that all arms start from: a preset's name or a YAML file"
    )
    set: dict[str, Any] = result_field({}, "values over the base, for all arms; dotted keys or sections")
    seeds: list[int] = result_field([0, 1, 2], "a run for each arm and seed")
    arms: dict[str, dict[str, Any]] = result_field({}, "name -> values over the base; {} is the base itself")
    primary: list[list[str]] = result_field(
        [], "pairs of arms, [a, b], whose difference a - b is the question; corrected together (Holm)"
    )
    problem_set: str = result_field(
        "", "the benchmark on which the comparisons are made; no run chooses anything by it"
    )
    student: Literal["best", "last"] = result_field(
        "best",
        "the student of each run that is compared: of the iteration that its validation chose, or of its last",
    )
    match: MatchConfig = result_field(MatchConfig(), "how compute is matched")
    transfer: TransferConfig = result_field(TransferConfig(), "does the data help another student, too?")
    positive_control: list[str] = result_field(
        [], "[a, b]: arm a is known to be better than b; a campaign that does not see it can see nothing"
    )
    null_control: list[str] = result_field(
        [], "[a, b]: the same arm under two names, with other seeds; a difference between them is noise"
    )
    repeat: bool = result_field(
        True,
        "the student of the first arm and seed answers the test set twice, in other batches: how many answers change by that alone",
    )

    @field_validator("name")
    @classmethod
    def _one_component(cls, name: str) -> str:
        return path_component(name)

    @field_validator("positive_control", "null_control", mode="after")
    @classmethod
    def _one_pair(cls, value: list[str]) -> list[str]:
        if value and (len(value) != 2 or value[0] == value[1]):
            raise ValueError(f"{value} is no pair of two arms")
        return value

    @field_validator("primary", mode="after")
    @classmethod
    def _pairs(cls, value: list[list[str]]) -> list[list[str]]:
        for pair in value:
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ValueError(f"{pair} is no pair of two arms")
        if len({tuple(sorted(pair)) for pair in value}) < len(value):
            raise ValueError("a comparison is given twice")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> CampaignConfig:
        if len(self.arms) < 2:
            raise wrong_key(("arms",), f"a campaign compares at least two arms; there are {len(self.arms)}")
        for name in self.arms:
            if not ARM.fullmatch(name) or name in ("report", "transfer"):
                raise wrong_key(
                    ("arms", name),
                    "the name of an arm is a folder's: letters, digits, - and _; not report or transfer",
                )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise wrong_key(
                ("seeds",),
                "seeds are whole numbers from 0, at least one, each once: a repeated one adds no evidence",
            )
        named = [*self.primary, self.positive_control, self.null_control, self.transfer.arms]
        unknown = sorted({name for names in named for name in names} - self.arms.keys())
        if unknown or not self.primary:
            there = f"the arms are {', '.join(self.arms)}"
            what = (
                f"there is no arm {unknown[0]!r}"
                if unknown
                else "at least one comparison is named before the start"
            )
            raise wrong_key(("primary",), f"{what}; {there}")
        pairs = [set(pair) for pair in self.primary]
        if strange := [e.pair for e in self.match.exceptions if set(e.pair) not in pairs]:
            raise wrong_key(("match", "exceptions"), f"{strange[0]} is no comparison under `primary`")
        if not self.problem_set or self.problem_set in SPLITS:
            raise wrong_key(
                ("problem_set",),
                "name a benchmark; the runs' own splits are learned from or decide the iteration",
            )
        return self


@dataclass(frozen=True)
class Campaign:
    """A campaign with the configuration of each run.

    Attributes:
        runs: by (name, seed). An arm has one name, its own, or with `best_of` one for each value.
        candidates: the names of each arm.
        matched: name -> the arm on whose number of tokens its students are trained.
        second: the configuration of the second student by seed, empty where none is asked for.
    """

    config: CampaignConfig
    runs: dict[tuple[str, int], RunConfig]
    candidates: dict[str, tuple[str, ...]]
    matched: dict[str, str] = field(default_factory=dict)
    second: dict[int, RunConfig] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of all groups of runs, arm by arm."""
        return [name for names in self.candidates.values() for name in names]

    def arm(self, name: str) -> RunConfig:
        """The configuration of an arm, or of one of its candidates, under the first seed."""
        return self.runs[self.candidates.get(name, (name,))[0], self.config.seeds[0]]

    def candidates_of(self, name: str) -> list[RunConfig]:
        """The configurations of an arm under the first seed: one, or with `best_of` one for each value."""
        return [self.runs[candidate, self.config.seeds[0]] for candidate in self.candidates[name]]


def find_campaign(name_or_file: str) -> Path:
    """The file of that name; one of the project's goes before a file in the working folder. Raises ConfigError that lists those of the project."""
    path = Path(name_or_file)
    folder = data_file("launchers/campaigns")
    if "/" not in name_or_file and (folder / f"{name_or_file}.yaml").is_file():
        path = folder / f"{name_or_file}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"no such campaign file: {name_or_file}", hint=f"those of the project: {there}")
    return path


def base_file(path: Path, base: str) -> Path:
    """The file that a campaign's arms start from: beside the campaign's file, or as `--config` finds it. Raises ConfigError."""
    return (path.parent / base if (path.parent / base).is_file() else find_config(base)).resolve()


def load_campaign(path: Path, sets: list[str] | None = None, base: Path | None = None) -> Campaign:
    """A campaign from its file, every arm's configuration resolved.

    Args:
        sets: `--set` values for all runs, over those of the file.
        base: the file of the base, where its name would not be found (a job's copy of the code has no presets).

    Raises:
        ConfigError: a wrong key (with its file and line), or arms that cannot be compared.
    """
    require_not_for_everybody(path)
    config = validate_section(CampaignConfig, read_yaml(path))
    start = str(base or base_file(path, config.base))
    runs: dict[tuple[str, int], RunConfig] = {}
    candidates: dict[str, tuple[str, ...]] = {}
    matched: dict[str, str] = {}

    def resolved(values: Values, name: str, seed: int, number: int, *more: str) -> RunConfig:
        title = f"{config.name}-{name.replace('/', '-')}-{seed}"
        own = [f"seed={seed + values.seed_shift}", f"name={json.dumps(title)}", *more]
        position = config.seeds.index(seed)
        try:
            return load_config(start, [*values.sets(position, number), *(sets or []), *own])
        except ConfigError as error:
            raise ConfigError(f"{path}, arm {name}: {error.message}", hint=error.hint) from error

    for arm, own in config.arms.items():
        values = Values(config.set, own, path, arm)
        if values.match and values.match not in candidates:
            raise ConfigError(
                f"{path}, arm {arm}: matched to {values.match!r}, which is no arm before it",
                hint="an arm is matched to one that stands above it under `arms`",
            )
        candidates[arm] = values.names
        for number, name in enumerate(values.names):
            if values.match:
                matched[name] = values.match
            for seed in config.seeds:
                again = [] if runs or not config.repeat else [f"stages.repeat={json.dumps(REPEATED)}"]
                runs[name, seed] = resolved(values, name, seed, number, *again)
    second = {}
    if config.transfer.arms:
        values = Values(config.set, config.transfer.set, path, "transfer")
        second = {seed: resolved(values, "transfer", seed, 0) for seed in config.seeds}
    campaign = Campaign(config, runs, candidates, matched, second)
    _require_comparable(campaign, path)
    return campaign


def _require_comparable(campaign: Campaign, path: Path) -> None:
    """Raises where arms would not answer the same items under the same rules, or an arm could not choose among its values."""
    (first, _), reference_run = next(iter(campaign.runs.items()))
    reference = reference_run.model_dump(mode="json")
    second = {("transfer", seed): run for seed, run in campaign.second.items()}
    for (name, seed), run in [*campaign.runs.items(), *second.items()]:
        other = run.model_dump(mode="json")
        for key in SAME_ITEMS:
            if other[key] != reference[key]:
                whose = f"arms {first} and {name}" if name != first else f"seed {seed} and the first seed"
                raise ConfigError(
                    f"{path}: {whose} differ in {key}, and cannot be compared on the same items",
                    hint=f"give {key} under `set`, for all arms",
                )
    for arm, names in campaign.candidates.items():
        if len(names) > 1 and not campaign.arm(arm).data.validation:
            raise ConfigError(
                f"{path}, arm {arm}: best_of chooses on validation, and data.validation is 0",
                hint="set data.validation under `set`",
            )
    _require_different(campaign, path)
    if campaign.second and all(
        run.student.model == campaign.runs[first, seed].student.model for seed, run in campaign.second.items()
    ):
        raise ConfigError(
            f"{path}: transfer names no other student: {reference_run.student.model} would learn the same data once more",
            hint="give transfer.set a student.model",
        )
    benchmarks = [Path(name).stem for name in reference_run.evaluate.benchmarks]
    if campaign.config.problem_set not in benchmarks:
        raise ConfigError(
            f"{path}: problem_set is {campaign.config.problem_set!r}, and evaluate.benchmarks are {benchmarks}",
            hint="name one of them",
        )


def _require_different(campaign: Campaign, path: Path) -> None:
    """Raises where both arms of a comparison have a run with the same values under the same seed: it would be compared with itself."""
    config = campaign.config
    for a, b in [*config.primary, *(pair for pair in (config.positive_control, config.null_control) if pair)]:
        seen: dict[str, tuple[str, int]] = {}
        for arm in (a, b):
            for name, seed in ((name, seed) for name in campaign.candidates[arm] for seed in config.seeds):
                run = campaign.runs[name, seed].model_copy(update={"name": "", "stages": {}})
                values = run.model_dump_json() + campaign.matched.get(name, "")
                before = seen.setdefault(values, (arm, seed))
                if before[0] != arm:
                    raise ConfigError(
                        f"{path}: {a} under seed {before[1]} and {b} under seed {seed} are the same run, and would be compared with itself",
                        hint=f"give {b} other values, or for the same arm under other seeds `seed: {{add: 100}}`",
                    )
