"""What the student is judged on: the answer and its end token, decoded back to text and compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import tiny_student
from tests.training.chat_families import FAMILIES, OFF, make_tokenizer
from tests.training.conftest import Trainings
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import DataError
from undo_hpc.prompts import load_prompts
from undo_hpc.training.batches import Batcher
from undo_hpc.training.encoding import Encoder, encode_rows, encode_spec, load_encoded, save_encoded
from undo_hpc.training.packing import StepPlan
from undo_hpc.training.student import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(trainings: Trainings) -> Any:
    return load_tokenizer(trainings.spec())


def test_the_tokenizer_of_these_tests_is_a_real_one(tokenizer: Any) -> None:
    text = "Ann has 17 cakes. \\boxed{20} é ∑"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert len(tokenizer("12345", add_special_tokens=False)["input_ids"]) == 5


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("changes", [{}, {"system_prompt": "Be brief."}, {"instruction": "Box the answer."}])
def test_the_loss_falls_on_the_answer_and_its_end_alone(
    trainings: Trainings, tokenizer: Any, packing: bool, changes: dict[str, str]
) -> None:
    spec = trainings.spec(rows=60, packing=packing, **changes)
    rows = {r["id"]: r for r in tiny_student.rows(60)}
    data = encode_spec(spec, tokenizer)
    batcher = Batcher(
        data,
        spec.config,
        rank=0,
        ranks=1,
        attention="varlen" if packing else "sdpa",
        pad_token=0,
        device=torch.device("cpu"),
    )
    plan = StepPlan(data.lengths, budget=600, epochs=1, max_steps=0, seed=0)
    learned = []
    for step in plan.steps():
        for batch in batcher.micro_batches(step):
            ids, kept = batch.inputs["input_ids"], batch.inputs["logits_to_keep"]
            targets = batch.targets.view(ids.shape[0], -1)
            for row, wanted in zip(ids, targets, strict=True):
                real = wanted != -100
                assert (
                    row[kept + 1][real] == wanted[real]
                ).all()  # each is the token behind the position that predicts it
            learned += [i for i in batch.targets.tolist() if i != -100]
    texts = tokenizer.decode(learned).split("<|im_end|>")
    assert texts.pop() == ""
    assert sorted(texts) == sorted(r["teacher_solution"] for r in rows.values())

    prompts = load_prompts("default")
    for index in range(len(data)):
        row = rows[str(data.names[index])]
        prompt = tokenizer.decode(data.tokens(index)[: data.prompts[index]].tolist())
        assert (
            prompt.endswith("<|im_start|>assistant\n")
            and prompts.student(row["problem"], spec.instruction) in prompt
        )
        assert ("Be brief." in prompt) == bool(spec.system_prompt)


def test_where_the_template_has_no_end_the_tokenizers_is_put_there(
    trainings: Trainings, tokenizer: Any
) -> None:
    bare = tiny_student.make_tokenizer()
    bare.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    data = encode_rows(tiny_student.rows(5), Encoder(bare, trainings.spec()), TrainConfig())
    assert all(int(data.tokens(i)[-1]) == bare.eos_token_id for i in range(5))
    assert all(bare.eos_token_id not in data.tokens(i)[:-1] for i in range(5))


R, A = "Ann has 17. First 17+7=24.\n\nCheck: 24-7=17.", "17+7=24, so \\boxed{24}"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_chat_formats_of_the_families_that_students_come_from(trainings: Trainings, name: str) -> None:
    family, row = FAMILIES[name], tiny_student.rows(1)[0]
    tokenizer = make_tokenizer(family)
    spec = trainings.spec(chat_template_kwargs=family.template_kwargs, date="2026-02-03")
    encoder = Encoder(tokenizer, spec)
    thinking = row | {"teacher_solution": f"<think>\n{R}\n</think>\n\n{A}"}
    plain, reasoned = encoder.encode([row, thinking])
    assert not isinstance(plain, str)
    wanted = {f"{family.begins}{row['teacher_solution']}": plain}
    if family.reasoning == OFF:
        assert reasoned == family.reasoning
    else:
        assert not isinstance(reasoned, str)
        wanted[family.reasoning.replace("{R}", R).replace("{A}", A)] = reasoned
        turn = encoder.turn(thinking)
        assert not isinstance(turn, str) and turn.composed == family.composed
    for target, (prompt, answer) in wanted.items():
        assert tokenizer.convert_ids_to_tokens(answer[-1]) == family.end
        assert prompt.count(tokenizer.bos_token_id) == (family.bos is not None)  # not doubled
        assert tokenizer.decode(prompt + answer).endswith(f"{target}{family.gap}{family.end}")
        # What the student learns to write is what the tokenizer makes of the whole conversation: no space of its own before it.
        ids = tokenizer(tokenizer.decode(prompt + answer), add_special_tokens=False)["input_ids"]
        assert family.sentencepiece or ids == prompt + answer

    stripped = Encoder(tokenizer, replace(spec, reasoning="strip")).encode([row, thinking])
    assert stripped[0] == plain and not isinstance(stripped[1], str)
    assert tokenizer.decode(stripped[1][1]).endswith(
        f"{A}{family.gap}{family.end}"
    ) and "Check" not in tokenizer.decode(stripped[1][1])
    dropped = Encoder(tokenizer, replace(spec, reasoning="drop")).encode([row, thinking])
    assert dropped == [plain, "it has reasoning, and student.reasoning is drop"]


@pytest.mark.parametrize("name", FAMILIES)
def test_control_tokens_in_a_row_open_and_end_no_turn(trainings: Trainings, name: str) -> None:
    family, row = FAMILIES[name], tiny_student.rows(1)[0]
    tokenizer = make_tokenizer(family)
    turns = [
        t for t in family.special if t not in ("[THINK]", "[/THINK]", "<|channel|>", "<think>", "</think>")
    ]
    injected = f" 9{family.end}{''.join(turns)}{family.eos}{family.bos or ''} and "
    hostile = row | {
        "problem": row["problem"] + injected,
        "teacher_solution": injected + row["teacher_solution"],
    }
    encoder = Encoder(
        tokenizer, trainings.spec(chat_template_kwargs=family.template_kwargs, date="2026-02-03")
    )
    plain, covered = encoder.encode([row, hostile])
    assert not isinstance(plain, str) and not isinstance(covered, str)
    control = set(tokenizer.convert_tokens_to_ids([*family.special, family.end, family.eos]))
    for ids, wanted in zip(covered, plain, strict=True):
        assert [i for i in ids if i in control] == [i for i in wanted if i in control]
    learned = tokenizer.decode(covered[1]).replace(" ", "")
    assert injected.replace(" ", "") in learned, "the student learns the signs that stood there"


def test_a_template_that_refuses_the_system_prompt_is_no_traceback(trainings: Trainings) -> None:
    with pytest.raises(DataError, match="System role not supported") as caught:
        Encoder(make_tokenizer(FAMILIES["Gemma 2"]), trainings.spec(system_prompt="Be brief."))
    assert "system_prompt" in caught.value.hint


def test_no_chat_template_is_refused(trainings: Trainings) -> None:
    bare = tiny_student.make_tokenizer()
    bare.chat_template = None
    with pytest.raises(DataError, match="no chat template"):
        Encoder(bare, trainings.spec())


def test_rows_that_cannot_be_learned_from_are_left_out_with_the_reason(
    trainings: Trainings, tokenizer: Any
) -> None:
    rows = tiny_student.rows(6)
    rows[0]["teacher_solution"] = " "
    rows[1]["teacher_solution"] = "<think>2+2</think>=4</think>"
    rows[2]["teacher_solution"] = "1+1=2. " * 200
    encoder = Encoder(tokenizer, trainings.spec())
    data = encode_rows(rows, encoder, TrainConfig(max_length=300))
    assert data.left_out == {
        "no problem or no answer": [rows[0]["id"]],
        "its reasoning marks do not form one block": [rows[1]["id"]],
        "longer than max_length (300)": [rows[2]["id"]],
    }
    assert data.rows == 6 and len(data) == 3

    cut = encode_rows(rows, encoder, TrainConfig(max_length=300, too_long="truncate"))
    long = list(cut.names).index(rows[2]["id"])
    assert cut.lengths[long] == 300 and int(cut.tokens(long)[-1]) != data.end_token
    assert tokenizer.decode(cut.tokens(long)[cut.prompts[long] :].tolist()).startswith("1+1=2. 1+1=2.")


def test_the_stored_encoding_is_the_same(trainings: Trainings, tokenizer: Any, tmp_path: Path) -> None:
    data = encode_spec(trainings.spec(), tokenizer)
    save_encoded(data, tmp_path / "encoded.npz")
    again = load_encoded(tmp_path / "encoded.npz")
    assert (
        (again.ids == data.ids).all()
        and (again.starts == data.starts).all()
        and (again.prompts == data.prompts).all()
    )
    assert list(again.names) == list(data.names)
    assert replace(again, ids=data.ids, starts=data.starts, prompts=data.prompts, names=data.names) == data


def test_one_bad_row_is_left_out_and_the_others_are_learned(trainings: Trainings) -> None:
    """Reasoning that the prompt turns off, one that never ends, a problem that the template refuses, an unknown sign."""
    family = FAMILIES["Qwen3, enable_thinking: false"]
    tokenizer = make_tokenizer(family)
    refuse = "{% if 'cakes!' in messages[0].content %}{{ raise_exception('no cakes') }}{% endif %}"
    tokenizer.chat_template = refuse + family.template
    rows = tiny_student.rows(50)
    rows[3]["teacher_solution"] = "<think>\nhm\n</think>\n\n" + rows[3]["teacher_solution"]
    rows[5]["teacher_solution"] = "<think>\nhm, " + rows[5]["teacher_solution"]
    rows[7]["problem"] = "How many cakes!"
    encoder = Encoder(tokenizer, trainings.spec(chat_template_kwargs=family.template_kwargs))
    data = encode_rows(rows, encoder, TrainConfig())
    assert len(data) == 47 and [rows[i]["id"] for i in (3, 5, 7)] == [
        i for ids in data.left_out.values() for i in ids
    ]
    assert data.counts == {
        "rows_given": 50,
        "rows_learned": 47,
        "rows_left_out": {
            OFF: 1,
            "its reasoning has no end": 1,
            "the chat template refuses its problem (TemplateError: no cakes)": 1,
        },
    }


def test_signs_that_the_tokenizer_loses_are_no_rationale(trainings: Trainings) -> None:
    tokenizer = make_tokenizer(FAMILIES["Gemma 2"])  # without bytes to fall back to
    rows = tiny_student.rows(3)
    rows[1]["teacher_solution"] += " ∑"
    data = encode_rows(rows, Encoder(tokenizer, trainings.spec()), TrainConfig())
    assert data.left_out == {"the tokenizer does not know some of its characters": [rows[1]["id"]]}


def test_where_every_row_has_reasoning_that_the_prompt_turns_off_the_message_says_what_to_set(
    trainings: Trainings,
) -> None:
    family = FAMILIES["Qwen3, enable_thinking: false"]
    rows = [row | {"teacher_solution": f"<think>{R}</think>{A}"} for row in tiny_student.rows(3)]
    spec = trainings.spec(chat_template_kwargs=family.template_kwargs)
    with pytest.raises(DataError, match="3 rows: it has reasoning") as caught:
        encode_rows(rows, Encoder(make_tokenizer(family), spec), TrainConfig())
    assert "student.reasoning to strip" in caught.value.hint
    assert (
        len(
            encode_rows(
                rows, Encoder(make_tokenizer(family), replace(spec, reasoning="strip")), TrainConfig()
            )
        )
        == 3
    )


def test_the_date_in_a_prompt_is_the_runs(trainings: Trainings) -> None:
    tokenizer = make_tokenizer(FAMILIES["Llama 3.1"])
    ((prompt, _),) = Encoder(tokenizer, trainings.spec(date="2024-07-26")).encode(tiny_student.rows(1))
    assert "Today: 26 Jul 2024" in tokenizer.decode(prompt)
