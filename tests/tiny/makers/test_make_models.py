"""The training script and the report run, and what the script writes can be loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(*args: str) -> subprocess.CompletedProcess[str]:
    """A command line of ours, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", *args],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=True,
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny")
    run("undo_hpc.tiny.makers.make_models", "--smoke", "--out", str(out), "--seed", "3")
    return out


def test_smoke_run_writes_directories_that_load(smoke: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name in ("teacher", "student"):
        tokenizer = AutoTokenizer.from_pretrained(smoke / name)
        model = AutoModelForCausalLM.from_pretrained(smoke / name, dtype="auto")
        assert model.dtype == torch.float32
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": "hi"}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=False,
        )
        assert torch.isfinite(model(input_ids=ids).logits).all()


def test_same_seed_same_bytes(smoke: Path, tmp_path: Path) -> None:
    run("undo_hpc.tiny.makers.make_models", "--smoke", "--out", str(tmp_path), "--seed", "3")
    for path in sorted(smoke.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(smoke)).read_bytes(), path.name


def test_report_measures_the_shipped_models() -> None:
    report = json.loads(run("undo_hpc.tiny.makers.report", "--problems", "60", "--json").stdout)
    shares = {share["what"]: (share["hits"], share["n"]) for share in report["shares"]}
    hits, n = shares["teacher, plain, all"]
    assert n == 60 and 0 < hits <= 60
    assert any("failed step found, 2 steps" in what for what in shares)
    assert report["parameters"]["teacher"] > report["parameters"]["student"]
