"""What of two configurations differs, which keys may differ in an existing run, and by which comparisons tell runs apart."""

from undo_hpc.config.differences import differing_keys, is_neutral, may_change
from undo_hpc.config.load import all_keys
from undo_hpc.config.schema import RunConfig


def test_neutral_keys() -> None:
    assert is_neutral("cluster.max_processes")
    assert is_neutral("generate.shards")
    assert not is_neutral("train.epochs")
    assert not is_neutral("generate.engine.transformers.batch_tokens")
    assert not is_neutral("nonsense") and not may_change("nonsense") and not may_change("train.epochs")
    assert may_change("cluster.max_processes") and may_change("evaluate.added.more.samples")


def test_what_may_change_in_a_run_and_decides_a_result_tells_runs_apart() -> None:
    """How many students there are to choose from, what they learn, and what a program of an answer may use."""
    both = [key for key in all_keys(RunConfig) if may_change(key) and not is_neutral(key)]
    assert sorted(both) == ["grading.memory_mb", "iterations", "student.reasoning", "until"]


def test_differences_are_leaves() -> None:
    assert list(differing_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})) == [("a.c", 2, 3)]
