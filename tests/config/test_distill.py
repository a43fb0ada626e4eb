"""What a signal needs is refused at load where it is not there, with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from undo_hpc.config.distill import scorer
from undo_hpc.config.load import load_config
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError

ON_POLICY = ["method.preset=on_policy"]


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["method.signal=soft", "method.condition=ground_truth"], "no teacher's text"),
        (["method.preset=soft", "generate.engine.name=openai", "generate.engine.openai.base_url=https://api.example/v1"],
         "https://api.example/v1"),
        (["method.preset=soft", "generate.engine.name=openai", "generate.service=1"], "ends with generate"),
        (["method.preset=soft", "generate.engine.name=openai", "generate.service=1", "distill.server=vllm"], "base_url"),
        (["method.preset=soft", "distill.loss=policy_gradient"], "student's own answers"),
        ([*ON_POLICY, "method.start_from=base"], "nobody's"),
        ([*ON_POLICY, "distill.samples=0"], "no answers of the student"),
        ([*ON_POLICY, "distill.epochs=2"], "distill.stale"),
        ([*ON_POLICY, "distill.rows=wrong", "distill.text_share=0"], "Mix in"),
        ([*ON_POLICY, "distill.engine=vlm"], "did you mean 'vllm'"),
    ],
)  # fmt: skip
def test_refused_with_the_reason(sets: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("tiny", sets)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "sets",
    [
        [*ON_POLICY, "distill.epochs=2", "distill.stale=true"],
        [*ON_POLICY, "distill.rows=wrong"],
        ["method.preset=shuffled_on_policy", "distill.loss=fixed_advantage"],
        ["method.preset=soft", "generate.engine.name=openai", "generate.engine.openai.base_url=http://gpu1:8000/v1",
         "distill.server=vllm"],
        ["method.preset=soft", "generate.engine.name=openai", "generate.service=1", "distill.engine=vllm"],
    ],
)  # fmt: skip
def test_accepted(sets: list[str]) -> None:
    assert load_config("tiny", sets).method.signal != "text"


def test_text_is_the_default_and_asks_for_nothing() -> None:
    values: dict[str, Any] = {
        "distill": {"samples": 0, "epochs": 3},
        "generate": {"engine": {"name": "openai"}},
    }
    assert RunConfig.model_validate(values).method.signal == "text"


def test_the_scorer_has_the_settings_of_the_teachers_engines() -> None:
    config = load_config("tiny", ["distill.engine=vllm", "generate.engine.vllm.max_num_seqs=7"])
    found = scorer(config.distill, config.generate.engine)
    assert found.name == "vllm" and found.vllm.max_num_seqs == 7
    assert scorer(RunConfig().distill, config.generate.engine).name == "transformers"
