"""The loss computed piece by piece equals the plain one, with its gradients, alone and inside a training."""

from __future__ import annotations

import pytest
import torch

from tests.training import tiny_student
from tests.training.conftest import Trainings, metrics
from undo_hpc.training.answer_head import AnswerHead


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_loss_and_gradients_equal_the_plain_ones(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undo_hpc.training.answer_head._CHUNK_LOGITS", 0)  # pieces of 128
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50, bias=False, dtype=dtype)
    hidden = torch.randn(2, 200, 16, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, 50, (400,))
    targets[::7] = -100
    plain = torch.nn.functional.cross_entropy(
        head(hidden).flatten(0, 1), targets, reduction="sum", ignore_index=-100
    )
    wanted = torch.autograd.grad(plain * 0.5, (hidden, head.weight))
    head.__class__ = AnswerHead
    head.targets = targets
    loss = head(hidden)
    got = torch.autograd.grad(loss.sum() * 0.5, (hidden, head.weight))
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(loss.sum().to(dtype), plain, **tolerance)
    torch.testing.assert_close(got, wanted, **tolerance)
    assert head(hidden).shape == (2, 200, 50)  # without targets it is the layer it was


@pytest.mark.parametrize(
    ("ranks", "stage", "packing", "tied"), [(1, 0, True, True), (2, 3, True, True), (1, 2, False, False)]
)
def test_a_training_learns_the_same_with_it(
    trainings: Trainings, ranks: int, stage: int, packing: bool, tied: bool
) -> None:
    model = trainings.root / f"head-{tied}"
    if not model.exists():
        tiny_student.make_student(model, tied=tied)
    one, two = (trainings.spec(model=str(model), zero_stage=stage, packing=packing) for _ in range(2))
    trainings.run(one, ranks)
    trainings.run(two, ranks, ALWAYS_PIECEWISE="1")
    assert [r["loss"] for r in metrics(two)] == pytest.approx([r["loss"] for r in metrics(one)], abs=1e-4)
    assert metrics(one)[-1]["loss"] < metrics(one)[0]["loss"]
