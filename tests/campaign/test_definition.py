"""A campaign file says what is compared; what could not be compared is refused with its line, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.build import campaign_file
from undo_hpc.campaign.definition import find_campaign, load_campaign
from undo_hpc.campaign.forecast import forecast
from undo_hpc.campaign.state import CampaignDir, begin
from undo_hpc.config.load import load_config
from undo_hpc.errors import ConfigError
from undo_hpc.system.data_files import data_file


def test_each_arm_and_seed_is_an_ordinary_configuration(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "problem.txt").write_text("{{ problem }}")
    arms = "arms: {undo: {}, other: {method: {preset: undo_paper}, train.epochs: 2, teacher.prompt: words}}\nprimary: [[undo, other]]"
    campaign = load_campaign(campaign_file(tmp_path, arms), ["generate.shards=1"])
    assert list(campaign.runs) == [("undo", 0), ("undo", 1), ("other", 0), ("other", 1)]
    expected = load_config(
        "tiny",
        ["iterations=2", "method.preset=undo_paper", "train.epochs=2", f"teacher.prompt={tmp_path}/words", "generate.shards=1",
         "seed=1", "name=mine-other-1"],
    )  # fmt: skip
    assert campaign.runs["other", 1] == expected
    assert (
        campaign.arm("undo").method.regenerate == "wrong" and campaign.arm("other").method.regenerate == "all"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [0, 1, 0]", r"campaign\.yaml, line 4: 'seeds': .*a repeated one adds no evidence"),
        ("seeds: []", "at least one"),
        ("arms: {undo: {}}", "at least two arms"),
        ("arms: {undo: {}, a/b: {}}", "the name of an arm is a folder's"),
        ("primary: [[undo, bilnd]]", "there is no arm 'bilnd'; the arms are undo, blind"),
        ("primary: [[undo, undo]]", "is no pair of two arms"),
        ("primary: [[undo, blind], [blind, undo]]", "given twice"),
        ("primary: []", "at least one comparison is named before the start"),
        ("problem_set: validation", "the runs' own splits"),
        ("problem_set: gsm8k", r"evaluate.benchmarks are \['tiny'\]"),
        ("arm: {}", "unknown key 'arm'"),
        ("arms: {undo: {}, blind: {method.conditoin: blind}}", r"arm blind: .*conditoin"),
        ("arms: {undo: {}, blind: {seed: 3}}", "sets its seed or name"),
        ("arms: {undo: {}, blind: {evaluate.limit: 9}}", "undo and blind differ in evaluate"),
        ("arms: {undo: {}, blind: {train: 3, train.epochs: 2}}", "'train' is given as a value, too"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_campaign(campaign_file(tmp_path, text))


def test_a_changed_campaign_is_told_before_anything_starts(tmp_path: Path) -> None:
    place = CampaignDir(tmp_path / "camp")
    first = begin(load_campaign(campaign_file(tmp_path)), place)
    before = place.definition.read_bytes()
    assert begin(load_campaign(campaign_file(tmp_path), ["generate.shards=1"]), place).keys() == first.keys()
    for text, key in (
        ("primary: [[blind, undo]]", "primary"),
        ("seeds: [0, 1, 2]", "seeds"),
        ("set: {iterations: 3}", r"arms\.undo\.iterations"),
        ("arms: {undo: {}, blind: {method.preset: shuffled}}", r"arms\.blind\.method\.condition"),
        ("student: last", "student"),
    ):
        with pytest.raises(
            ConfigError, match=f"was begun with another file(.|\n)*{key}: begun with"
        ) as error:
            begin(load_campaign(campaign_file(tmp_path, text)), place)
        assert "another name" in error.value.hint and place.definition.read_bytes() == before


def test_all_runs_of_a_campaign_print_the_date_of_its_start(tmp_path: Path) -> None:
    configs = begin(load_campaign(campaign_file(tmp_path)), CampaignDir(tmp_path / "camp"))
    assert (
        len({(c.teacher.date, c.student.date) for c in configs.values()}) == 1
        and configs["undo", 0].teacher.date
    )


def test_the_forecast_says_what_cannot_be_seen_or_matched(tmp_path: Path) -> None:
    text = "set: {iterations: 3, evaluate.limit: 60}\narms: {undo: {}, blind: {method.preset: blind}, one: {method.preset: one_shot, train.epochs: 9}}"
    text += "\nprimary: [[undo, blind], [undo, one]]"
    said = forecast(load_campaign(campaign_file(tmp_path, text)))
    lines = " ".join(said.lines())
    assert (said.items, said.runs, said.shared) == (60, 6, 2) and said.detectable > 0.1
    assert "undo and one ask the teacher differently" in lines and "undo and one train differently" in lines
    assert "undo and blind" not in lines and "2 seed(s)" in lines
    with pytest.raises(ConfigError, match="has 20 problems: a difference below a third"):
        forecast(load_campaign(campaign_file(tmp_path, "set: {evaluate.limit: 20}")))


@pytest.mark.parametrize(
    "path", sorted(data_file("launchers/campaigns").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_campaigns_of_the_project_can_start(path: Path) -> None:
    from undo_hpc.control.checks import require

    campaign = load_campaign(find_campaign(path.stem))
    for arm in campaign.config.arms:
        require(campaign.arm(arm), Path("checkpoints") / "none" / arm)
    with pytest.raises(ConfigError, match=r"no such campaign file: nothing\n.*those of the project"):
        find_campaign("nothing")
