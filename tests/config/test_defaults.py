"""Defaults of keys that touch the results are frozen: a run's digest holds what differs from them, so a run that was begun
before a change of one would be taken for another run, and its work for stale.
"""

from __future__ import annotations

import json
from pathlib import Path

from undo_hpc.config.differences import is_neutral
from undo_hpc.config.schema import RunConfig
from undo_hpc.pipeline.run import leaves

GOLDEN = Path(__file__).parent / "golden" / "defaults.json"


def test_no_default_of_a_results_key_changes() -> None:
    now = {key: value for key, value in leaves(RunConfig().model_dump(mode="json")) if not is_neutral(key)}
    frozen = json.loads(GOLDEN.read_text())
    changed = {key: (value, now.get(key)) for key, value in frozen.items() if now.get(key, "gone") != value}
    assert not changed, "give the new behaviour a new key, whose default is the old behaviour"
    assert sorted(now) == sorted(frozen), (
        f"a new key: add it with its default to {GOLDEN.name}, and keep it from now on"
    )
