"""A run directory opens again whatever moment its first start was killed at, and a damaged one is named."""

from pathlib import Path

import pytest

from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError, StorageError
from undo_hpc.run import create_or_open, open_run
from undo_hpc.storage.atomic import read_json, write_json


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


def test_a_configuration_that_this_program_does_not_know_is_named(tmp_path: Path) -> None:
    run = create_or_open(RunConfig(), tmp_path / "run", command=[])
    write_json(run.layout.config, read_json(run.layout.config) | {"of_a_newer_version": 1})
    with pytest.raises(StorageError, match=r"config\.resolved\.json is not a configuration .*of_a_newer_version"):
        open_run(run.layout.root)
