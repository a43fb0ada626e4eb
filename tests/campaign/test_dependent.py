"""What a run can only be told when another has ended: its number of tokens, and the data of a second student."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.campaign.build import campaign_file, played
from undo_hpc.campaign.answers import has_ended
from undo_hpc.campaign.definition import Campaign, load_campaign
from undo_hpc.campaign.dependent import arm_result, matched, second_result, transfer_config, transfers
from undo_hpc.campaign.state import CampaignDir
from undo_hpc.config.load import override
from undo_hpc.data.distilled import parquet_files
from undo_hpc.data.loading import load_problems, open_source
from undo_hpc.errors import ConfigError
from undo_hpc.storage.manifest import read_manifest, write_manifest

TEXT = """arms: {undo: {}, longer: {method.preset: one_shot, train.epochs: {best_of: [2, 4]}}, equal: {method.preset: blind, train.tokens: {match: undo}}}
seeds: [0]
primary: [[undo, equal]]
transfer: {arms: [undo], set: {student.model: "tiny:student-1", train.epochs: 2}}"""


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return load_campaign(campaign_file(tmp_path, TEXT))


def test_a_matched_arm_waits_for_the_other_and_gets_its_tokens(tmp_path: Path, campaign: Campaign) -> None:
    place, config = CampaignDir(tmp_path / "camp"), campaign.runs["equal", 0]
    assert config.train.tokens == 0 and matched(campaign, place, "equal", 0, config) is None
    assert matched(campaign, place, "undo", 0, config) is config, "nothing is asked of the others"
    run = played(place.run("undo", 0))
    object.__setattr__(campaign.config, "problem_set", "gsm")
    result = arm_result(campaign, place, "undo", 0)
    found = matched(campaign, place, "equal", 0, config)
    assert result is not None and found is not None and result.run.id == run.id
    assert found.train.tokens == result.ledger.student_tokens > 0
    assert found == config.model_copy(update={"train": found.train})


def test_of_several_values_the_best_on_validation_stands_for_the_arm(
    tmp_path: Path, campaign: Campaign
) -> None:
    place = CampaignDir(tmp_path / "camp")
    object.__setattr__(campaign.config, "problem_set", "gsm")
    played(place.run("longer/epochs-2", 0), "method.preset=one_shot", skill=0.2, iterations=1)
    assert arm_result(campaign, place, "longer", 0) is None, "the other has not ended"
    played(place.run("longer/epochs-4", 0), skill=0.9, iterations=2)
    chosen = arm_result(campaign, place, "longer", 0)
    assert chosen is not None and chosen.run.layout.root == place.run("longer/epochs-4", 0)


@pytest.mark.parametrize("student", ["last", "best"])
def test_a_run_that_was_continued_by_itself_is_compared_as_the_campaign_asked(
    tmp_path: Path, campaign: Campaign, student: str
) -> None:
    place = CampaignDir(tmp_path / "camp")
    for key, value in (("problem_set", "gsm"), ("student", student)):
        object.__setattr__(campaign.config, key, value)
    run = played(place.run("undo", 0))
    before = arm_result(campaign, place, "undo", 0)
    more = override(run.config, ["iterations=4"])
    assert not has_ended(replace(run, config=more)) and has_ended(replace(run, config=more), 2)
    shutil.rmtree(run.layout.root)
    played(place.run("undo", 0), iterations=3)
    after = arm_result(campaign, place, "undo", 0)
    assert before is not None and after is not None
    assert (after.iteration, after.accuracies, after.ledger) == (
        before.iteration,
        before.accuracies,
        before.ledger,
    )


def test_a_second_student_learns_word_for_word_what_the_arm_learned(
    tmp_path: Path, campaign: Campaign
) -> None:
    assert dict(transfers(campaign)) == {"transfer/undo": "undo"}
    run = played(tmp_path / "source")
    config = transfer_config(run, 1, campaign.second[0])
    assert (config.student.model, config.train.epochs, config.iterations) == ("tiny:student-1", 2, 1)
    assert config.evaluate == campaign.runs["undo", 0].evaluate and config.method.condition == "ground_truth"
    loaded = load_problems(config.data.train)
    rows = [
        row
        for path in parquet_files(run.layout.iteration(1).distilled)
        for row in pq.read_table(path).to_pylist()
    ]
    assert [(p.problem, p.ground_truth, p.solution) for p in loaded.problems] == [
        (row["problem"], row["gt"], row["teacher_solution"]) for row in rows
    ]


def test_a_second_student_of_data_that_its_arm_has_no_more_is_not_believed(
    tmp_path: Path, campaign: Campaign
) -> None:
    """After `regrade` an arm's rationales are others, and the second student's figures stood beside them as if it had learned those."""
    place = CampaignDir(tmp_path / "camp")
    object.__setattr__(campaign.config, "problem_set", "gsm")
    source = played(place.run("undo", 0))
    assert second_result(campaign, place, "transfer/undo", 0) is None
    second = played(place.run("transfer/undo", 0), iterations=1)
    arm = arm_result(campaign, place, "undo", 0)
    prepared = read_manifest(second.layout.prepared)
    assert arm is not None and prepared is not None
    _, identity, _ = open_source(transfer_config(source, arm.iteration, campaign.second[0]).data.train, None)
    read = replace(prepared, details=prepared.details | {"train_source": identity})
    write_manifest(second.layout.prepared, read)
    found = second_result(campaign, place, "transfer/undo", 0)
    assert found is not None and found.run.layout.root == second.layout.root
    shutil.rmtree(source.layout.root)
    played(place.run("undo", 0), "method.preset=blind", seed=5)
    with pytest.raises(ConfigError, match="other rationales than undo has now"):
        second_result(campaign, place, "transfer/undo", 0)
