"""What a job would meet hours later is refused before anything is started, and what is right is let through."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from undo_hpc.cli import main
from undo_hpc.config.load import load_config, override, preset_names
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.checks import CHECKS, NotChecked, Notice, Subject, find_problems, require, when_for
from undo_hpc.control.checks.place import check_iterations, check_run_dir
from undo_hpc.control.checks.settings import check_cluster, check_packages
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.pipeline.run import open_run
from undo_hpc.prompts import prompt_set
from undo_hpc.tiny import models_dir

OPENAI = "generate.engine.name=openai"
SERVER = "generate.engine.openai.base_url=http://host:8000/v1"


def check_settings(config: RunConfig) -> None:
    """The checks of a launch that read neither models nor data, nor look for packages."""
    for check in CHECKS:
        if (
            "launch" in check.when
            and not check.by_prepare
            and check.what not in ("packages", "run directory")
        ):
            with suppress(Notice):
                check.run(Subject(config, Path("/nowhere")))


@pytest.mark.parametrize("name", preset_names())
def test_presets_pass(name: str) -> None:
    check_settings(load_config(name))


@pytest.mark.parametrize(
    "sets",
    [[OPENAI, SERVER], [OPENAI, "generate.service=2"], ["iterations=1", "teacher.prompt=PLAIN"]],
    ids=str,
)
def test_what_can_be_done_passes(sets: list[str], plain_prompts: Path) -> None:
    check_settings(
        load_config(
            "tiny",
            [item.replace("PLAIN", str(plain_prompts)).replace("OWN", str(own_prompts)) for item in sets],
        )
    )


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
        ([OPENAI], "no server is configured"),
        (["generate.service=2"], "no task would use these servers"),
        ([OPENAI, SERVER, "generate.service=2"], "no task would use these servers"),
        ([OPENAI, "generate.service=2", "generate.canary.problems=8"], "would be started twice"),
        (["train.deepspeed=/nowhere/ds.json"], "does not exist"),
        (["method.examples=3", "data.diagnosis=0"], "data.diagnosis is 0"),
        (["method={examples: 3, examples_from: validation}", "data.validation=0"], "data.validation is 0"),
        (
            ["method.hint=step", "teacher.prompt=OWN"],
            r"method.hint: step has no effect: refine.txt .* {{ failed_step }}",
        ),
        (["method.show_score=true", "teacher.prompt=OWN"], r"no {{ score }}"),
        (["method.preset=undo_paper", "teacher.prompt=OWN"], r"method.history: all has no effect"),
        (["evaluate.engine={name: vllm, vllm: {max_model_len: 99999}}"], "tiny:student reads at most"),
        (["cluster.kind=slurm", "cluster.resources.train.gpus_per_node=4"], "tasks_per_node to 4"),
        (
            ["cluster.resources.generate.nodes=2"],
            r"resources\.generate\.nodes is 2, and this run is on one machine",
        ),
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
def test_what_no_job_could_do_is_refused(
    sets: list[str], words: str, plain_prompts: Path, own_prompts: Path
) -> None:
    with pytest.raises((ConfigError, DataError)) as raised:
        check_settings(
            load_config(
                "tiny",
                [item.replace("PLAIN", str(plain_prompts)).replace("OWN", str(own_prompts)) for item in sets],
            )
        )
    assert re.search(words, str(raised.value)), raised.value


@pytest.fixture
def own_prompts(tmp_path: Path) -> Path:
    """A folder whose template shows the attempt and nothing else of it."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "problem.txt").write_text("{{ problem }}")
    (folder / "refine.txt").write_text("{{ problem }} {{ rationale }} {{ student_answer }}")
    return folder


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
    monkeypatch.setattr("undo_hpc.control.checks.settings.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="vLLM is not installed"):
        check_packages(load_config("numina10k_qwen"))
    with pytest.raises(ConfigError, match="peft is not installed"):
        check_packages(load_config("tiny", ["train.lora.enabled=true"]))
    profile = tmp_path / "profile.yaml"
    profile.write_text("python: /opt/env/bin/python\n")
    check_packages(load_config("numina10k_qwen", [f"cluster.profile={profile}"]))


def write_problems(path: Path, count: int) -> Path:
    rows = [{"problem": f"What is {n} plus {n + 1}?", "answer": str(2 * n + 1)} for n in range(count)]
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def words_of(config: RunConfig, run_dir: Path) -> list[str]:
    return [error.message for _, error in find_problems(Subject(config, run_dir), when_for(run_dir))]


def test_a_dry_run_finds_all_errors_of_a_launch_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    sets = [f"student.model={folder}", "evaluate.engine.name=openai", "stop.epsilon=2"]
    words = words_of(load_config("tiny", sets), tmp_path / "run")
    for part in (
        "holds other files",
        "is not a complete model",
        "evaluate.engine.name is openai",
        "stop.epsilon is 2",
    ):
        assert any(part in word for word in words), (part, words)
    options = [item for text in sets for item in ("--set", text)]
    assert main(["run", "--config", "tiny", "--run-dir", str(tmp_path / "run"), "--dry-run", *options]) == 2
    said = capsys.readouterr().err
    assert (
        "refused for 4 reasons" in said and "is not a complete model" in said and "0.01 is one point" in said
    )
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["notes.txt"]


def test_a_dry_run_refuses_what_a_resumed_run_may_not_change(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--run-dir", str(copied), "--set", "train.epochs=9", "--dry-run"]) == 2
    assert "train.epochs" in capsys.readouterr().err
    assert main(["run", "--run-dir", str(copied), "--dry-run"]) == 0
    assert "Not checked here" in capsys.readouterr().out


def test_contaminated_data_and_missing_solutions_are_found(tmp_path: Path) -> None:
    path = write_problems(tmp_path / "p.jsonl", 40)
    benchmark = tmp_path / "same.yaml"
    benchmark.write_text(f"title: same\nsize: 40\nsource: {{path: {path}}}\n")
    data = [
        f"data.train.path={path}",
        "data.train.tiny=''",
        "data.train.sample=null",
        "data.validation=4",
        "data.diagnosis=4",
    ]
    assert words_of(load_config("tiny", data), tmp_path / "run") == []
    drop = [*data, f"evaluate.benchmarks=[{benchmark}]", "data.contamination=drop"]
    words = words_of(load_config("tiny", drop), tmp_path / "run")
    assert any("every training problem stands in a benchmark" in word for word in words), words
    truth = [*data, "method.condition=ground_truth"]
    assert any("worked solution" in w for w in words_of(load_config("tiny", truth), tmp_path / "run"))


def test_a_model_without_a_chat_template_and_an_unreadable_key_are_found(tmp_path: Path) -> None:
    student = tmp_path / "student"
    shutil.copytree(models_dir() / "student", student)
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        path = student / name
        if path.suffix == ".json":
            settings = orjson.loads(path.read_bytes())
            settings.pop("chat_template", None)
            path.write_bytes(orjson.dumps(settings))
        else:
            path.unlink(missing_ok=True)
    words = words_of(load_config("tiny", [f"student.model={student}"]), tmp_path / "run")
    assert any("no chat template" in word for word in words), words
    key = "generate.engine.openai.api_key_file=/nowhere/key"
    assert any(
        "/nowhere/key" in w for w in words_of(load_config("tiny", [OPENAI, SERVER, key]), tmp_path / "run")
    )


def test_an_offline_hub_is_told_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    sets = ["data.train.hub=nobody/nothing-of-this-name", "data.train.tiny=''"]
    found = list(find_problems(Subject(load_config("tiny", sets), tmp_path / "run"), "launch"))
    assert [type(error) for _, error in found] == [NotChecked]
    assert "nobody/nothing-of-this-name" in found[0][1].message


def test_a_run_dir_that_is_misspelt_starts_nothing(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typo = copied.with_name(copied.name + "s")
    assert main(["run", "--run-dir", str(typo)]) == 2
    said = capsys.readouterr().err
    assert f"there is no run in {typo}" in said and f"did you mean {copied}?" in said and "--config" in said
    assert not typo.exists()


def test_a_launch_refuses_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stop\.epsilon"):
        require(load_config("tiny", ["stop.epsilon=1"]), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_profile_without_a_kind_of_cluster_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("cluster: {profile: mine.yaml}\n")
    with pytest.raises(ConfigError, match="would stay on this machine"):
        check_cluster(load_config(str(path)))


def test_fewer_iterations_than_are_done_are_refused(finished: Path) -> None:
    config = open_run(finished).config
    check_iterations(config, finished)
    with pytest.raises(ConfigError, match="iterations is 2, and 3 iterations of this run are done"):
        check_iterations(override(config, ["iterations=2"]), finished)


def test_a_group_that_can_write_in_a_folder_of_plug_ins_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs as whoever starts the run, as what lies in the run's own folder does."""
    monkeypatch.setattr("undo_hpc.system.ownership._is_private", lambda group: False)
    run, plugins = tmp_path / "run", tmp_path / "plugins"
    run.mkdir(mode=0o755)
    plugins.mkdir()
    plugins.chmod(0o775)
    [said] = check_run_dir(override(RunConfig(), [f"plugins=['{plugins}']"]), run)
    assert f"can write in {plugins}" in said
