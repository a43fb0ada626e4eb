"""Profiles: what a user writes, and how mistakes are told."""

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPO
from undo_hpc.cluster.profile import ContainerProfile, Profile, StageProfile, load_profile
from undo_hpc.config.schema import StageResources
from undo_hpc.errors import ConfigError


@pytest.mark.parametrize("path", sorted((REPO / "slurm" / "profiles").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_profiles_that_come_with_the_project_are_valid(path: Path) -> None:
    assert isinstance(load_profile(path), Profile)


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("defaults:\n  partition: gpu\n  acount: me\n")
    with pytest.raises(ConfigError) as caught:
        load_profile(file)
    assert "line 3" in caught.value.message and "acount" in caught.value.message
    assert "account" in caught.value.hint


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_profile(tmp_path / "none.yaml")
    assert "doctor --write-profile" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"]
)
def test_secrets_are_not_handed_to_slurm(name: str, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"export: [{name}]\n")
    with pytest.raises(ConfigError, match=name):
        load_profile(file)


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("export HF_TOKEN=hf_abcdef", False),
        ("WANDB_API_KEY='abc' ; true", False),
        ("export HF_TOKEN=$(cat ~/.hf_token)", True),
        ('export HF_TOKEN="$(< /run/secrets/hf)"', True),
        ("export HF_TOKEN_PATH=/home/me/.token", True),
        ("source /project/env.sh", True),
    ],
)
def test_secrets_are_not_written_into_scripts(line: str, good: bool, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({"setup": [line]}))
    if good:
        assert load_profile(file).setup == [line]
        return
    with pytest.raises(ConfigError) as caught:
        load_profile(file)
    assert "$(cat" in caught.value.message and "abc" not in caught.value.message


def test_values_do_not_belong_in_the_list_of_names(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("export: ['A=secret']\n")
    with pytest.raises(ConfigError):
        load_profile(file)


def test_paths_to_secrets_may_be_handed_over() -> None:
    assert "HF_TOKEN_PATH" in Profile(export=["MY_TOKEN_FILE"]).exports()


@pytest.mark.parametrize(
    "extra", ["export: ALL", "export: HF_TOKEN=hf_abc", "dependency: singleton", "wait: true"]
)
def test_options_that_would_undo_a_promise_are_refused(extra: str, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"stages: {{train: {{extra: {{{extra}}}}}}}\n")
    with pytest.raises(ConfigError, match="set by this program"):
        load_profile(file)


def test_a_time_limit_must_leave_time_before_the_signal_to_save() -> None:
    with pytest.raises(ConfigError, match="generate: no time to work within a limit of 2 minutes"):
        Profile(signal_lead_s=120).for_stage("generate", StageResources(minutes=2))
    assert Profile(signal_lead_s=120).for_stage("generate", StageResources(minutes=5)).minutes == 5


def test_a_container_keeps_the_variables_of_a_task() -> None:
    with pytest.raises(ValueError, match=r"--cleanenv.*rank"):
        ContainerProfile(kind="apptainer", image="x.sif", options=["--cleanenv"])


def test_configuration_wins_over_stage_and_stage_over_defaults() -> None:
    profile = Profile(
        defaults=StageProfile(
            partition="a", cpus_per_task=1, minutes=10, gpus_per_node=1, extra={"exclude": "n1"}
        ),
        stages={"train": StageProfile(partition="b", minutes=20, extra={"exclusive": True})},
    )
    asked = profile.for_stage("train", StageResources(minutes=30))
    assert (asked.partition, asked.cpus_per_task, asked.minutes, asked.gpus_per_node) == ("b", 1, 30, 1)
    assert asked.extra == {"exclude": "n1", "exclusive": True}


def test_cpu_stages_get_no_gpu_and_baseline_is_like_evaluate() -> None:
    profile = Profile(
        defaults=StageProfile(gpus_per_node=1), stages={"evaluate": StageProfile(partition="eval")}
    )
    assert profile.for_stage("merge", StageResources()).gpus_per_node == 0
    assert profile.for_stage("advance", StageResources()).gpus_per_node == 0
    assert profile.for_stage("baseline", StageResources()).partition == "eval"
    assert profile.for_stage("baseline", StageResources()).gpus_per_node == 1


def test_only_training_runs_as_several_processes() -> None:
    """Several processes of any other stage would each do the whole task, and take its lease from each other."""
    profile = Profile(defaults=StageProfile(nodes=2, tasks_per_node=4, gpus_per_node=4))
    for stage in ("serve", "generate", "baseline", "merge", "evaluate", "advance", "train"):
        asked = profile.for_stage(stage, StageResources())
        assert (asked.nodes, asked.tasks_per_node) == ((2, 4) if stage == "train" else (1, 1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "defaults: {cpus_per_task: 2}\nstages:\n  generate:\n    tasks_per_node: 4\n",
            r"line 4: 'stages\.generate\.tasks_per_node'",
        ),
        ("stages: {evaluate: {nodes: 2}}\n", r"line 1: 'stages\.evaluate\.nodes'.*\n.*problems_per_task"),
        ("defaults: {nodes: 2}\n", r"'defaults\.nodes': only the processes of train"),
        ("stages: {train: {array_parallelism: 2}}\n", "train is one task"),
    ],
)
def test_keys_that_a_stage_would_leave_aside_are_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_profile(path)
    assert re.search(words, f"{raised.value.message}\n{raised.value.hint}"), raised.value
    path.write_text(
        "defaults: {nodes: 1}\nstages: {train: {nodes: 2, tasks_per_node: 4}, merge: {gpus_per_node: 1}}\n"
    )
    assert load_profile(path).for_stage("merge", StageResources()).gpus_per_node == 1, (
        "a site may want one from every job"
    )


@pytest.mark.parametrize(
    "text",
    [
        'defaults: {account: "x\\nrm -rf /"}\n',
        'stages:\n  train:\n    extra: {exclude: "n1\\x00"}\n',
        'modules: ["cuda\\tx"]\n',
        'container: {image: "a\\rb"}\n',
    ],
)
def test_a_value_that_would_become_a_line_of_its_own_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"does not print|holds a zero byte"):
        load_profile(path)
    path.write_text("setup:\n  - |\n    export A=1\n    export B=2\n")
    assert load_profile(path).setup, "shell lines may be several"
