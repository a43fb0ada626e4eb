"""A run directory opens again whatever moment its first start was killed at, and a damaged one is named."""

import json
import os
from pathlib import Path

import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc.config.schema import RunConfig
from undo_hpc.data.benchmarks.loader import load_benchmark
from undo_hpc.errors import ConfigError, StorageError
from undo_hpc.pipeline.run import create_or_open, git_revision, open_run, require_trusted_run
from undo_hpc.storage.atomic import read_json, write_json
from undo_hpc.system.ownership import TRUST, require_own_way


def test_a_start_that_was_killed_before_its_configuration_stood(tmp_path: Path) -> None:
    root = tmp_path / "a run"
    create_or_open(RunConfig(), root, command=[]).layout.config.unlink()
    (root / "events.jsonl").unlink()
    assert create_or_open(RunConfig(seed=3), root, command=[]).config.seed == 3


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="holds other files"):
        create_or_open(RunConfig(), tmp_path, command=[])
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_another_user_makes_between_the_checks_and_the_start_is_refused(tmp_path: Path) -> None:
    """What is checked before is a name that nothing has yet; who sees it in a list of processes may be first."""
    (root := tmp_path / "run").mkdir()
    root.chmod(0o777)
    with pytest.raises(ConfigError, match="every user of this machine can write in the run directory"):
        create_or_open(RunConfig(), root, command=[])
    assert list(root.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_run_below_what_another_user_has_put_into_a_folder_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs := tmp_path / "checkpoints").mkdir()
    os.chown(runs, 54321, -1)
    require_own_way(runs / "mine")  # a colleague's place, which nobody else can have made
    tmp_path.chmod(0o1777)
    for folder in (runs / "mine", runs / "new" / "mine"):
        with pytest.raises(ConfigError, match="checkpoints belongs to another user, 54321"):
            require_trusted_run(folder)
    monkeypatch.setenv(TRUST, "54321")
    require_trusted_run(runs / "mine")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to another user")
@pytest.mark.parametrize("leads", ["to their own place", "through it to ours"])
def test_nor_behind_a_link_of_another_user_in_a_folder_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leads: str
) -> None:
    """`/scratch/checkpoints` led to a folder in which the other user may rename the run that was made there; a task ran what they swapped in."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (scratch := tmp_path / "scratch").mkdir()
    scratch.chmod(0o1777)
    (link := scratch / "checkpoints").symlink_to("../elsewhere")
    (tmp_path / "mine").symlink_to("scratch/checkpoints/../ours")
    run = link / "mine" if leads == "to their own place" else tmp_path / "mine"
    require_trusted_run(run)  # a link of our own
    os.chown(link, 54321, -1, follow_symlinks=False)
    monkeypatch.chdir(scratch)
    for asked in (run, Path(os.path.relpath(run))):
        with pytest.raises(ConfigError, match="checkpoints belongs to another user, 54321"):
            require_trusted_run(asked)
    assert list(elsewhere.iterdir()) == []
    monkeypatch.setenv(TRUST, "54321")
    require_trusted_run(run)


def test_a_changed_resource_brings_no_newer_key_into_the_file_of_an_older_version(tmp_path: Path) -> None:
    """Jobs in the queue read the file with the code that they were submitted with, which refuses keys that it does not know."""
    run = create_or_open(RunConfig(), tmp_path / "run", command=[])
    run.layout.prepared.parent.mkdir()
    run.layout.prepared.touch()
    older = read_json(run.layout.config)
    del older["budget"], older["cluster"]["max_timeouts"]  # say that these came with this version
    write_json(run.layout.config, older)
    wanted = RunConfig.model_validate(
        {"cluster": {"max_preemptions": 7, "resources": {"train": {"minutes": 99}}}}
    )
    assert create_or_open(wanted, run.layout.root, command=[]).config == wanted
    now = read_json(run.layout.config)
    assert "budget" not in now and "max_timeouts" not in now["cluster"]
    assert open_run(run.layout.root).config == wanted
    create_or_open(RunConfig(), run.layout.root, command=[])
    assert open_run(run.layout.root).config == RunConfig()
    assert read_json(run.layout.config)["cluster"]["resources"] == {}


def test_a_configuration_that_this_program_does_not_know_is_named(tmp_path: Path) -> None:
    run = create_or_open(RunConfig(), tmp_path / "run", command=[])
    write_json(run.layout.config, read_json(run.layout.config) | {"of_a_newer_version": 1})
    with pytest.raises(
        StorageError, match=r"config\.resolved\.json is not a configuration .*of_a_newer_version"
    ):
        open_run(run.layout.root)


def test_a_run_of_the_version_before_is_refused_with_the_version_that_continues_it(tmp_path: Path) -> None:
    root = tmp_path / "old"
    run = create_or_open(RunConfig(), root, command=[])
    write_json(run.layout.config, read_json(run.layout.config) | {"schema_version": 1})
    made = {"undo_hpc": "0.1.0", "git": "3afc976c64410f5d8f1e1e1dd3f8f2a2b0a7b9b1+changes"}
    write_json(run.layout.environment, read_json(run.layout.environment) | made)
    slices = [[{"group": "validation", "shard": 0, "start": 0, "stop": 3}]]
    plan = {"iteration": 0, "problems": 5, "shards": 1, "evaluate": slices, "baseline": []}
    write_json(run.layout.iteration(0).plan, plan)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for opens in (lambda: open_run(root), lambda: create_or_open(RunConfig(), root, command=[])):
        with pytest.raises(StorageError, match=r"this run was made by undo-hpc 0\.1 ") as error:
            opens()
        assert error.value.hint == (
            "continue it with the version that made this run, undo-hpc 0.1.0 (git checkout 3afc976c6441), or start a new run"
        )
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    write_json(run.layout.config, read_json(run.layout.config) | {"schema_version": 99})
    with pytest.raises(StorageError, match="schema version 99; this program reads 2"):
        open_run(root)


def test_what_is_learned_of_reasoning_may_change_in_a_run_that_exists(tmp_path: Path) -> None:
    """The remedy for a student whose rows were all left out: no rationale has to be paid for again."""
    run = create_or_open(RunConfig(), tmp_path / "run", command=[])
    run.layout.prepared.parent.mkdir()
    run.layout.prepared.touch()
    wanted = RunConfig.model_validate({"student": {"reasoning": "strip"}})
    changed = create_or_open(wanted, run.layout.root, command=[])
    assert changed.config.student.reasoning == "strip" and changed.config_digest == run.config_digest


def test_the_date_of_both_models_is_the_runs_unless_one_is_set(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"teacher": {"date": "2024-07-26"}})
    run = create_or_open(config, tmp_path / "run", command=[])
    assert run.model("teacher").date == "2024-07-26"
    assert run.model("student").date == str(run.environment["created"])[:10]
    assert open_run(run.layout.root).config.student.date == ""
    with pytest.raises(ValueError, match="date"):
        RunConfig.model_validate({"student": {"date": "26 July"}})


def test_what_a_source_leaves_to_its_benchmark_is_still_the_benchmarks_when_the_run_is_read_again(
    tmp_path: Path,
) -> None:
    """A benchmark with columns of its own in a file that lies elsewhere: a fork reads it again, from the run's stored values."""
    (tmp_path / "rows.json").write_text(
        json.dumps([{"Body": "Ann has 2 nuts.", "Question": "How many?", "Answer": 2}])
    )
    source = {"path": str(tmp_path / "rows.json")}
    added = {"more": {"benchmark": "svamp", "source": source}}
    asked = RunConfig.model_validate(
        {"evaluate": {"benchmarks": ["svamp"], "overrides": {"svamp": source}, "added": added}}
    )
    create_or_open(asked, tmp_path / "run", command=[])
    again = open_run(tmp_path / "run")
    assert again.config == asked
    settings = again.config.evaluate
    for kept in (settings.overrides["svamp"], settings.added["more"].source):
        assert [problem.ground_truth for problem in load_benchmark("svamp", kept).problems] == ["2"]
    again.layout.prepared.parent.mkdir()
    again.layout.prepared.touch()
    other = RunConfig.model_validate(
        asked.model_dump(exclude_unset=True) | {"cluster": {"max_preemptions": 7}}
    )
    create_or_open(other, tmp_path / "run", command=[])
    assert open_run(tmp_path / "run").config.evaluate.overrides["svamp"].model_fields_set == {"path"}


def test_a_configuration_that_was_changed_behind_the_runs_back_is_refused_where_results_rest_on_it(
    tmp_path: Path,
) -> None:
    """An edited value or a flipped bit: iteration 0 under one seed and iteration 1 under another would stand on one page."""
    run = RunBuilder(tmp_path / "run", problems=8).play(1)
    stored = read_json(run.layout.config)
    assert open_run(run.layout.root).config == run.config
    write_json(run.layout.config, stored | {"iterations": stored["iterations"] + 1})
    assert open_run(run.layout.root).config.iterations == run.config.iterations + 1, "no result rests on it"
    for changed in ({"seed": 5}, {"train": stored["train"] | {"learning_rate": 7e-5}}):
        write_json(run.layout.config, stored | changed)
        for door in (
            lambda: open_run(run.layout.root),
            lambda: create_or_open(run.config, run.layout.root, command=[]),
        ):
            with pytest.raises(ConfigError, match="not the configuration that this run was begun with"):
                door()
    write_json(run.layout.config, stored)
    assert open_run(run.layout.root).config == run.config


def test_no_program_of_a_sites_settings_of_git_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program := tmp_path / "fs.sh").write_text(f"#!/bin/sh\ntouch {tmp_path}/run\n")
    program.chmod(0o755)
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "config").write_text(f"[core]\n\tfsmonitor = {program}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    git_revision()
    assert not (tmp_path / "run").exists()
