"""What a GPU would run, as far as a machine without one can tell.

The kernels themselves run in tests/gpu. Here the code around them does: tensors without memory that refuse to mix devices and to be
read by the host (torch's FakeTensor on the device `meta`), stand-ins where only a GPU has the kernel, Triton's interpreter.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import tiny_student
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError
from undo_hpc.training import answer_head, attention, kernels, student
from undo_hpc.training.attention import VarlenLayout, varlen_attention
from undo_hpc.training.batches import Batcher, MicroBatch
from undo_hpc.training.encoding import EncodedSet
from undo_hpc.training.loop import answer_loss

HOPPER, VOLTA = (9, 0), (7, 0)
LENGTHS, PROMPTS = [33, 20, 20, 9], [10, 1, 19, 4]


def packed_row(implementation: str, device: torch.device) -> MicroBatch:
    """Four documents in a row."""
    rng = np.random.default_rng(1)
    data = EncodedSet(
        rng.integers(3, 260, sum(LENGTHS)).astype(np.int32),
        np.cumsum([0, *LENGTHS]),
        np.asarray(PROMPTS),
        np.asarray(list("abcd")),
        2,
        4,
    )
    return Batcher(
        data, TrainConfig(), rank=0, ranks=1, attention=implementation, pad_token=0, device=device
    ).build([0, 1, 2, 3])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    attention.register()
    return AutoModelForCausalLM.from_pretrained(
        tiny_student.make_student(tmp_path_factory.mktemp("model")), attn_implementation="varlen"
    )


def memoryless(heads: int) -> Any:
    """A Qwen2 in bf16 with a large vocabulary on the device `meta`."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    attention.register()
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=48 * heads,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        dtype="bfloat16",
        attn_implementation="varlen",
    )
    with torch.device("meta"):
        return Qwen2ForCausalLM(config).to(torch.bfloat16)


@pytest.mark.parametrize(("capability", "heads"), [(HOPPER, 4), (VOLTA, 4)])
def test_a_step_mixes_no_devices_and_never_waits_for_the_gpu(
    capability: tuple[int, int], heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is built, goes forward and backward. The host may read no value: each time it would wait for the GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    monkeypatch.setattr(attention, "capability_of", lambda device: capability)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # needs a driver
    device = torch.device("meta")
    net = memoryless(heads)
    with FakeTensorMode() as mode:
        for module in net.modules():
            for weights in (module._parameters, module._buffers):
                weights.update({name: mode.from_tensor(w) for name, w in weights.items() if w is not None})
        head = answer_head.install(net, 16384)
        assert head is not None
        batch = packed_row("varlen", device)
        assert bool(batch.inputs["varlen_layout"].buckets) == (capability == VOLTA)
        loss = answer_loss(net, batch, head)
        assert loss.device == device
        loss.backward()
        assert all(w.grad is not None and w.grad.device == device for w in net.parameters())
    assert not torch.are_deterministic_algorithms_enabled()


def test_deepspeed_does_not_wait_for_the_gpu_to_time_itself() -> None:
    from deepspeed.utils.config import get_timers_config

    from undo_hpc.training.deepspeed_settings import deepspeed_settings

    assert get_timers_config({}).enabled and get_timers_config({}).synchronized  # what it would do
    assert not get_timers_config(deepspeed_settings(TrainConfig())).enabled


def test_the_kernel_runs_in_torchs_deterministic_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backward pass alone, also within a training that has the mode off or on; heads of any width reach it in multiples of 8."""
    seen: list[tuple[bool, int]] = []

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: torch.Tensor) -> torch.Tensor:
            ctx.width = q.shape[-1]
            return q.clone()

        @staticmethod
        def backward(ctx: Any, *gradient: torch.Tensor) -> torch.Tensor:
            seen.append((torch.are_deterministic_algorithms_enabled(), ctx.width))
            return gradient[0]

    monkeypatch.setattr(attention, "_kernel", lambda: (lambda q, *_, **__: Kernel.apply(q), frozenset()))
    q, k, v = (torch.empty(1, 4, 6, 12, device="meta", requires_grad=True) for _ in range(3))
    for outside in (False, True):
        torch.use_deterministic_algorithms(outside)
        try:
            out, _ = varlen_attention(
                torch.nn.Module(), q, k, v, None, varlen_layout=VarlenLayout.of([4, 2], kernel=True)
            )
            assert out.shape == (1, 6, 4, 12)
            out.sum().backward()
            assert torch.are_deterministic_algorithms_enabled() == outside
        finally:
            torch.use_deterministic_algorithms(False)
    assert seen == [(True, 16), (True, 16)]


def test_a_model_with_another_attention_is_refused() -> None:
    q = torch.zeros(1, 2, 6, 8)
    for options, message in (
        ({"softcap": 50.0}, "caps its attention's scores"),
        ({"sliding_window": 3}, "looks back 3 tokens only"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            varlen_attention(
                torch.nn.Module(), q, q, q, None, varlen_layout=VarlenLayout.of([4, 2]), **options
            )
        assert caught.value.hint
    varlen_attention(
        torch.nn.Module(), q, q, q, None, varlen_layout=VarlenLayout.of([4, 2]), sliding_window=4
    )


MISSING = "flash-attn is not installed"


@pytest.mark.parametrize(
    ("settings", "capability", "flash", "name", "told"),
    [
        ({}, None, MISSING, "varlen", "documents of a row attended to one by one"),
        ({}, HOPPER, MISSING, "varlen", "torch's varlen flash kernel"),
        ({}, HOPPER, "", "varlen", "torch's varlen flash kernel"),
        (
            {},
            VOLTA,
            "",
            "varlen",
            "in buckets of similar length: flash kernels need compute capability 8.0, this GPU has 7.0",
        ),
        (
            {"precision": "fp32"},
            HOPPER,
            "",
            "varlen",
            "in buckets of similar length: no flash kernel takes fp32",
        ),
        ({"packing": False}, HOPPER, "", "sdpa", "torch"),
        ({"attention": "varlen"}, VOLTA, MISSING, "varlen", "in buckets of similar length"),
        ({"attention": "flash_attention_2"}, HOPPER, "", "flash_attention_2", "FlashAttention 2, varlen"),
        ({"attention": "flash_attention_2"}, HOPPER, MISSING, None, "flash-attn is not installed"),
        ({"attention": "flash_attention_2"}, VOLTA, "", None, "compute capability 8.0, this GPU has 7.0"),
        (
            {"attention": "flash_attention_2", "precision": "fp32"},
            HOPPER,
            "",
            None,
            "no flash kernel takes fp32",
        ),
        ({"attention": "flash_attention_2"}, None, MISSING, None, "there is no GPU"),
    ],
)
def test_attention_is_chosen_by_settings_gpu_and_packages(
    settings: dict[str, Any], capability: tuple[int, int] | None, flash: str, name: str | None, told: str
) -> None:
    if name is None:
        with pytest.raises(ConfigError, match=told) as caught:
            student.pick_attention(TrainConfig(**settings), capability=capability, flash=flash)
        assert "train.attention to auto" in str(caught.value.hint)
    else:
        got, how = student.pick_attention(TrainConfig(**settings), capability=capability, flash=flash)
        assert got == name and told in how


def varlen_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    deterministic: bool = False,
) -> torch.Tensor:
    """What FlashAttention's varlen function computes, in plain torch: each stretch of the offsets by itself."""
    assert causal and dropout_p == 0.0 and window_size == (-1, -1)
    offsets = cu_seqlens_q.tolist()
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32 and offsets == cu_seqlens_k.tolist()
    assert max_seqlen_q == max_seqlen_k == max(b - a for a, b in itertools.pairwise(offsets))
    parts = [
        torch.nn.functional.scaled_dot_product_attention(
            *(t[a:b].transpose(0, 1)[None] for t in (q, k, v)),
            is_causal=True,
            scale=softmax_scale,
            enable_gqa=True,
        )[0].transpose(0, 1)
        for a, b in itertools.pairwise(offsets)
    ]
    return torch.cat(parts)


def test_flash_attention_gets_the_documents_and_learns_the_same(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through transformers' own path. Only the kernel is a stand-in: no CPU can run it."""
    from transformers import modeling_flash_attention_utils as flash

    calls: list[list[int]] = []

    def varlen(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(kwargs["cu_seqlens_q"].tolist())
        return varlen_reference(*args, **kwargs)

    varlen.__signature__ = inspect.signature(varlen_reference)  # type: ignore[attr-defined]

    def wrong_way(*_: Any, **__: Any) -> None:
        raise AssertionError("transformers pads, unpads, or guesses documents from positions")

    monkeypatch.setattr(flash, "_loaded_implementation", None)
    monkeypatch.setattr(
        flash, "_lazy_imports", lambda *_, **__: (wrong_way, varlen, None, wrong_way, wrong_way)
    )
    for guess in ("_upad_input", "_is_packed_sequence", "_prepare_from_posids"):
        monkeypatch.setattr(flash, guess, wrong_way)

    def learn(implementation: str) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        model.config._attn_implementation = implementation  # set_attn_implementation would look for a GPU
        loss = answer_loss(model, packed_row(implementation, torch.device("cpu")))
        return loss, torch.autograd.grad(loss, list(model.parameters()))

    torch.testing.assert_close(learn("flash_attention_2"), learn("varlen"), rtol=1e-5, atol=1e-5)
    assert calls == [[0, *np.cumsum(LENGTHS).tolist()]] * model.config.num_hidden_layers


def test_torchs_norm_stands_in_only_where_it_is_the_same(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    attention.register()
    model = AutoModelForCausalLM.from_pretrained(
        tiny_student.make_student(tmp_path / "model"), attn_implementation="varlen"
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)  # norms begin at one

    def gradients() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(
            answer_loss(model, packed_row("varlen", torch.device("cpu"))), list(model.parameters())
        )

    plain = gradients()
    assert kernels.fuse_norms(model) == 2 * model.config.num_hidden_layers + 1
    torch.testing.assert_close(gradients(), plain, rtol=1e-4, atol=1e-5)

    class ShiftedRMSNorm(type(model.model.norm)):  # type: ignore[misc]
        """As Gemma's: one is added to the weights."""

        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden_states) * (1 + 1 / self.weight)

    assert kernels.fuse_norms(torch.nn.Sequential(ShiftedRMSNorm(16))) == 0


@pytest.mark.skipif(
    not (importlib.util.find_spec("triton") and importlib.util.find_spec("liger_kernel")),
    reason="triton or liger-kernel is not here",
)
def test_ligers_kernels_learn_the_same_from_a_packed_row(tmp_path: Path) -> None:
    place = tiny_student.make_student(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.liger_interpreted", str(place)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["used"]
    assert told["norm"].startswith("LigerRMSNorm") and told["mlp"].startswith("LigerSwiGLUMLP")
    assert told["loss"][1] == pytest.approx(told["loss"][0], rel=1e-5)
    assert told["apart"] < 1e-4
