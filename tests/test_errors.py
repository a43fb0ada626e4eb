"""What a library raises for odd files of others is a DataError, wherever a model is loaded."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from undo_hpc.config.schema import EngineConfig, ModelConfig, TrainConfig, TransformersEngineConfig
from undo_hpc.engines import load_engine
from undo_hpc.errors import DataError, loading
from undo_hpc.tiny import models_dir
from undo_hpc.training import student
from undo_hpc.training.spec import TrainSpec

Change = Callable[[Path], object]


def _code_in_its_weights(place: Path) -> None:
    (place / "model.safetensors").unlink()
    with zipfile.ZipFile(place / "pytorch_model.bin", "w") as archive:
        archive.writestr("m/data.pkl", b"cposix\nsystem\n(S'false'\ntR.")
        archive.writestr("m/version", b"3")


def _with(file: str = "config.json", **values: object) -> Change:
    def change(place: Path) -> None:
        there = json.loads((place / file).read_text()) if (place / file).exists() else {}
        (place / file).write_text(json.dumps(there | values))

    return change


WEIGHTS: dict[str, Change] = {
    "code in its weights": _code_in_its_weights,
    "half a section": _with(quantization_config={"quant_method": "compressed-tensors"}),
    "weights of another shape": _with(hidden_size=24, num_attention_heads=2),
    "words for a number": _with(hidden_size="many"),
    "no number": _with(vocab_size=None),
}
ASKED: dict[str, Change] = {
    "no such dtype": _with(dtype="hub"),  # training has its own
    "an end that is no token": _with("generation_config.json", eos_token_id={}),
    "words that are none": _with("tokenizer_config.json", model_max_length=[], eos_token=7),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return shutil.copytree(models_dir() / "student", tmp_path / "model")


@pytest.mark.parametrize("change", [*WEIGHTS.values(), *ASKED.values()], ids=[*WEIGHTS, *ASKED])
def test_an_engine_refuses_a_model_of_odd_values(place: Path, change: Change) -> None:
    change(place)
    config = EngineConfig(transformers=TransformersEngineConfig(threads=1))
    with pytest.raises(DataError, match="model"):
        load_engine(config, ModelConfig(model=str(place)))


@pytest.mark.parametrize("change", WEIGHTS.values(), ids=WEIGHTS)
def test_training_refuses_a_model_of_odd_values(place: Path, change: Change) -> None:
    change(place)
    with pytest.raises(DataError, match="model"):
        spec = TrainSpec({}, 0, str(place), [], str(place.parent), str(place.parent / "out"), "run")
        student.load_student(spec, TrainConfig(), "eager")


def test_a_lack_of_memory_is_no_fault_of_the_files() -> None:
    with pytest.raises(MemoryError), loading("the model cannot be loaded", hint="look"):
        raise MemoryError
    with (
        pytest.raises(DataError, match="cannot be loaded: KeyError: 'rope'\n  -> look"),
        loading("the model cannot be loaded", hint="look"),
    ):
        raise KeyError("rope")
