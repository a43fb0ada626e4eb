"""Power loss at every call of a training's own files: checkpoints, the encoded set, the student. See tests/storage/powerloss.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.storage.powerloss import Recording, check_all
from tests.training.tiny_student import make_student, rows, write_parquet
from undo_hpc.storage import leftovers
from undo_hpc.storage.atomic import sha256_file
from undo_hpc.storage.leftovers import remove_leftovers
from undo_hpc.training import export
from undo_hpc.training.checkpoints import CheckpointManager
from undo_hpc.training.encoding import EncodedSet, encode_spec, load_data
from undo_hpc.training.ranks import DistContext, RankInfo
from undo_hpc.training.spec import RECORD, TrainSpec

SETTINGS: dict[str, Any] = {
    "epochs": 1.0,
    "precision": "fp32",
    "zero_stage": 0,
    "max_length": 400,
    "checkpoint": {"every_steps": 1, "every_minutes": 0, "keep": 1, "asynchronous": False},
}
STEPS = 3


def alone() -> DistContext:
    """The only rank; no process group is needed for what is tested here."""
    context = DistContext.__new__(DistContext)
    context.info, context.device = RankInfo(0, 1, 0), torch.device("cpu")
    return context


class Engine:
    """What DeepSpeed's engine is to the checkpoints: a state that each step changes, written by the engine's own writer."""

    def __init__(self) -> None:
        self.state = torch.zeros(50)
        self.checkpoint_engine: Any = None

    def step(self, number: int) -> None:
        self.state = self.state * 1.5 + number

    def save_checkpoint(self, folder: str, tag: str, save_latest: bool) -> None:
        os.makedirs(f"{folder}/{tag}", exist_ok=True)
        self.checkpoint_engine.create(None)
        self.checkpoint_engine.save({"state": self.state}, f"{folder}/{tag}/mp_rank_00_model_states.pt")
        self.checkpoint_engine.save({"step": self.state + 1}, f"{folder}/{tag}/zero_optim_states.pt")


def spec_in(root: Path, model: Path | str = "model") -> TrainSpec:
    data, train, out = str(root.parent / "data.parquet"), str(root / "train"), str(root / "student")
    return TrainSpec(SETTINGS, 3, str(model), [data], train, out, "run/0", data_digest="d")


def train(root: Path, recording: Recording | None = None) -> torch.Tensor:
    """Some steps with a checkpoint after each, from the newest sound one on; the state at the end."""
    spec, engine = spec_in(root), Engine()
    manager = CheckpointManager(spec, alone())
    manager.attach(engine)
    found, first = manager.latest(), 0
    if found is not None:
        first = found.step
        engine.state = torch.load(found.path / "state" / "mp_rank_00_model_states.pt", weights_only=True)[
            "state"
        ]
    for number in range(first + 1, STEPS + 1):
        engine.step(number)
        manager.save(engine, number, loss=float(number == 1))
        manager.finalize()
        if recording:
            recording.acknowledge(str(number))
    return engine.state


def test_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest acknowledged checkpoint or a later one is found, and the training ends with the same numbers."""
    monkeypatch.setattr(leftovers, "process_start", lambda pid: "")
    root = tmp_path / "iter"
    root.mkdir()
    with Recording(root) as recording:
        whole = train(root, recording)

    def check(folder: Path, acknowledged: tuple[str, ...]) -> None:
        manager = CheckpointManager(spec_in(folder), alone())
        found = manager.latest()
        step = found.step if found else 0
        assert step >= int(acknowledged[-1] if acknowledged else 0), (
            f"resumes after step {step}: a checkpoint is lost"
        )
        assert torch.equal(train(folder), whole)
        remove_leftovers(folder)
        assert not list((folder / "train" / "checkpoints").glob(".*"))

    count = check_all(recording, tmp_path / "s", check)
    assert count > 100


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student with its data beside it."""
    root = tmp_path_factory.mktemp("model")
    write_parquet(root / "data.parquet", rows(6))
    return make_student(root / "model", hidden=8, layers=1, heads=2, kv_heads=1)


def same(one: EncodedSet, other: EncodedSet) -> bool:
    return (
        (one.ids == other.ids).all() and (one.names == other.names).all() and one.left_out == other.left_out
    )


def test_the_encoded_set_is_whole_or_made_again(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "process_start", lambda pid: "")
    from transformers import AutoTokenizer

    from undo_hpc.training import encoding

    tokenizer = AutoTokenizer.from_pretrained(model)
    root = tmp_path / "iter"
    (root / "train").mkdir(parents=True)
    write_parquet(tmp_path / "data.parquet", rows(6))
    expected = encode_spec(spec_in(root, model), tokenizer)
    monkeypatch.setattr(encoding, "encode_spec", lambda spec, tokenizer: expected)
    monkeypatch.setattr(encoding, "hash_of", lambda spec: 1)
    with Recording(root) as recording:
        load_data(spec_in(root, model), tokenizer, alone())
        recording.acknowledge("encoded")

    def check(folder: Path, acknowledged: tuple[str, ...]) -> None:
        if acknowledged:
            encoding.load_encoded(next((folder / "train").glob("encoded-*.npz")))
        assert same(load_data(spec_in(folder, model), tokenizer, alone()), expected)
        remove_leftovers(folder)
        assert len(list((folder / "train").iterdir())) == 1

    check_all(recording, tmp_path / "s", check)


@pytest.mark.parametrize("content", [b"", b"PK half", bytes(4000)])
def test_a_torn_encoded_set_is_made_again(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """It used to end every later start with a bare error of the zip reader."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    root = tmp_path / "iter"
    (root / "train").mkdir(parents=True)
    write_parquet(tmp_path / "data.parquet", rows(6))
    spec = spec_in(root, model)
    expected = load_data(spec, tokenizer, alone())
    path = next((root / "train").glob("encoded-*.npz"))
    path.write_bytes(content or path.read_bytes()[:100])
    assert same(load_data(spec, tokenizer, alone()), expected)
    assert same(load_data(spec, tokenizer, alone()), expected)


def publish(root: Path, model: Path, loaded: Any, tokenizer: Any) -> None:
    """What rank 0 does at the end of a training."""
    spec = spec_in(root, model)
    summary = {"rows_given": 6, "rows_learned": 6, "rows_left_out": {}, "steps": 4, "tokens": 99}
    data = SimpleNamespace(end_token=tokenizer.eos_token_id)
    export._publish(spec, spec.config, loaded, dict(loaded.state_dict()), tokenizer, data, summary)  # type: ignore[arg-type]


def test_a_student_stands_whole_or_not_at_all(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setattr(leftovers, "process_start", lambda pid: "")
    monkeypatch.setattr(export, "card", lambda *_: "a card")
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    root = tmp_path / "iter"
    root.mkdir()
    with Recording(root) as recording:
        for number in range(2):
            publish(root, model, loaded, tokenizer)
            recording.acknowledge(str(number))
    wanted = {p.name: sha256_file(p) for p in (root / "student").iterdir()}

    def check(folder: Path, acknowledged: tuple[str, ...]) -> None:
        stands = export.exported(spec_in(folder, model))
        assert stands or not acknowledged, "an acknowledged student is lost"
        if stands:
            assert {p.name: sha256_file(p) for p in (folder / "student").iterdir()} == wanted, (
                "torn, and believed"
            )
        assert not stands or json.loads((folder / "student" / RECORD).read_text())["run_id"] == "run/0"

    check_all(recording, tmp_path / "s", check)
