"""Checkpoint files hold data and nothing that runs code, whoever wrote them."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from undo_hpc.errors import EvidenceError
from undo_hpc.training.writer import CheckpointWriter, plain_data_only, write_file


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


def test_a_checkpoint_with_code_in_it_is_refused_and_nothing_of_it_runs(tmp_path: Path) -> None:
    write_file({"weights": torch.ones(3), "extra": Hostile(tmp_path / "victim")}, tmp_path / "state.pt")
    with pytest.raises(EvidenceError, match=r"posix\.mkdir|nt\.mkdir"):
        CheckpointWriter(asynchronous=False).load(str(tmp_path / "state.pt"))
    with pytest.raises(EvidenceError), plain_data_only():  # as DeepSpeed loads
        torch.load(tmp_path / "state.pt", weights_only=False)
    assert not (tmp_path / "victim").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_what_checkpoints_are_made_of_is_read(tmp_path: Path) -> None:
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    state = {
        "module": OrderedDict(a=torch.ones(2)),
        "loss_scaler": LossScaler(1.0),
        "zero_stage": ZeroStageEnum.weights,
        "slices": [fragment_address(numel=2, start=0)],
    }
    write_file(state, tmp_path / "state.pt")
    with plain_data_only():  # DeepSpeed loads by our writer and by itself in turn
        again = CheckpointWriter(asynchronous=False).load(str(tmp_path / "state.pt"))
        torch.load(tmp_path / "state.pt", weights_only=False)
    assert again["zero_stage"] == ZeroStageEnum.weights and again["slices"] == state["slices"]
    assert torch.equal(again["module"]["a"], torch.ones(2))
