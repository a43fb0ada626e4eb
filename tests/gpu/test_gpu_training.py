"""Training on a real GPU: documents stay apart in the kernels, ZeRO trains and resumes to the same bits, what is told of it holds."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import tiny_student
from tests.training.conftest import SMALL, metrics, same_bits, weights
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import TrainingError
from undo_hpc.training import attention, kernels, preflight, student
from undo_hpc.training.answer_head import AnswerHead
from undo_hpc.training.batches import Batcher, MicroBatch
from undo_hpc.training.encoding import EncodedSet
from undo_hpc.training.loop import answer_loss
from undo_hpc.training.spec import TrainSpec

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")]
GPU = torch.device("cuda", 0)
LENGTHS = [700, 130, 64, 64, 33, 5, 1]


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Model directories by the width of their heads: 12 channels must be filled up for the kernel, 64 need not."""
    return {
        width: tiny_student.make_student(tmp_path_factory.mktemp(f"heads-{width}"), hidden=4 * width)
        for width in (12, 64)
    }


def documents(
    implementation: str, config: TrainConfig, *, other: int | None = None, lengths: list[int] = LENGTHS
) -> MicroBatch:
    """A packed row on the GPU; document number `other` has other tokens than usual."""
    rng = np.random.default_rng(0)
    parts = [rng.integers(3, 260, n) for n in lengths]
    if other is not None:
        parts[other] = np.random.default_rng(1).integers(3, 260, lengths[other])
    data = EncodedSet(
        np.concatenate(parts).astype(np.int32),
        np.cumsum([0, *lengths]),
        np.minimum(1, np.asarray(lengths)),
        np.asarray([str(n) for n in range(len(lengths))]),
        2,
        len(lengths),
    )
    return Batcher(data, config, rank=0, ranks=1, attention=implementation, pad_token=0, device=GPU).build(
        list(range(len(lengths)))
    )


def load(place: Path, implementation: str, precision: str) -> Any:
    from transformers import AutoModelForCausalLM

    attention.register()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return AutoModelForCausalLM.from_pretrained(place, attn_implementation=implementation, dtype=dtype).to(
        GPU
    )


@pytest.mark.parametrize("width", [12, 64])
@pytest.mark.parametrize(
    ("implementation", "precision"),
    [("varlen", "bf16"), ("varlen", "fp32"), ("sdpa", "bf16"), ("flash_attention_2", "bf16")],
)
def test_a_document_does_not_feel_its_neighbours(
    students: dict[int, Path], width: int, implementation: str, precision: str
) -> None:
    """Another text in one document changes no bit of the others', and the row's loss and gradients are those of fp32 on the CPU."""
    if implementation == "flash_attention_2" and (why := student.flash_missing()):
        pytest.skip(why)
    config = TrainConfig(precision=precision)
    model = load(students[width], implementation, precision)
    kept = {"logits_to_keep": 0}
    with torch.no_grad():
        plain, changed = (
            model(**documents(implementation, config, other=o).inputs | kept).logits[0] for o in (None, 1)
        )
    at = np.cumsum([0, *LENGTHS])
    same = [bool((plain[a:b] == changed[a:b]).all()) for a, b in itertools.pairwise(at)]
    assert same == [True, False, *[True] * (len(LENGTHS) - 2)]

    batch = documents(implementation, config)
    loss = answer_loss(model, batch)
    got = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).float().cpu()
    reference = load(students[width], "eager", "fp32").cpu()
    mask = documents("eager", config).inputs["attention_mask"].cpu()
    wanted_loss = torch.nn.functional.cross_entropy(
        reference(
            **{
                k: v.cpu() if isinstance(v, torch.Tensor) else v
                for k, v in documents("sdpa", config).inputs.items()
            }
            | {"attention_mask": mask}
        ).logits[0],
        batch.targets.cpu(),
        reduction="sum",
    )
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(wanted_loss, list(reference.parameters()))])
    assert float(loss.detach()) == pytest.approx(
        float(wanted_loss.detach()), rel=1e-4 if precision == "fp32" else 1e-2
    )
    assert torch.nn.functional.cosine_similarity(got, wanted, dim=0) > (
        0.9999 if precision == "fp32" else 0.99
    )


def test_gradients_have_the_same_bits_again(students: dict[int, Path]) -> None:
    model, config = load(students[64], "varlen", "bf16"), TrainConfig()
    lengths = [900] * 8 + LENGTHS

    def gradients() -> list[torch.Tensor]:
        return list(
            torch.autograd.grad(
                answer_loss(model, documents("varlen", config, lengths=lengths)), list(model.parameters())
            )
        )

    first = gradients()
    assert all(all(bool((a == b).all()) for a, b in zip(first, gradients(), strict=True)) for _ in range(5))


def test_the_loss_in_pieces_is_the_plain_one() -> None:
    """Over a real vocabulary, in bf16, beside fp64 on the same numbers."""
    torch.manual_seed(0)
    head = torch.nn.Linear(256, 151_936, bias=False, dtype=torch.bfloat16, device=GPU)
    hidden = torch.randn(6000, 256, dtype=torch.bfloat16, device=GPU, requires_grad=True)
    targets = torch.randint(0, 151_936, (6000,), device=GPU)
    exact = torch.nn.functional.cross_entropy(
        hidden[:500].double() @ head.weight.T.double(), targets[:500], reduction="sum"
    )
    wanted = torch.autograd.grad(exact, (hidden, head.weight))
    head.__class__ = AnswerHead
    head.targets = torch.where(torch.arange(6000, device=GPU) < 500, targets, -100)
    loss = head(hidden).sum()
    got = torch.autograd.grad(loss, (hidden, head.weight))
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=1e-3)
    for a, b in zip(got, wanted, strict=True):
        assert (
            torch.nn.functional.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0) > 0.999
        )


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_torchs_fused_norm_learns_the_same(students: dict[int, Path], precision: str) -> None:
    model, config = load(students[64], "varlen", precision), TrainConfig(precision=precision)

    def gradients() -> torch.Tensor:
        made = torch.autograd.grad(answer_loss(model, documents("varlen", config)), list(model.parameters()))
        return torch.cat([g.flatten() for g in made]).float()

    plain = gradients()
    assert kernels.fuse_norms(model) == 5
    assert torch.nn.functional.cosine_similarity(plain, gradients(), dim=0) > (
        0.99999 if precision == "fp32" else 0.99
    )


@pytest.mark.skipif(importlib.util.find_spec("liger_kernel") is None, reason="liger-kernel is not installed")
def test_ligers_kernels_learn_the_same(students: dict[int, Path]) -> None:
    config, told = TrainConfig(precision="fp32"), []
    for liger in (False, True):
        model = load(students[64], "varlen", "fp32")
        if liger:
            assert kernels.use_liger(model)
        loss = answer_loss(model, documents("varlen", config))
        told.append((loss.detach(), torch.autograd.grad(loss, list(model.parameters()))))
    torch.testing.assert_close(told[0], told[1], rtol=1e-3, atol=1e-3)


def test_memory_that_does_not_suffice_is_told_with_advice(students: dict[int, Path]) -> None:
    model, config = load(students[64], "varlen", "bf16"), TrainConfig(zero_stage=2)
    batch = documents("varlen", config, lengths=[512] * 256)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(GPU) + 64 * 2**20) / total, GPU)
    try:
        with pytest.raises(
            TrainingError,
            match=r"the longest micro-batch \(131,072 tokens\) does not fit in the memory of cuda:0",
        ) as caught:
            preflight.try_longest(lambda b: answer_loss(model, b).backward(), batch, config, GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    assert str(caught.value.hint).startswith(
        "lower train.micro_batch_tokens; or set train.gradient_checkpointing"
    )


@pytest.mark.parametrize(("precision", "stage"), [("fp32", 0), ("bf16", 1), ("bf16", 2), ("bf16", 3)])
def test_a_resumed_training_ends_with_the_bits_of_an_undisturbed_one(
    students: dict[int, Path], tmp_path: Path, precision: str, stage: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tiny_student.write_parquet(tmp_path / "data.parquet", tiny_student.rows(120))
    settings = SMALL | {
        "tokens_per_batch": 1600,
        "micro_batch_tokens": 800,
        "precision": precision,
        "zero_stage": stage,
        "liger": True,
    }
    whole = TrainSpec(
        train=settings,
        seed=3,
        model=str(students[64]),
        data=[str(data)],
        data_digest="120",
        run_id="one",
        card={},
        work_dir=str(tmp_path / "whole/work"),
        out_dir=str(tmp_path / "whole/student"),
    )
    resumed = replace(
        whole, work_dir=str(tmp_path / "resumed/work"), out_dir=str(tmp_path / "resumed/student")
    )
    text = run(whole)
    shutil.copytree(whole.work_dir, resumed.work_dir)
    steps = sorted(Path(resumed.work_dir, "checkpoints").glob("step-*"))
    shutil.rmtree(steps[-1])
    assert "resumed after step 4" in run(resumed) and len(steps) == 2
    rows = metrics(whole)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert same_bits(weights(whole), weights(resumed))
    told = [line for line in text.splitlines() if re.match(r"attention|liger|checkpoint|ZeRO", line)]
    with capsys.disabled():
        print(f"\n{precision} ZeRO {stage}: " + "\n  ".join([*told, text.splitlines()[-2]]))

    from transformers import AutoModelForCausalLM

    made = (
        AutoModelForCausalLM.from_pretrained(resumed.out_dir)
        .to(GPU)
        .generate(torch.tensor([[5, 6, 7]], device=GPU), max_new_tokens=4)
    )
    assert made.shape[1] > 3


def run(spec: TrainSpec) -> str:
    """A rank of its own on the GPU; what it said."""
    path = Path(spec.work_dir).parent / "spec.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    spec.save(path)
    done = subprocess.run(
        [sys.executable, "-m", "undo_hpc.training", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
