"""A campaign's directory: what was asked, frozen at the start, and the runs below it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from undo_hpc.campaign.definition import Campaign
from undo_hpc.config.differences import is_neutral, may_change
from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError, StorageError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.own_prompts import by_content
from undo_hpc.pipeline.run import Run, leaves, open_run
from undo_hpc.storage.atomic import expect_fields, read_json, write_json
from undo_hpc.storage.manifest import sealed, unseal
from undo_hpc.system.ownership import (
    require_no_planted_links,
    require_own_file,
    require_own_way,
    require_trusted,
)

RULES = {
    "name", "seeds", "primary", "problem_set", "student", "match", "positive_control", "null_control", "repeat", "transfer"
}  # fmt: skip

_ADJUSTABLE = "adjustable"  # that keys are kept which may change in a run and decide its results


@dataclass(frozen=True)
class CampaignDir:
    """The paths of a campaign."""

    root: Path

    @property
    def definition(self) -> Path:
        """What was asked, with the configuration of each arm."""
        return self.root / "campaign.resolved.json"

    @property
    def page(self) -> Path:
        """The campaign's page."""
        return self.root / "report" / "index.html"

    @property
    def results(self) -> Path:
        """The figures of the page, for programs."""
        return self.root / "results.json"

    @property
    def summary(self) -> Path:
        """The tables of the page as Markdown."""
        return self.root / "report" / "summary.md"

    def run(self, arm: str, seed: int) -> Path:
        """An ordinary run directory."""
        return self.root / arm / f"seed-{seed:03d}"

    def require_ours(self, names: Iterable[str]) -> None:
        """Runs in it that have ended are believed: no other user has made it, or can change it. Raises ConfigError."""
        require_own_way(self.root)
        require_trusted(self.root, "the campaign's directory")
        require_own_file(self.definition, "what was asked")
        require_no_planted_links([self.root, self.page.parent, *(self.root / name for name in names)])

    def existing(self, campaign: Campaign) -> dict[str, dict[int, Run]]:
        """The runs that have begun, by name (an arm's, or a candidate's) and seed."""
        return {
            name: {
                seed: open_run(self.run(name, seed))
                for seed in campaign.config.seeds
                if Layout(self.run(name, seed)).config.exists()
            }
            for name in campaign.names
        }


def frozen(campaign: Campaign, created: str) -> dict[str, Any]:
    """What may not change after the start: comparisons and their rules, seeds, and each arm's keys that belong to the results."""
    arms, by_seed = {}, {}
    for name in campaign.names:
        of_seed = {seed: _kept(campaign.runs[name, seed]) for seed in campaign.config.seeds}
        arms[name] = of_seed[campaign.config.seeds[0]]
        for seed, values in of_seed.items():
            differ = {key: value for key, value in values.items() if value != arms[name].get(key)}
            by_seed[f"{name}/{seed}"] = differ
    # without defaults: a key that a later version adds changes nothing of a campaign that has begun
    rules = campaign.config.model_dump(mode="json", include=RULES, exclude_defaults=True)
    more = {"matched": campaign.matched} if campaign.matched else {}
    return rules | more | {"arms": arms, "by_seed": by_seed, "created": created, _ADJUSTABLE: True}


def _kept(config: RunConfig) -> dict[str, Any]:
    return {
        key: value
        for key, value in by_content(leaves(config.model_dump(mode="json", exclude_defaults=True)))
        if not is_neutral(key) and key not in ("name", "seed")
    }


def begin(campaign: Campaign, place: CampaignDir) -> dict[tuple[str, int], RunConfig]:
    """Freezes the campaign at its first start, or checks that it is the one that was begun; returns the configuration of each run.

    A chat template that prints a date prints that of the campaign's start in all runs.

    Raises:
        ConfigError: the file was changed after the start.
    """
    created = time.strftime("%Y-%m-%d")
    if place.definition.exists():
        try:
            before = read_json(place.definition)
        except StorageError as error:
            raise StorageError(error.message, hint=error.hint, blocked=True) from error
        with expect_fields(place.definition):
            unseal(before)
            created = date.fromisoformat(before["created"]).isoformat()
        _require_same(before, frozen(campaign, created), place)
    else:
        write_json(place.definition, sealed(frozen(campaign, created)))
    dated = [f"{role}.date='{created}'" for role in ("teacher", "student")]
    return {
        key: override(config, [item for item in dated if not getattr(config, item.partition(".")[0]).date])
        for key, config in campaign.runs.items()
    }


def _require_same(before: dict[str, Any], now: dict[str, Any], place: CampaignDir) -> None:
    if _ADJUSTABLE not in before:  # begun when these keys were not kept: nobody can tell what they were
        for values in (*now["arms"].values(), *now["by_seed"].values()):
            for key in [key for key in values if may_change(key) and key != "iterations"]:
                del values[key]
        del now[_ADJUSTABLE]
    old, new = dict(by_content(leaves(before))), dict(leaves(now))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if changed:
        shown = [f"  {key}: begun with {old.get(key)!r}, now {new.get(key)!r}" for key in changed[:8]]
        raise ConfigError(
            f"the campaign in {place.root} was begun with another file:\n" + "\n".join(shown),
            hint="put the file back as it was, or give the campaign another name: what is compared is decided before it is looked at",
        )
