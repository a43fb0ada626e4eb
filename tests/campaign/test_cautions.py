"""What a reader of a comparison must know beside it, and in what its arms differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc.campaign.answers import RunResult, read_result
from undo_hpc.campaign.comparison import cautions
from undo_hpc.campaign.page import settings
from undo_hpc.cli.verbs.compare import group_runs
from undo_hpc.storage.manifest import read_manifest, write_manifest


def test_training_problems_are_told_apart_by_what_they_are(tmp_path: Path) -> None:
    """Not by where their file lies: the same rows in another folder are the same, others from the same file are not."""

    def arm(name: str, change: str, *sets: str, problems: int = 24) -> RunResult:
        made = RunBuilder(
            tmp_path / name, problems=problems, sets=["iterations=1", *sets], benchmarks={"gsm": 80}
        )
        manifest = read_manifest(made.run.layout.prepared)
        assert manifest is not None
        source = {"train_source": {"path": change}}
        write_manifest(made.run.layout.prepared, replace(manifest, details=manifest.details | source))
        found = read_result(made.play(1), "gsm")
        assert found is not None
        return found

    one, moved = arm("one", "/a/rows.jsonl"), arm("moved", "/b/rows.jsonl", "data.train.sample=30")
    other = arm("other", "/a/rows.jsonl", problems=23)
    said = "Not all arms had the same training problems: "
    both = {"one": {0: one}, "moved": {0: moved}}
    assert not any(said in text for text in cautions(both))
    assert [text for text in cautions(both | {"other": {0: other}}) if said in text] == [
        f"{said}one, moved; others: other. Compare the distinct problems in the ledger."
    ]
    by_seed = {"one": {0: one, 1: other}, "moved": {0: moved, 1: other}, "late": {2: other}}
    assert not any(said in text for text in cautions(by_seed)), "splits may follow the seed"


@pytest.mark.parametrize("change", ["iterations=2", "student.reasoning=strip", "grading.memory_mb=512"])
def test_a_key_that_may_change_in_a_run_and_decides_a_result_makes_another_arm(
    change: str, tmp_path: Path
) -> None:
    key, _, value = change.partition("=")
    first, again, other = (
        RunBuilder(tmp_path / name, problems=9, sets=sets, benchmarks={}).run
        for name, sets in (("first", []), ("again", ["seed=4"]), ("other", ["seed=4", change]))
    )
    assert len(group_runs([first, again])) == 1 and len(group_runs([first, other])) == 2
    assert len(group_runs([again, other])) == 2, "it is no repeated seed"
    assert settings({"a": [first], "b": [other]})[key][1] == value
