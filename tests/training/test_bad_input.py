"""What a user can get wrong ends with a clear error, exit code 2, and nothing overwritten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training import tiny_student
from tests.training.conftest import Trainings
from undo_hpc.config.load import YamlText, validate_section
from undo_hpc.config.schema import RunConfig
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError, ExitCode
from undo_hpc.training.deepspeed_settings import deepspeed_settings
from undo_hpc.training.ranks import RankInfo
from undo_hpc.training.spec import TrainSpec


def refused(trainings: Trainings, message: str, ranks: int = 1, **changes: Any) -> str:
    """Runs a training that must be refused with the message and a hint; nothing may be published."""
    spec = trainings.spec(**changes)
    out = Path(spec.out_dir)
    out.mkdir(parents=True)
    (out / "precious.txt").write_text("keep me")
    running = trainings.start(spec, ranks)
    codes, text = running.wait(), running.text()
    assert ExitCode.WRONG_INPUT in codes and ExitCode.COMPLETE not in codes, text
    assert message in text and "\n  -> " in text and "Traceback" not in text, text
    assert [p.name for p in out.iterdir()] == ["precious.txt"]
    return text


def test_an_empty_distilled_set(trainings: Trainings) -> None:
    empty = tiny_student.write_parquet(trainings.root / "empty.parquet", [])
    refused(trainings, "nothing to learn from: the distilled set is empty", data=[str(empty)])


def test_all_rows_too_long(trainings: Trainings) -> None:
    refused(trainings, "60 rows: longer than max_length (20)", ranks=2, max_length=20)


def test_a_data_file_that_is_missing_torn_or_another(trainings: Trainings) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = trainings.root
    refused(trainings, "no such data file", data=[str(place / "absent.parquet")])
    (place / "torn.parquet").write_bytes(b"PAR1 half")
    refused(trainings, "cannot be read as parquet", data=[str(place / "torn.parquet")])
    pq.write_table(pa.table({"id": ["a"], "problem": ["1+1?"]}), place / "other.parquet")
    refused(trainings, "lacks the column 'teacher_solution'", data=[str(place / "other.parquet")])


def test_a_broken_model_directory(trainings: Trainings) -> None:
    from safetensors.torch import load_file, save_file

    def broken(name: str, *absent: str) -> str:
        place = trainings.root / name
        shutil.copytree(trainings.model, place)
        for file in absent:
            (place / file).unlink()
        return str(place)

    refused(trainings, "cannot be loaded", model=broken("no-config", "config.json"))
    refused(trainings, "cannot be loaded", model=broken("no-weights", "model.safetensors"))
    torn = broken("torn-weights")
    Path(torn, "model.safetensors").write_bytes(b"\x00" * 100)
    refused(trainings, "damaged", model=torn)
    refused(trainings, "cannot be loaded", model=str(trainings.root / "nowhere"))
    lacking = broken("lacking-weights")
    tensors = load_file(Path(lacking, "model.safetensors"))
    save_file(
        {n: t for n, t in tensors.items() if "layers.1.mlp" not in n},
        Path(lacking, "model.safetensors"),
        metadata={"format": "pt"},
    )
    for stage, ranks in ((0, 1), (3, 2)):
        refused(
            trainings,
            "lacks 3 of its weights (model.layers.1.mlp.down_proj.weight is the first)",
            ranks,
            model=lacking,
            zero_stage=stage,
        )


def test_a_model_with_attention_of_its_own_kind(trainings: Trainings) -> None:
    from transformers import AutoTokenizer, FalconConfig, FalconForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(trainings.model)
    place = trainings.root / "falcon"
    config = FalconConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    FalconForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    text = refused(
        trainings, "cannot be run with the attention 'varlen'", model=str(place), attention="varlen"
    )
    assert "train.attention to eager" in text
    text = trainings.run(trainings.spec(model=str(place), max_steps=1)).text()
    assert "attention: eager, since" in text


def test_a_tokenizer_larger_than_the_embedding_trains_where_the_data_does_not_use_the_difference(
    trainings: Trainings,
) -> None:
    """Gemma 3 1B: the tokenizer has an image token that the embedding has not."""
    place = trainings.root / "one-token-more"
    shutil.copytree(trainings.model, place)
    tokenizer = tiny_student.make_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(place)
    for packing in (True, False):
        text = trainings.run(trainings.spec(model=str(place), max_steps=1, packing=packing)).text()
        assert "none of those beyond it is in the data" in text


def test_a_tokenizer_of_another_model(trainings: Trainings) -> None:
    place = trainings.root / "small-vocabulary"
    shutil.copytree(trainings.model, place)
    config = json.loads((place / "tokenizer.json").read_text())
    config["added_tokens"] += [
        {
            "id": 5000,
            "content": "<|new|>",
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
    ]
    tokenizer = tiny_student.make_tokenizer()
    tokenizer.add_tokens(["cakes", "buys"])
    tokenizer.save_pretrained(place)
    refused(trainings, "embedding has", model=str(place))


def test_settings_of_deepspeed_that_fight_ours_or_are_unknown(trainings: Trainings, tmp_path: Path) -> None:
    for theirs, message in (
        ({"train_batch_size": 4}, "train_batch_size is decided by train.tokens_per_batch"),
        ({"zero_optimization": {"stage": 1}}, "train.zero_stage"),
        ({"zero_optimisation": {}}, "unknown key 'zero_optimisation'"),
        ({"zero_optimization": {"reduce_bucket_size": "many"}}, "reduce_bucket_size"),
        (str(tmp_path / "absent.json"), "does not exist"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            deepspeed_settings(TrainConfig(deepspeed=theirs))
        assert caught.value.hint
    file = tmp_path / "own.yaml"
    file.write_text("zero_optimization:\n  reduce_bucket_size: 1000000\nwall_clock_breakdown: false\n")
    merged = deepspeed_settings(TrainConfig(deepspeed=str(file), zero_stage=2))
    assert (
        merged["zero_optimization"]["stage"] == 2
        and merged["zero_optimization"]["reduce_bucket_size"] == 1_000_000
    )
    refused(trainings, "unknown key", deepspeed={"nonsense": 1})
    trainings.run(trainings.spec(deepspeed=str(file), zero_stage=2), 2)


def test_offload_and_attention_that_would_do_nothing() -> None:
    for train, message in (
        ({"offload": "optimizer", "zero_stage": 0, "precision": "fp32"}, "ZeRO 0 in fp32 offloads nothing"),
        ({"offload": "all", "zero_stage": 2}, "ZeRO 2 keeps the parameters on the GPU"),
        ({"attention": "varlen", "packing": False}, "packing is off"),
        ({"attention": "flash"}, "should be 'auto', 'varlen'"),
    ):
        with pytest.raises(ConfigError, match=message):
            validate_section(RunConfig, YamlText({"train": train}, "my.yaml", {}))
    disk = {"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/scratch"}}}
    with pytest.raises(ConfigError, match="async_io"):
        deepspeed_settings(TrainConfig(deepspeed=disk))


def test_a_spec_that_is_missing_torn_or_unknown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such training spec"):
        TrainSpec.load(tmp_path / "spec.json")
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        TrainSpec.load(tmp_path / "spec.json")
    good = {"train": {}, "seed": 0, "model": "m", "data": [], "work_dir": "w", "out_dir": "o", "run_id": "r"}
    for change, message in (
        ({"sed": 1}, "unknown keys: sed"),
        ({"train": {"lr": 1}}, "train.lr"),
        ({"train": {"epochs": 0}}, "train.epochs"),
    ):
        (tmp_path / "spec.json").write_text(json.dumps(good | change))
        with pytest.raises(ConfigError, match=message):
            TrainSpec.load(tmp_path / "spec.json")
    (tmp_path / "spec.json").write_text(json.dumps(good))
    spec = TrainSpec.load(tmp_path / "spec.json")
    spec.save(tmp_path / "again.json")
    assert TrainSpec.load(tmp_path / "again.json") == spec


def test_rank_variables() -> None:
    assert RankInfo.from_environment({}) == RankInfo(0, 1, 0)
    assert RankInfo.from_environment({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == RankInfo(3, 4, 1)
    srun = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}
    assert RankInfo.from_environment(srun) == RankInfo(5, 8, 1)
    assert RankInfo.from_environment(srun | {"SLURM_STEP_NUM_TASKS": "6"}) == RankInfo(5, 6, 1)
    assert RankInfo.from_environment({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}) == RankInfo(0, 1, 0)
    for env in ({"RANK": "0"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}):
        with pytest.raises(ConfigError):
            RankInfo.from_environment(env)


def test_an_error_that_nobody_foresaw_is_a_line_and_its_traceback_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from undo_hpc.training.__main__ import main

    def fails(path: Path) -> TrainSpec:
        raise RuntimeError("odd \x1b[2J")

    monkeypatch.setattr(TrainSpec, "load", fails)
    (tmp_path / "logs").mkdir()
    assert main([str(tmp_path / "train" / "spec.json")], 0.0) == ExitCode.FAILED
    said = capsys.readouterr().err
    (file,) = (tmp_path / "logs").iterdir()
    assert "unexpected RuntimeError: odd" in said and str(file) in said and "\x1b" not in said
    assert "Traceback" not in said and "in fails" in file.read_text()
