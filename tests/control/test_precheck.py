"""What a job would meet hours later is refused before anything is started, and what is right is let through."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from undo_hpc.config.load import load_config, preset_names
from undo_hpc.control.precheck import check_config, check_packages
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.prompts import prompt_set

OPENAI = "generate.engine.name=openai"
SERVER = "generate.engine.openai.base_url=http://host:8000/v1"


@pytest.mark.parametrize("name", preset_names())
def test_presets_pass(name: str) -> None:
    check_config(load_config(name))


@pytest.mark.parametrize(
    "sets",
    [[OPENAI, SERVER], [OPENAI, "generate.service=2"], ["iterations=1", "teacher.prompt=PLAIN"]],
    ids=str,
)
def test_what_can_be_done_passes(sets: list[str], plain_prompts: Path) -> None:
    check_config(load_config("tiny", [item.replace("PLAIN", str(plain_prompts)) for item in sets]))


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["teacher.prompt=tinny"], "no prompt set 'tinny'"),
        (["teacher.prompt=PLAIN"], r"no refine\.txt"),
        (["student.prompt=PLAIN"], r"no student\.txt"),
        (["evaluate.overrides={tinny: {path: x.jsonl}}"], r"did you mean 'tiny'"),
        (
            ["evaluate.engine.name=openai", "evaluate.engine.openai.base_url=http://x/v1"],
            "not with the student just trained",
        ),
        ([OPENAI], "no server to ask"),
        (["generate.service=2"], "nobody would ask them"),
        ([OPENAI, SERVER, "generate.service=2"], "nobody would ask them"),
        (["train.deepspeed=/nowhere/ds.json"], "does not exist"),
        (["method.validation_examples=3", "data.validation=0"], "data.validation is 0"),
        (["evaluate.engine={name: vllm, vllm: {max_model_len: 99999}}"], "tiny:student reads at most"),
        (["cluster.kind=slurm", "cluster.resources.train.gpus_per_node=4"], "tasks_per_node to 4"),
        (["cluster.resources.generate.nodes=2"], r"resources\.generate\.nodes: only the processes of train"),
        (
            ["cluster.resources.evaluate={nodes: 1, tasks_per_node: 4}"],
            r"resources\.evaluate\.tasks_per_node",
        ),
        (["cluster.resources.merge.array_parallelism=4"], "merge is one task"),
        (["hub.push_at_end=true"], "no repository is named"),
        (
            ["hub={push_every_min: 30, model_repo: me/x, token_file: /nowhere/token}"],
            "no file /nowhere/token",
        ),
        (["stop.epsilon=1"], "0.01 is one point"),
        (["cluster.policy.evaluate={kind: min_fraction, value: 90}"], "at most 1"),
        (["cluster.policy.evaluate={kind: quorum, value: 0.9}"], "whole number"),
    ],
    ids=str,
)
def test_what_no_job_could_do_is_refused(sets: list[str], words: str, plain_prompts: Path) -> None:
    with pytest.raises((ConfigError, DataError)) as raised:
        check_config(load_config("tiny", [item.replace("PLAIN", str(plain_prompts)) for item in sets]))
    assert re.search(words, str(raised.value)), raised.value


@pytest.fixture
def plain_prompts(tmp_path: Path) -> Path:
    """A folder with a template for first rationales alone."""
    (tmp_path / "problem.txt").write_bytes(
        (Path(prompt_set.__file__).parent / "default" / "problem.txt").read_bytes()
    )
    return tmp_path


def test_packages_of_another_environment_are_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undo_hpc.control.precheck.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="vLLM is not installed"):
        check_packages(load_config("numina10k_qwen"))
    with pytest.raises(ConfigError, match="peft is not installed"):
        check_packages(load_config("tiny", ["train.lora.enabled=true"]))
    profile = tmp_path / "profile.yaml"
    profile.write_text("python: /opt/env/bin/python\n")
    check_packages(load_config("numina10k_qwen", [f"cluster.profile={profile}"]))


def test_a_profile_without_a_kind_of_cluster_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("cluster: {profile: mine.yaml}\n")
    with pytest.raises(ConfigError, match="would stay on this machine"):
        check_config(load_config(str(path)))
