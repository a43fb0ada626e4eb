"""Packed documents do not see each other: logits and gradients equal those of each document alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.search import examples
from tests.training import tiny_student
from undo_hpc.training import attention
from undo_hpc.training.attention import VarlenLayout, varlen_attention


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=12),
    st.booleans(),
    st.sampled_from([(4, 4), (4, 2), (4, 1)]),
)
@examples(40, share=0.2)
def test_each_document_is_attended_to_by_itself(
    lengths: list[int], in_order: bool, heads: tuple[int, int]
) -> None:
    lengths = sorted(lengths, reverse=True) if in_order else lengths
    torch.manual_seed(len(lengths))
    total, width = sum(lengths), 8
    q, k, v = (
        torch.randn(1, h, total, width, dtype=torch.float64, requires_grad=True)
        for h in (heads[0], heads[1], heads[1])
    )
    out, _ = varlen_attention(
        torch.nn.Module(), q, k, v, None, scaling=0.3, varlen_layout=VarlenLayout.of(lengths)
    )
    assert out.shape == (1, total, heads[0], width)
    weight = torch.randn_like(out)
    gradients = torch.autograd.grad((out * weight).sum(), (q, k, v))
    parts, at = [], 0
    for n in lengths:
        part = [t[:, :, at : at + n] for t in (q, k, v)]
        group = heads[0] // heads[1]
        scores = part[0] @ part[1].repeat_interleave(group, 1).transpose(2, 3) * 0.3
        scores = scores.masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), float("-inf"))
        parts.append((scores.softmax(-1) @ part[2].repeat_interleave(group, 1)).transpose(1, 2))
        at += n
    plain = torch.cat(parts, 1)
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(gradients, torch.autograd.grad((plain * weight).sum(), (q, k, v)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    attention.register()
    place: Path = tiny_student.make_student(tmp_path_factory.mktemp("model"))
    return AutoModelForCausalLM.from_pretrained(place, attn_implementation="varlen").eval()


@pytest.mark.parametrize("implementation", ["varlen", "sdpa", "eager"])
def test_a_packed_row_gives_each_document_its_own_logits(model: Any, implementation: str) -> None:
    import numpy as np

    from undo_hpc.config.train import TrainConfig
    from undo_hpc.training.batches import Batcher
    from undo_hpc.training.encoding import EncodedSet

    rng = np.random.default_rng(0)
    lengths = [40, 31, 30, 7]
    starts = np.cumsum([0, *lengths])
    data = EncodedSet(
        rng.integers(3, 260, sum(lengths)).astype(np.int32),
        starts,
        np.asarray([1, 1, 1, 1]),
        np.asarray(list("abcd")),
        2,
        4,
    )
    batcher = Batcher(
        data,
        TrainConfig(),
        rank=0,
        ranks=1,
        attention=implementation,
        pad_token=0,
        device=torch.device("cpu"),
    )
    batch = batcher.build([0, 1, 2, 3])
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        packed = model(**batch.inputs).logits[0]
        model.set_attn_implementation("sdpa")
        alone = [
            model(input_ids=torch.tensor(data.tokens(i)[None].astype(np.int64)), use_cache=False).logits[
                0, :-1
            ]
            for i in range(4)
        ]
    torch.testing.assert_close(packed, torch.cat(alone), atol=2e-5, rtol=1e-4)


def test_the_trap_that_this_guards_against_is_real(model: Any) -> None:
    """With the cache on, resetting positions alone lets documents see each other: the reason for use_cache=False."""
    model.set_attn_implementation("sdpa")
    ids = torch.randint(3, 260, (1, 40), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(20), torch.arange(20)])[None]
    with torch.no_grad():
        alone = model(input_ids=ids[:, 20:], use_cache=False).logits
        apart = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, 20:]
        mixed = model(input_ids=ids, position_ids=positions, use_cache=True).logits[:, 20:]
    assert (apart - alone).abs().max() < 1e-4 < (mixed - alone).abs().max()


def test_generation_works_with_it(model: Any) -> None:
    ids = torch.randint(3, 260, (1, 12), generator=torch.Generator().manual_seed(1))
    model.set_attn_implementation("sdpa")
    plain = model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=True)
    model.set_attn_implementation("varlen")
    assert (model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=True) == plain).all()


def test_loss_and_gradients_of_a_packed_row_are_those_of_transformers_own_loss(model: Any) -> None:
    """Against model(labels=...) on each example by itself, the prompt masked by -100."""
    import numpy as np

    from undo_hpc.config.train import TrainConfig
    from undo_hpc.training.batches import Batcher
    from undo_hpc.training.encoding import EncodedSet
    from undo_hpc.training.loop import answer_loss

    rng = np.random.default_rng(1)
    lengths, prompts = [33, 20, 20, 9], [10, 1, 19, 4]
    data = EncodedSet(
        rng.integers(3, 260, sum(lengths)).astype(np.int32),
        np.cumsum([0, *lengths]),
        np.asarray(prompts),
        np.asarray(list("abcd")),
        2,
        4,
    )
    batcher = Batcher(
        data, TrainConfig(), rank=0, ranks=1, attention="varlen", pad_token=0, device=torch.device("cpu")
    )
    model.set_attn_implementation("varlen")
    loss = answer_loss(model, batcher.build([0, 1, 2, 3]))
    ours = torch.autograd.grad(loss, list(model.parameters()))
    model.set_attn_implementation("sdpa")
    total = torch.zeros(())
    for i, prompt in enumerate(prompts):
        ids = torch.tensor(data.tokens(i).astype(np.int64))[None]
        labels = ids.clone()
        labels[:, :prompt] = -100
        total = total + model(input_ids=ids, labels=labels, use_cache=False).loss * (ids.shape[1] - prompt)
    torch.testing.assert_close(loss, total, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        ours, torch.autograd.grad(total, list(model.parameters())), rtol=1e-3, atol=1e-4
    )
