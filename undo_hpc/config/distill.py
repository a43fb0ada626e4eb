"""The configuration of signals other than text: what is scored, and how the scores are learned. See docs/signals.md."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from undo_hpc.config.engines import EngineConfig, known_engine
from undo_hpc.config.fields import Section, result_field, runtime_field
from undo_hpc.config.method import MethodConfig


class DistillConfig(Section):
    """Learning from the teacher's log-probabilities (method.signal: soft or on_policy)."""

    engine: str = result_field(
        "",
        "the engine that scores, with its settings under generate.engine: vllm, transformers, openai, or one of your own; empty takes "
        "generate.engine.name",
    )
    server: Literal["", "vllm", "sglang"] = result_field(
        "",
        "what answers at generate.engine.openai.base_url: vllm or sglang, which give log-probabilities of a prompt; other servers do not",
    )
    k: int = result_field(
        16, "the teacher's likeliest tokens whose log-probabilities are kept", ge=1, le=1024
    )
    loss: Literal["divergence", "policy_gradient", "fixed_advantage"] = result_field(
        "divergence",
        "divergence over the kept tokens; policy_gradient by the sampled token alone; fixed_advantage is a control without a teacher: "
        "tokens that the student found unlikely become less likely",
    )
    beta: float | None = result_field(
        None,
        "0 forward, 1 reverse, between them generalised Jensen-Shannon divergence; null: 0 for soft, 0.5 for on_policy",
        ge=0,
        le=1,
    )
    cross_entropy: float = result_field(
        0.5, "weight of plain cross-entropy on teacher text (soft); the divergence has the rest", ge=0, lt=1
    )
    samples: int = result_field(
        1, "answers of the student to each problem, at temperature 1 (on_policy)", ge=0
    )
    rows: Literal["all", "wrong"] = result_field(
        "all", "which of the student's answers are learned from (on_policy)"
    )
    text_share: float = result_field(
        0.5,
        "share of rationales, learned as text, among the rows of on_policy, and of their loss",
        ge=0,
        lt=1,
    )
    clip: float = result_field(
        2.0, "largest ratio of the student's probability of a token to that when it was sampled", gt=1
    )
    unlikely: float = result_field(
        0.1, "below this probability a token counts as unlikely (fixed_advantage)", gt=0, lt=1
    )
    epochs: float = result_field(1.0, "passes over the student's answers (on_policy)", gt=0)
    stale: bool = result_field(
        False, "allow more than one pass over the student's answers: they are an earlier student's by then"
    )
    learning_rate: float | None = result_field(
        None, "peak learning rate of on_policy iterations; null takes train.learning_rate", gt=0
    )
    gate: Literal["refuse", "warn"] = runtime_field(
        "refuse", "what becomes of a training whose scores copy the student's errors"
    )
    gate_rows: int = result_field(64, "wrong and right answers on which that is measured", ge=1)
    shards: int = runtime_field(0, "tasks that score; 0 chooses from generate.target_minutes", ge=0)
    tokens_per_second: float = runtime_field(
        0.0, "measured speed at which a task scores; 0 takes the last iteration's, or a careful guess", ge=0
    )

    @field_validator("engine")
    @classmethod
    def _engine_is_known(cls, name: str) -> str:
        return name and known_engine(name)


def scorer(distill: DistillConfig, generate: EngineConfig) -> EngineConfig:
    """The engine that scores."""
    return EngineConfig.model_validate(generate.model_dump() | {"name": distill.engine or generate.name})


def check_signal(method: MethodConfig, distill: DistillConfig, generate: EngineConfig) -> None:
    """Raises ValueError where a signal could not be had, or would teach something else than what it says."""
    if method.signal == "text":
        return
    if method.condition == "ground_truth":
        raise ValueError(
            f"method.signal is {method.signal} and method.condition ground_truth: the data's solutions are no teacher's text, and no "
            "model scores them. Set method.signal: text, or another condition"
        )
    engine = scorer(distill, generate)
    if engine.name == "openai" and not distill.server and distill.loss != "fixed_advantage":
        where = engine.openai.base_url or "the run's own teacher service, which ends with generate"
        raise ValueError(
            f"method.signal is {method.signal}, and the engine that scores is a server ({where}): hosted APIs give no log-probabilities "
            "of a prompt. Set distill.server to vllm or sglang where it is one of yours, or distill.engine to vllm or transformers"
        )
    if engine.name == "openai" and distill.server and not engine.openai.base_url:
        raise ValueError(
            f"distill.server is {distill.server}, and the engine that scores has no address: set generate.engine.openai.base_url"
        )
    if method.signal != "on_policy":
        if distill.loss != "divergence":
            raise ValueError(
                f"distill.loss is {distill.loss}, which is for the student's own answers: set method.signal: on_policy"
            )
        return
    if method.start_from != "previous":
        raise ValueError(
            "method.signal is on_policy and method.start_from base: the scored answers are the last student's, and would be nobody's "
            "for one that starts from the base weights. Set method.start_from: previous"
        )
    if not distill.samples:
        raise ValueError(
            "method.signal is on_policy and distill.samples 0: there would be no answers of the student to score"
        )
    if distill.epochs > 1 and not distill.stale:
        raise ValueError(
            f"distill.epochs is {distill.epochs:g}: after one pass the answers are an earlier student's. Set it to 1, with more "
            "iterations on fewer problems instead, or distill.stale: true"
        )
    if distill.rows == "wrong" and not distill.text_share:
        raise ValueError(
            "distill.rows is wrong and distill.text_share 0: failed answers alone ruined the students that we measured. Mix in "
            "rationales (text_share), or take all rows"
        )
