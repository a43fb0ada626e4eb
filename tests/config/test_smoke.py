"""The configuration of a smoke test: small, with the run's models, and nothing that leaves its directory."""

from pathlib import Path

import pytest

from undo_hpc.config.load import load_config, override, preset_names
from undo_hpc.config.smoke import smoke_config, smoke_dir
from undo_hpc.errors import ConfigError


@pytest.mark.parametrize("preset", preset_names())
def test_of_every_preset_it_is_small_and_asks_the_same_models(preset: str) -> None:
    whole = override(
        load_config(preset),
        ["hub.dataset_repo=me/data", "hub.model_repo=me/student", "display.rows_file=rows.jsonl", "hub.push_at_end=true"],
    )  # fmt: skip
    small = smoke_config(whole, 32)
    assert (small.teacher, small.student, small.generate.engine, small.method) == (
        whole.teacher, whole.student, whole.generate.engine, whole.method,
    )  # fmt: skip
    assert small.data.train.sample == 32 and 0 < small.data.validation + small.data.diagnosis <= 16
    assert small.evaluate.limit <= 32 and small.iterations <= 2 and small.train.epochs <= 1
    assert small.train.max_length == whole.train.max_length, "what a row may have is that of the run"
    assert not (small.hub.dataset_repo or small.hub.model_repo or small.hub.push_at_end)
    assert not small.display.rows_file and small.name != whole.name


def test_a_selection_among_rationales_keeps_its_choice() -> None:
    whole = override(
        load_config("tiny"),
        ["generate.samples=8", "generate.max_attempts=8", "method.keep=3", "method.select=shortest"],
    )
    assert smoke_config(whole, 32).generate.samples == 4


@pytest.mark.parametrize(("n", "words"), [(0, "fewer than 16"), (-3, "fewer"), (1200, "only 1200 problems")])
def test_a_number_that_shows_nothing_is_refused(n: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        smoke_config(load_config("tiny"), n)


def test_it_lies_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert smoke_dir(tmp_path / "mine") == tmp_path / "mine-smoke"
    assert smoke_dir(Path(".")).parent == tmp_path.parent
