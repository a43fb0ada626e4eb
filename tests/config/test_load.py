"""A wrong configuration is named with its file, line, key, the nearest valid key and its meaning."""

from pathlib import Path

import pytest

from undo_hpc.config.load import PRESETS, find_config, load_config, preset_names
from undo_hpc.config.method import METHOD_PRESETS
from undo_hpc.config.schema import MethodConfig
from undo_hpc.config.yaml_text import read_yaml
from undo_hpc.errors import ConfigError, ExitCode


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return str(path)


def test_an_unknown_key_gets_the_nearest_one_and_its_meaning(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\ntrain:\n  epoch: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert f"{path}, line 3: unknown key 'train.epoch'" in str(caught.value)
    assert "did you mean 'epochs' (passes over the distilled set)?" in str(caught.value)
    assert caught.value.exit_code == ExitCode.WRONG_INPUT


def test_unknown_keys_inside_mappings_with_free_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 4: unknown key 'evaluate.overrides.gsm8k.pth'"):
        load_config(write(tmp_path, "evaluate:\n  overrides:\n    gsm8k:\n      pth: x\n"))


def test_a_wrong_value_is_named_with_its_meaning(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 2: 'train.epochs'.*\(it is 'many'\)"):
        load_config(write(tmp_path, "train:\n  epochs: many\n"))


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "just words\n"])
def test_files_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"my\.yaml"):
        load_config(write(tmp_path, text))


def test_no_such_preset_lists_them() -> None:
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        find_config("tinny")
    with pytest.raises(ConfigError, match="no such configuration file"):
        find_config("nothing/here.yaml")


def test_set_wins_over_the_file_and_is_typed(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, "train: {epochs: 1}\n"),
        ["train.epochs=2.5", "evaluate.benchmarks=[gsm8k]", "name=abc"],
    )
    assert (config.train.epochs, config.evaluate.benchmarks, config.name) == (2.5, ["gsm8k"], "abc")


@pytest.mark.parametrize("item", ["train.epochs", "=3", "name.deeper=1"])
def test_a_malformed_set(tmp_path: Path, item: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_config(write(tmp_path, "name: x\n"), [item])


def test_relative_paths_are_meant_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("{}\n")
    config = load_config(write(tmp_path, "data: {train: {path: data.jsonl}}\n"))
    assert config.data.train.path == str(tmp_path / "data.jsonl")
    config = load_config(write(tmp_path, "data: {train: {path: '*.jsonl'}}\n"))
    assert config.data.train.path == str(tmp_path / "*.jsonl")
    (tmp_path / "mymodel").mkdir()
    models = "student: {model: mymodel}\nteacher: {model: gpt2}\n"
    assert load_config(write(tmp_path, models)).student.model == "mymodel"  # a folder that holds no model
    (tmp_path / "mymodel" / "config.json").write_text("{}")
    config = load_config(write(tmp_path, models))
    assert config.student.model == str(tmp_path / "mymodel") and config.teacher.model == "gpt2"


def test_a_bare_word_may_be_a_folder_beside_the_file(tmp_path: Path) -> None:
    for name in ("problems", "mine", "tiny"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "problem.txt").write_text("{problem}\n")
    text = "data: {train: {path: problems}}\nteacher: {prompt: mine}\nstudent: {prompt: tiny}\nevaluate: {benchmarks: [problems]}\n"
    config = load_config(write(tmp_path, text))
    assert (config.data.train.path, config.teacher.prompt) == (
        str(tmp_path / "problems"),
        str(tmp_path / "mine"),
    )
    assert (config.student.prompt, config.evaluate.benchmarks) == ("tiny", ["problems"]), "names stay names"


def test_every_preset_resolves() -> None:
    assert "tiny" in preset_names()
    for name in preset_names():
        assert load_config(name).iterations >= 1
    assert PRESETS.is_dir()


def test_a_character_beyond_16_bits_is_one_character_however_it_is_written(tmp_path: Path) -> None:
    """`fork` and added sets hand paths on as JSON, which has two halves for it: a folder of such a name was refused."""
    for written in ('"l\\ud83d\\ude00"', '"l\\U0001F600"', "l\U0001f600"):
        assert load_config("tiny", [f"name={written}"]).name == "l\U0001f600"
    with pytest.raises(ConfigError, match="half a character"):
        load_config("tiny", ['name="l\\ud83d"'])


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    text = "name: x\ntrain:\n  epochs: 1\nseed: 1\ntrain:\n  max_steps: 5\n"
    with pytest.raises(ConfigError, match=r"line 5: key 'train' stands twice \(first on line 2\)"):
        load_config(write(tmp_path, text))


def test_a_bare_off_is_the_word_and_no_truth_value(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "data: {contamination: off}\n")).data.contamination == "off"
    assert load_config("tiny", ["data.contamination=off"]).data.contamination == "off"


def test_a_loop_that_could_never_see_an_error_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "evaluate: {train_predictions: false}\n")
    with pytest.raises(
        ConfigError, match=r"my\.yaml: method\.errors_from is 'train', but evaluate\.train_predictions is off"
    ):
        load_config(path)
    with pytest.raises(ConfigError, match=r"data\.diagnosis is 0"):
        load_config(path, ["method.errors_from=diagnosis", "data.diagnosis=0"])
    for allowed in ("method.errors_from=diagnosis", "iterations=1", "method.condition=one_shot"):
        load_config(path, [allowed])


def test_a_key_may_stand_over_one_that_is_merged(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("x: &base {a: 1, b: {c: 2}}\ny:\n  <<: *base\n  a: 3\n")
    text = read_yaml(path)
    assert text.data["y"] == {"a": 3, "b": {"c": 2}}
    assert text.where(("y", "a")).endswith("line 4") and text.where(("y", "b", "c")).endswith("line 1")
    path.write_text("x: &base {a: 1}\ny:\n  <<: *base\n  a: 3\n  a: 4\n")
    with pytest.raises(ConfigError, match=r"line 5: key 'y\.a' stands twice \(first on line 4\)"):
        read_yaml(path)


def test_a_preset_of_the_method_sets_its_keys_and_yields_to_those_given(tmp_path: Path) -> None:
    path = write(tmp_path, "method: {preset: undo_paper, regenerate: wrong}\n")
    method = load_config(path).method
    assert (method.regenerate, method.history, method.show_score, method.examples) == (
        "wrong",
        "all",
        True,
        2,
    )
    assert MethodConfig.model_validate(method.model_dump()) == method, "a run keeps what its preset was"
    explicit = write(tmp_path, "method: {condition: undo, hint: step, errors_from: both}\n")
    blind = load_config(explicit, ["method.preset=blind"]).method
    assert (blind.condition, blind.hint, blind.errors_from) == ("blind", "step", "both")
    assert (
        load_config(explicit, ["method.preset=blind", "method.condition=shuffled"]).method.condition
        == "shuffled"
    )
    with pytest.raises(ConfigError, match=r"'method\.preset': should be 'undo', .*'undo_paper'"):
        load_config(explicit, ["method.preset=undo_papre"])


@pytest.mark.parametrize("name", METHOD_PRESETS)
def test_a_preset_changes_what_it_names_and_nothing_else(name: str) -> None:
    changed = METHOD_PRESETS[name] | {"preset": name}
    assert MethodConfig(preset=name).model_dump() == MethodConfig().model_dump() | changed  # type: ignore[arg-type]


def test_a_configuration_that_everybody_can_put_another_in_place_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours was looked at, and theirs was read: another user changed the two for each other all the time."""
    monkeypatch.delenv("UNDO_TRUST", raising=False)
    (file := tmp_path / "mine.yaml").write_text("name: x\n")
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="every user of this machine can put another file in place of"):
        load_config(str(file))
    tmp_path.chmod(0o1777)  # what is ours stays there
    assert load_config(str(file)).name == "x"
    tmp_path.chmod(0o777)
    monkeypatch.setenv("UNDO_TRUST", "*")
    assert load_config(str(file)).name == "x"
