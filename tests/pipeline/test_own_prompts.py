"""A user's prompt folder: the run keeps a copy, and what it says counts, not where it lies."""

from pathlib import Path
from shutil import copytree, move, rmtree

import pytest

from undo_hpc.config.load import from_sets, override
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError
from undo_hpc.pipeline.own_prompts import by_content, content
from undo_hpc.pipeline.run import Run, create_or_open, open_run
from undo_hpc.prompts import load_prompts
from undo_hpc.storage.atomic import read_json, write_json


@pytest.fixture
def words(tmp_path: Path) -> Path:
    folder = tmp_path / "clone" / "my-words"
    folder.mkdir(parents=True)
    (folder / "problem.txt").write_text("{{ problem }} Show each step.")
    return folder


def asked(folder: Path) -> RunConfig:
    return from_sets([f"teacher.prompt={folder}"])


def begun(folder: Path, root: Path) -> Run:
    run = create_or_open(asked(folder), root, command=[])
    run.layout.prepared.parent.mkdir()
    run.layout.prepared.touch()
    return run


def test_a_run_outlives_the_folder_and_is_the_same_from_another_clone(tmp_path: Path, words: Path) -> None:
    run = begun(words, tmp_path / "run")
    before, digest = load_prompts(str(words)).digest, run.config_digest
    copy = Path(run.config.teacher.prompt)
    assert copy.parent == run.layout.own_prompts and copy.name.startswith("my-words-")
    assert str(tmp_path) not in str(read_json(run.layout.config)["teacher"])
    other = Path(copytree(words, tmp_path / "other clone" / "called otherwise"))
    rmtree(words)
    again = create_or_open(asked(other), run.layout.root, command=[])
    assert again.config == run.config and again.config_digest == digest
    moved = Path(move(run.layout.root, tmp_path / "moved"))
    opened = open_run(moved)
    assert opened.config_digest == digest and opened.asks_as(run, "teacher") is False  # the old place is gone
    assert load_prompts(opened.config.teacher.prompt).digest == before
    assert create_or_open(opened.config, moved, command=[]).config == opened.config


def test_other_words_are_another_configuration(tmp_path: Path, words: Path) -> None:
    run = begun(words, tmp_path / "run")
    (words / "problem.txt").write_text("{{ problem }} Be brief.")
    with pytest.raises(ConfigError, match=r"another configuration(.|\n)*teacher\.prompt"):
        create_or_open(asked(words), run.layout.root, command=[])
    assert len([*run.layout.own_prompts.iterdir()]) == 1


def test_a_copy_that_is_missing_or_damaged_is_made_again(tmp_path: Path, words: Path) -> None:
    run = begun(words, tmp_path / "run")
    copy = Path(run.config.teacher.prompt)
    for spoil in (lambda: (copy / "problem.txt").write_text("{{ problem }}!"), lambda: rmtree(copy)):
        spoil()
        assert create_or_open(asked(words), run.layout.root, command=[]).config == run.config
        assert load_prompts(str(copy)).digest == load_prompts(str(words)).digest
        assert [p.name for p in run.layout.own_prompts.iterdir()] == [copy.name]


def test_a_start_that_was_killed_after_the_copy_goes_on(tmp_path: Path, words: Path) -> None:
    run = create_or_open(asked(words), tmp_path / "run", command=[])
    run.layout.config.unlink()
    run.layout.events.unlink()
    assert create_or_open(asked(words), run.layout.root, command=[]).config == run.config


def test_a_run_of_a_version_that_kept_the_path_keeps_its_digest(tmp_path: Path, words: Path) -> None:
    """Its manifests hold that digest: another one would have all its work done again."""
    run = begun(words, tmp_path / "run")
    stored = read_json(run.layout.config)
    stored["teacher"]["prompt"] = str(words)
    write_json(run.layout.config, stored)
    old = open_run(run.layout.root)
    assert old.config.teacher.prompt == str(words) and old.config_digest != run.config_digest
    assert create_or_open(asked(words), old.layout.root, command=[]).config_digest == old.config_digest


def test_only_prompts_that_are_folders_are_compared_by_what_they_say(words: Path) -> None:
    values = {"arms.a.teacher.prompt": str(words), "student.prompt": "tiny", "teacher.instruction": "own"}
    found = dict(by_content(values.items()))
    assert found == values | {"arms.a.teacher.prompt": content(str(words))} and str(words) not in str(found)
    assert content("no/such/folder") == "no/such/folder"
    assert override(asked(words), []).teacher.prompt == str(words)
