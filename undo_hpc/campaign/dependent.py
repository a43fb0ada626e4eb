"""What rests on other runs of the campaign: whether they have ended, alike; a configuration that is known only then (their tokens, or data)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from undo_hpc.campaign.answers import RunResult, best_of, has_ended, read_result
from undo_hpc.campaign.definition import Campaign
from undo_hpc.campaign.state import CampaignDir
from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.finished import all_metrics
from undo_hpc.errors import ConfigError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.stages.verdicts import checker_version
from undo_hpc.storage.manifest import read_manifest

TRANSFER = "transfer"  # folder of the second students' runs, an arm each


def ended(campaign: Campaign, place: CampaignDir, name: str, seed: int) -> bool:
    """Whether a run has done what the campaign asks of it; second students have one iteration."""
    run_dir, asked = place.run(name, seed), campaign.runs.get((name, seed))
    return Layout(run_dir).config.exists() and has_ended(open_run(run_dir), asked.iterations if asked else 1)


def require_same_checker(campaign: Campaign, place: CampaignDir) -> None:
    """Raises ConfigError where runs of the campaign were graded by another checker than the rest, if any is left, will be."""
    if all(ended(campaign, place, name, seed) for name in campaign.names for seed in campaign.config.seeds):
        return
    for name, runs in place.existing(campaign).items():
        for seed, run in runs.items():
            now = checker_version(run.config)
            before = {str(m["checker"]) for m in all_metrics(run) if m.get("checker")} - {now}
            if before:
                raise ConfigError(
                    f"{name}, seed {seed} was graded by checker {min(before)}, and the rest would be by {now}",
                    hint=f"undo-hpc regrade {run.layout.root} --apply for each such run, then the same command again",
                )


def arm_result(campaign: Campaign, place: CampaignDir, arm: str, seed: int) -> RunResult | None:
    """An arm's result under a seed, of its candidates the one that validation chose; None until all of them have ended."""
    config = campaign.config
    found = []
    for name in campaign.candidates[arm]:
        run_dir = place.run(name, seed)
        if not Layout(run_dir).config.exists():
            return None
        asked = campaign.runs[name, seed].iterations
        result = read_result(open_run(run_dir), config.problem_set, config.student, asked)
        if result is None:
            return None
        found.append(result)
    return best_of(found)


def matched(
    campaign: Campaign, place: CampaignDir, name: str, seed: int, config: RunConfig
) -> RunConfig | None:
    """The configuration of a run with the tokens of the arm that it is matched to; None until that arm has ended."""
    arm = campaign.matched.get(name)
    if arm is None:
        return config
    result = arm_result(campaign, place, arm, seed)
    return override(config, [f"train.tokens={result.ledger.student_tokens}"]) if result else None


def transfers(campaign: Campaign) -> Mapping[str, str]:
    """Name of a second student's runs -> the arm whose data it learns from."""
    wanted: Sequence[str] = campaign.config.transfer.arms
    return {f"{TRANSFER}/{arm}": arm for arm in wanted}


def second_result(campaign: Campaign, place: CampaignDir, name: str, seed: int) -> RunResult | None:
    """The result of a second student; None until it and its arm have ended.

    Raises:
        ConfigError: it learned from other data than its arm has now, which was made again since, as after `regrade`.
    """
    run_dir, arm = place.run(name, seed), transfers(campaign)[name]
    source = arm_result(campaign, place, arm, seed)
    if source is None or not Layout(run_dir).config.exists():
        return None
    run, at = open_run(run_dir), source.run.layout.iteration(source.iteration)
    prepared, merged = read_manifest(run.layout.prepared), read_manifest(at.stage_manifest("merge"))
    if prepared is None or merged is None:
        return None
    read = {str(file.get("sha256")) for file in prepared.details.get("train_source", {}).get("files", [])}
    there = {output.sha256 for file, output in merged.outputs.items() if file.endswith(".parquet")}
    if read != there:
        raise ConfigError(
            f"{name}, seed {seed} learned from other rationales than {arm} has now: that arm was made again since, or another iteration is the best",
            hint=f"move {run_dir} away, and run the same command again",
        )
    return read_result(run, campaign.config.problem_set, "last", 1)


def transfer_config(source: Run, iteration: int, config: RunConfig) -> RunConfig:
    """A second student that learns from the rationales of an arm's run, and is evaluated as the arms are.

    Args:
        config: of that student, as the campaign's file gives it (`transfer.set`).
    """
    folder = source.layout.iteration(iteration).distilled
    fields = {"problem": "problem", "answer": "gt", "solution": "teacher_solution"}
    return override(
        config,
        [
            f"data.train={json.dumps({'path': str(folder), 'tiny': '', 'hub': '', 'sample': None, 'fields': fields, 'where': {}})}",
            "data.train.answer_from=plain",
            "data.diagnosis=0",
            "data.validation=0",
            "data.contamination=off",
            "iterations=1",
            "method.preset=ground_truth",
        ],
    )
