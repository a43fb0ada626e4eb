"""A value of a checkpoint's manifest, of the encoded rows' counts or of a student's record is another: it is damage, and never believed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.cli.test_damaged_runs import VALUES, places, put
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError, StorageError
from undo_hpc.storage.atomic import write_json
from undo_hpc.training.checkpoints import CheckpointManager
from undo_hpc.training.encoding import EncodedSet, load_encoded, save_encoded
from undo_hpc.training.export import exported
from undo_hpc.training.spec import RECORD, TrainSpec

ALONE: Any = SimpleNamespace(
    info=SimpleNamespace(is_first=True, rank=0, world_size=1),
    barrier=lambda: None,
    all_reduce_max=lambda *values: list(values),
)


@pytest.fixture
def spec(tmp_path: Path) -> TrainSpec:
    settings = TrainConfig().model_dump(mode="json")
    return TrainSpec(
        settings, 0, "model", [], str(tmp_path / "train"), str(tmp_path / "student"), "run/0", data_digest="d"
    )


@pytest.mark.parametrize("sealed", [True, False])
def test_a_checkpoint_whose_manifest_has_another_value_is_skipped(spec: TrainSpec, sealed: bool) -> None:
    """One of an earlier version has no checksum: there another value is refused, or is of no use to anybody."""
    manager = CheckpointManager(spec, ALONE)
    temporary = manager.folder / ".step-00000004.tmp"
    write_json(temporary / "state" / "files-00000.json", {})
    manager.blocked_s.append(0.0)
    manager._publish({"step": 4, "loss": 1.5, "path": temporary, "began": time.monotonic()})
    path = manager.folder / "step-00000004" / "MANIFEST.json"
    sound = json.loads(path.read_text())
    if not sealed:
        del sound["seal"]
    for place in places(sound):
        for value in VALUES:
            changed = put(sound, place, value)
            if changed == sound or (place == ("seal",) and value is None):
                continue
            path.write_text(json.dumps(changed))
            if sealed:
                assert manager.latest() is None, (place, value)
            else:
                try:
                    manager.latest()
                except ConfigError as error:
                    assert error.hint
    path.write_text(json.dumps(sound))
    assert manager.latest() is not None


def test_counts_of_encoded_rows_that_have_changed_are_damage(tmp_path: Path) -> None:
    path, numbers = tmp_path / "encoded.npz", np.zeros(1, np.int64)
    data = EncodedSet(
        np.zeros(2, np.int32), np.asarray([0, 2]), numbers, np.asarray(["a"]), 3, 2, {"long": ["b"]}
    )
    save_encoded(data, path)
    assert load_encoded(path).counts == data.counts
    with np.load(path) as stored:
        arrays = dict(stored)
    meta = json.loads(str(arrays["meta"]))
    for place in places(meta):
        for value in VALUES:
            if put(meta, place, value) != meta:
                with path.open("wb") as file:
                    np.savez(file, **arrays | {"meta": np.asarray(json.dumps(put(meta, place, value)))})
                with pytest.raises(StorageError, match="is damaged"):
                    load_encoded(path)


def test_a_record_of_another_value_is_no_student_of_this_training(spec: TrainSpec) -> None:
    record = {
        "run_id": spec.run_id,
        "data_digest": spec.data_digest,
        "train": spec.train,
        "reasoning": "keep",
    }
    path = Path(spec.out_dir) / RECORD
    write_json(path, record)
    assert exported(spec)
    for changed in [*VALUES, *(put(record, place, value) for place in places(record) for value in VALUES)]:
        path.write_text(json.dumps(changed))
        assert not exported(spec) or changed == record
