"""A campaign file says what is compared; what could not be compared is refused with its line, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.build import campaign_file
from tests.conftest import missing
from undo_hpc.campaign.definition import find_campaign, load_campaign
from undo_hpc.campaign.forecast import Forecast, forecast
from undo_hpc.campaign.state import CampaignDir, begin
from undo_hpc.cli.run_campaign import main
from undo_hpc.config.load import load_config
from undo_hpc.errors import ConfigError
from undo_hpc.stages.prepare import read_sources
from undo_hpc.storage.atomic import read_json, write_json
from undo_hpc.storage.manifest import sealed, unseal
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
        ("arms: {undo: {}, transfer: {}}", "not report or transfer"),
        ("arms: {undo: {}, blind: {train.epochs: {best_of: [2, 2]}}}", "a list of values, each once"),
        ("arms: {undo: {}, blind: {train.epochs: {by_seed: 2}}}", "train.epochs needs a list"),
        (
            "arms: {undo: {}, blind: {train.epochs: {best_of: [2]}, generate.samples: {best_of: [1]}}}",
            "best_of stands at",
        ),
        (
            "set: {data.validation: 0}\narms: {undo: {}, blind: {train.epochs: {best_of: [2, 3]}}}",
            "best_of chooses on validation",
        ),
        ("arms: {undo: {}, blind: {train.tokens: {match: later}}}", "no arm before it"),
        ("arms: {undo: {}, blind: {train.epochs: {match: undo}}}", "train.epochs cannot be matched"),
        ("arms: {undo: {}, blind: {evaluate.limit: {by_seed: [9, 8]}}}", "differ in evaluate"),
        ("arms: {undo: {}, blind: {}}", "undo under seed 0 and blind under seed 0 are the same run"),
        (
            "arms: {undo: {}, blind: {seed: {add: 1}}}",
            "undo under seed 1 and blind under seed 0 are the same run",
        ),
        (
            "transfer: {arms: [undo], set: {train.epochs: 2}}",
            "transfer names no other student: tiny:student would",
        ),
        ("null_control: [undo]", "is no pair of two arms"),
        ("positive_control: [undo, more]", "there is no arm 'more'"),
        ("transfer: {arms: [other]}", "there is no arm 'other'"),
        ("arms: {undo: {}, blind: {evaluate.limit: 9}}", "undo and blind differ in evaluate"),
        ("arms: {undo: {}, blind: {train: 3, train.epochs: 2}}", "'train' is given as a value, too"),
        ("arms: {undo: {}, blind: {train.epochs: 2, train: 3}}", "'train' is given twice"),
        ("arms: {undo: {}, blind: {train: {epochs: 3}, train.epochs: 2}}", "'train.epochs' is given twice"),
        ("set: {train.epochs: 2, train: {epochs: 3}}", "'train.epochs' is given twice"),
        ("arms: {undo: {}, blind: {train.epochs: {best_of: 3}}}", "train.epochs needs a list"),
        ("arms: {undo: {}, blind: {train.epochs: {best_of: null}}}", "train.epochs needs a list"),
        ("name: ''", "one component of a path"),
        ("name: .", "one component of a path"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_campaign(campaign_file(tmp_path, text))


def test_values_by_seed_of_which_one_is_chosen_and_other_seeds(tmp_path: Path) -> None:
    text = "set: {student.model: {by_seed: ['tiny:student', 'tiny:student-1']}}\nseeds: [4, 6, 9]\n"
    text += "arms: {undo: {}, one: {method.preset: one_shot, train.epochs: {best_of: [2, 3.5]}}, again: {seed: {add: 100}}}\nprimary: [[undo, one]]"
    campaign = load_campaign(campaign_file(tmp_path, text))
    assert campaign.candidates == {
        "undo": ("undo",),
        "one": ("one/epochs-2", "one/epochs-3.5"),
        "again": ("again",),
    }
    models = [campaign.runs["undo", seed].student.model for seed in (4, 6, 9)]
    assert models == ["tiny:student", "tiny:student-1", "tiny:student"]
    assert [campaign.runs["again", seed].seed for seed in (4, 6, 9)] == [104, 106, 109]
    assert campaign.runs["again", 6].student.model == models[1], "the place of a seed counts, not its number"
    assert [campaign.runs[name, 4].train.epochs for name in campaign.candidates["one"]] == [2, 3.5]
    assert [k for k, run in campaign.runs.items() if "repeat" in run.stages] == [("undo", 4)]


def test_a_dotted_key_and_a_section_stand_beside_each_other_in_either_order(tmp_path: Path) -> None:
    """Not the one that stands later in place of the other: an arm would silently be another."""
    both = ("train.epochs: 7, train: {learning_rate: 0.5}", "train: {learning_rate: 0.5}, train.epochs: 7")
    for text in both:
        file = campaign_file(
            tmp_path, f"set: {{{text}}}\narms: {{undo: {{}}, blind: {{method.preset: blind, {text}}}}}"
        )
        campaign = load_campaign(file)
        for arm in ("undo", "blind"):
            assert (campaign.arm(arm).train.epochs, campaign.arm(arm).train.learning_rate) == (7, 0.5)


def test_a_changed_campaign_is_told_before_anything_starts(tmp_path: Path) -> None:
    place = CampaignDir(tmp_path / "camp")
    first = begin(load_campaign(campaign_file(tmp_path)), place)
    before = place.definition.read_bytes()
    assert begin(load_campaign(campaign_file(tmp_path), ["generate.shards=1"]), place).keys() == first.keys()
    for text, key in (
        ("primary: [[blind, undo]]", "primary"),
        ("seeds: [0, 1, 2]", "seeds"),
        ("set: {iterations: 3}", r"arms\.undo\.iterations"),
        ("set: {iterations: 2, until: train}", r"arms\.undo\.until"),
        ("set: {iterations: 2, student.reasoning: strip}", r"arms\.blind\.student\.reasoning"),
        ("set: {iterations: 2, grading.memory_mb: 512}", r"arms\.undo\.grading\.memory_mb"),
        ("arms: {undo: {}, blind: {method.preset: shuffled}}", r"arms\.blind\.method\.condition"),
        ("student: last", "student"),
    ):
        with pytest.raises(
            ConfigError, match=f"was begun with another file(.|\n)*{key}: begun with"
        ) as error:
            begin(load_campaign(campaign_file(tmp_path, text)), place)
        assert "another name" in error.value.hint and place.definition.read_bytes() == before


def test_a_campaign_that_was_begun_before_some_keys_were_kept_goes_on(tmp_path: Path) -> None:
    text = "set: {student.reasoning: strip}"
    place = CampaignDir(tmp_path / "camp")
    begin(load_campaign(campaign_file(tmp_path, text)), place)
    frozen = read_json(place.definition)
    unseal(frozen)
    del frozen["adjustable"]
    for values in frozen["arms"].values():
        del values["student.reasoning"]
    write_json(place.definition, sealed(frozen))
    assert begin(load_campaign(campaign_file(tmp_path, text)), place)
    with pytest.raises(ConfigError, match="iterations: begun with"):
        begin(load_campaign(campaign_file(tmp_path, "set: {iterations: 5}")), place)


def test_a_campaign_goes_on_from_another_clone_and_knows_other_words(tmp_path: Path) -> None:
    text = "arms: {undo: {}, other: {teacher.prompt: words}}\nprimary: [[undo, other]]"
    place = CampaignDir(tmp_path / "camp")
    for clone, words in (("one", "{{ problem }}"), ("two", "{{ problem }}"), ("three", "{{ problem }} Go.")):
        (tmp_path / clone / "words").mkdir(parents=True)
        (tmp_path / clone / "words" / "problem.txt").write_text(words)
    begin(load_campaign(campaign_file(tmp_path / "one", text)), place)
    assert str(tmp_path) not in place.definition.read_text()
    begin(load_campaign(campaign_file(tmp_path / "two", text)), place)
    with pytest.raises(ConfigError, match=r"arms\.other\.teacher\.prompt: begun with"):
        begin(load_campaign(campaign_file(tmp_path / "three", text)), place)


def test_all_runs_of_a_campaign_print_the_date_of_its_start(tmp_path: Path) -> None:
    configs = begin(load_campaign(campaign_file(tmp_path)), CampaignDir(tmp_path / "camp"))
    assert (
        len({(c.teacher.date, c.student.date) for c in configs.values()}) == 1
        and configs["undo", 0].teacher.date
    )


def planned(text: str, folder: Path) -> Forecast:
    campaign = load_campaign(campaign_file(folder, text))
    return forecast(campaign, read_sources(next(iter(campaign.runs.values()))))


def test_the_forecast_says_what_cannot_be_seen_or_matched(tmp_path: Path) -> None:
    text = "set: {iterations: 3, evaluate.limit: 60}\narms: {undo: {}, blind: {method.preset: blind}, one: {method.preset: one_shot, train.epochs: 9}}"
    text += "\nprimary: [[undo, blind], [undo, one]]"
    said = planned(text, tmp_path)
    lines = " ".join(said.lines())
    assert (said.items, said.runs, said.shared) == (60, 6, 2) and said.detectable == 1.0
    assert "undo and one ask the teacher differently" in lines and "undo and one train differently" in lines
    assert "undo and blind show the teacher other things" in lines and "2 seeds: " in lines
    assert "allowed: 10 %" in lines and "{match: undo}" in lines and "2 seeds, 2 comparisons" in lines
    tied = text.replace("train.epochs: 9", "train.tokens: {match: undo}").replace("blind}", "shuffled}")
    said_again = " ".join(planned(tied, tmp_path).lines())
    assert "train differently" not in said_again and "show the teacher" not in said_again
    why = "\nmatch: {exceptions: [{pair: [one, undo], measures: [teacher_tokens, student_tokens], reason: one round only}]}"
    told = " ".join(planned(text + why, tmp_path).lines())
    assert "not matched: one and undo in teacher tokens and student tokens: one round only" in told
    assert (
        "train differently" not in told and "ask the teacher differently" not in told and "show the" in told
    )
    with pytest.raises(ConfigError, match="has 20 problems: a difference below a third"):
        planned("set: {evaluate.limit: 20}", tmp_path)
    assert said.gpu_hours is None and not said.declared and "no positive_control" in lines


@pytest.mark.parametrize(
    "path", sorted(data_file("launchers/campaigns").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_campaigns_of_the_project_are_planned_without_a_network(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a dry run says of each: its cost, what it can see, which arms are not matched; nothing is written."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    place = path.parent / "none"
    code = main([path.stem, "--dry-run", "--dir", str(place), "--set", "cluster.kind=local"])
    if path.stem == "tiny_worlds" and code == 2:  # its teachers are made first
        assert "no such model directory" in capsys.readouterr().err
        return
    said, failed = capsys.readouterr()
    if "vLLM is not installed" in failed:
        missing("vLLM")
    assert code == 0
    assert "test problems" in said and "tokens of the teacher" in said and not place.exists()
    assert ("GPU-hours" in said) == path.stem.startswith("numina")
    with pytest.raises(ConfigError, match=r"no such campaign file: nothing\n.*those of the project"):
        find_campaign("nothing")
