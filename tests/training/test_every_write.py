"""Every write of a training's own files fails once: a message and an exit code; the same command with room again gives the same bytes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from tests.storage.faults import fail_everywhere
from tests.training.test_powerloss import alone, model, publish, same, spec_in, train
from tests.training.tiny_student import rows, write_parquet
from undo_hpc.errors import ExitCode, StorageError
from undo_hpc.storage.atomic import sha256_file
from undo_hpc.training import encoding, export

__all__ = ["model"]


def test_checkpoints(tmp_path: Path) -> None:
    states: list[torch.Tensor] = []

    def check(root: Path) -> None:
        states.append(train(root))
        assert torch.equal(states[-1], states[0])

    (tmp_path / "iter").mkdir()
    calls, starts = fail_everywhere(
        tmp_path / "iter", lambda root: states.append(train(root)), check, stays=False
    )
    assert calls > 20 and starts > calls // 2


@pytest.fixture
def loaded(model: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The tiny student and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setattr(export, "card", lambda *_: "a card")
    return AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)


def test_the_encoded_set(
    tmp_path: Path, model: Path, loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "iter" / "train").mkdir(parents=True)
    write_parquet(tmp_path / "data.parquet", rows(6))
    expected = encoding.encode_spec(spec_in(tmp_path / "iter", model), loaded[1])
    monkeypatch.setattr(encoding, "encode_spec", lambda *_: expected)

    def work(root: Path) -> None:
        assert same(encoding.load_data(spec_in(root, model), loaded[1], alone()), expected)

    calls, _ = fail_everywhere(tmp_path / "iter", work, work)
    assert calls >= 4


def test_the_student(tmp_path: Path, model: Path, loaded: tuple[Any, Any]) -> None:
    digests: list[dict[str, str]] = []

    def check(root: Path) -> None:
        digests.append({p.name: sha256_file(p) for p in (root / "student").iterdir()})
        assert digests[-1] == digests[0], "other bytes"

    (tmp_path / "iter").mkdir()
    calls, _ = fail_everywhere(
        tmp_path / "iter", lambda root: publish(root, model, *loaded), check, stays=False
    )
    assert calls > 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with room for a part of the weights; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_while_the_weights_are_written_is_said(
    small_disk: Path, model: Path, loaded: tuple[Any, Any]
) -> None:
    """safetensors writes in Rust: its error was none of the system's, and ended the training bare."""
    with pytest.raises(StorageError, match="the disk is full") as caught:
        publish(small_disk, model, *loaded)
    assert caught.value.__cause__ is not None and isinstance(
        caught.value.__cause__.__cause__, SafetensorError
    )
    assert caught.value.exit_code == ExitCode.INCOMPLETE and not (small_disk / "student").exists()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    publish(small_disk, model, *loaded)
    assert (small_disk / "student" / "model.safetensors").stat().st_size > 12_000
