"""What a dry run shows as learned is what training learns: the same tokens, found without transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.chat_families import FAMILIES, OFF, make_tokenizer
from undo_hpc.chat.template import ChatTemplate
from undo_hpc.chat.training_text import TurnWriter
from undo_hpc.config.train import TrainConfig
from undo_hpc.training.encoding import Encoder
from undo_hpc.training.loss_tokens import load_tokenizer, loss_tokens
from undo_hpc.training.spec import TrainSpec

ROWS = (
    "Two and three is five: \\boxed{5}.",
    "<think>\nHm.\n</think>\n\nIt is \\boxed{5}.",
    "50 % of é\n\n x",
)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tokens_are_those_of_training(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    tokenizer = make_tokenizer(family)
    tokenizer.chat_template = family.template
    tokenizer.save_pretrained(tmp_path)
    kwargs, date = family.template_kwargs, "2026-02-03"
    spec = TrainSpec(
        train=TrainConfig().model_dump(), seed=0, model=str(tmp_path), data=[], work_dir="", out_dir="", run_id="",
        chat_template_kwargs=kwargs, date=date)  # fmt: skip
    encoder = Encoder(tokenizer, spec)
    template = ChatTemplate.load(tmp_path, kwargs=kwargs, date=date)
    writer = TurnWriter(template.render, source=template.source, eos_token=template.eos_token)
    light = load_tokenizer(tmp_path)
    assert light is not None
    compared = 0
    for rationale in ROWS:
        row = {"id": "1", "problem": "What is 2 + 3?", "teacher_solution": rationale}
        turn, encoded = encoder.turn(row), encoder.encode([row])[0]
        if isinstance(turn, str) or isinstance(encoded, str):
            continue
        prompt, answer = encoded
        found = loss_tokens(light, turn, eos_token=template.eos_token, closing=writer.closing)
        assert found is not None
        assert (found.prompt, len(found.learned)) == (len(prompt), len(answer))
        assert found.learned[-1] == tokenizer.decode([answer[-1]])
        compared += 1
    assert compared >= (1 if family.reasoning == OFF else 2)
