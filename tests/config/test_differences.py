"""What of two configurations differs, and which keys may differ in an existing run."""

from undo_hpc.config.differences import differing_keys, is_neutral


def test_neutral_keys() -> None:
    assert is_neutral("cluster.max_processes")
    assert is_neutral("generate.shards")
    assert is_neutral("iterations")
    assert not is_neutral("train.epochs")
    assert not is_neutral("generate.engine.transformers.batch_tokens")
    assert not is_neutral("nonsense")


def test_differences_are_leaves() -> None:
    assert list(differing_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})) == [("a.c", 2, 3)]
