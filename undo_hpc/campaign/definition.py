"""A campaign as its file says it: a base configuration, arms, seeds, and the comparisons that are decided before any arm is looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from undo_hpc.config.fields import Section, result_field, wrong_key
from undo_hpc.config.load import find_config, load_config, resolve_paths, validate_section
from undo_hpc.config.schema import RunConfig
from undo_hpc.config.yaml_text import read_yaml
from undo_hpc.errors import ConfigError
from undo_hpc.records import SPLITS
from undo_hpc.system.data_files import data_file

ARM = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,40}")
# What must be the same in all arms: else their answers are not to the same items, or not judged alike.
SAME_ITEMS = ("evaluate", "grading")


class MatchConfig(Section):
    """How far two arms of a primary comparison may differ in compute; a share of the larger. A wider difference is shown as not matched."""

    teacher_tokens: float = result_field(
        0.1, "tokens that the teacher read and wrote in the whole run", ge=0, le=1
    )
    student_tokens: float = result_field(0.1, "tokens that the compared student was trained on", ge=0, le=1)
    problems: float = result_field(
        0.05, "distinct problems that the compared student learned from", ge=0, le=1
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
            if not ARM.fullmatch(name):
                raise wrong_key(("arms", name), "the name of an arm is a folder's: letters, digits, - and _")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise wrong_key(
                ("seeds",),
                "seeds are whole numbers from 0, at least one, each once: a repeated one adds no evidence",
            )
        unknown = sorted({name for pair in self.primary for name in pair} - self.arms.keys())
        if unknown or not self.primary:
            there = f"the arms are {', '.join(self.arms)}"
            what = (
                f"there is no arm {unknown[0]!r}"
                if unknown
                else "at least one comparison is named before the start"
            )
            raise wrong_key(("primary",), f"{what}; {there}")
        if not self.problem_set or self.problem_set in SPLITS:
            raise wrong_key(
                ("problem_set",),
                "name a benchmark; the runs' own splits are learned from or decide the iteration",
            )
        return self


@dataclass(frozen=True)
class Campaign:
    """A campaign with the configuration of each run, by (arm, seed)."""

    config: CampaignConfig
    runs: dict[tuple[str, int], RunConfig]

    def arm(self, name: str) -> RunConfig:
        """The configuration of an arm under the first seed."""
        return self.runs[name, self.config.seeds[0]]


def find_campaign(name_or_file: str) -> Path:
    """The file of that name. Raises ConfigError that lists the campaigns of the project."""
    path = Path(name_or_file)
    folder = data_file("launchers/campaigns")
    if not path.is_file() and (folder / f"{name_or_file}.yaml").is_file():
        path = folder / f"{name_or_file}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"no such campaign file: {name_or_file}", hint=f"those of the project: {there}")
    return path


def load_campaign(path: Path, sets: list[str] | None = None) -> Campaign:
    """A campaign from its file, every arm's configuration resolved.

    Args:
        sets: `--set` values for all runs, over those of the file.

    Raises:
        ConfigError: a wrong key (with its file and line), or arms that cannot be compared.
    """
    config = validate_section(CampaignConfig, read_yaml(path))
    base = config.base
    if (path.parent / base).is_file():
        base = str((path.parent / base).resolve())
    find_config(base)
    runs = {}
    for arm, values in config.arms.items():
        given = [*_sets(config.set, path), *_sets(values, path), *(sets or [])]
        for seed in config.seeds:
            own = [f"seed={seed}", f"name={json.dumps(f'{config.name}-{arm}-{seed}')}"]
            try:
                runs[arm, seed] = load_config(base, [*given, *own])
            except ConfigError as error:
                raise ConfigError(f"{path}, arm {arm}: {error.message}", hint=error.hint) from error
    campaign = Campaign(config, runs)
    _require_comparable(campaign, path)
    return campaign


def _sets(values: dict[str, Any], path: Path) -> Iterator[str]:
    """Values of an arm as `--set` takes them; relative paths are meant from the campaign's file."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = str(key).split(".")
        target = nested
        for part in sections:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise ConfigError(
                    f"{path}: '{key}': '{part}' is given as a value, too", hint="give one of both"
                )
        target[last] = value
    if "seed" in nested or "name" in nested:
        raise ConfigError(
            f"{path}: an arm sets its seed or name", hint="seeds stand under `seeds`, names are the arms'"
        )
    resolve_paths(nested, path.resolve().parent)
    for key, value in nested.items():
        yield f"{key}={json.dumps(value)}"


def _require_comparable(campaign: Campaign, path: Path) -> None:
    """Raises where arms would not answer the same items under the same rules."""
    first, *others = campaign.config.arms
    reference = campaign.arm(first).model_dump(mode="json")
    for name in others:
        other = campaign.arm(name).model_dump(mode="json")
        for key in SAME_ITEMS:
            if other[key] != reference[key]:
                raise ConfigError(
                    f"{path}: arms {first} and {name} differ in {key}, and cannot be compared on the same items",
                    hint=f"give {key} under `set`, for all arms",
                )
    names = [Path(name).stem for name in campaign.arm(first).evaluate.benchmarks]
    if campaign.config.problem_set not in names:
        raise ConfigError(
            f"{path}: problem_set is {campaign.config.problem_set!r}, and evaluate.benchmarks are {names}",
            hint="name one of them",
        )
