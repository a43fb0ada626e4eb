"""The typed configuration of a run. Each field's description is what the user is told when a key is wrong.

A field made by `runtime_field()` does not touch the results (resources, cluster, display): it may change in an existing run. So may one made
by `adjustable_field()`, by which comparisons tell runs apart all the same. The default of any field but the first kind never changes, for
runs that were begun with it would lose their work (tests/config/test_defaults.py holds that).
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any, Literal

from pydantic import field_validator, model_validator

from undo_hpc.config.canary import CanaryConfig
from undo_hpc.config.cluster import (
    ClusterConfig,
    PolicyConfig,
    StageConfig,
    StageResources,
    check_stages,
    require_end,
)
from undo_hpc.config.data import AddedEvaluation, DataConfig, FieldsConfig, RationalesConfig, SourceConfig
from undo_hpc.config.distill import DistillConfig, check_signal
from undo_hpc.config.engines import (
    EngineConfig,
    OpenAIEngineConfig,
    SamplingConfig,
    TransformersEngineConfig,
    VllmEngineConfig,
)
from undo_hpc.config.fields import (
    Section,
    adjustable_field,
    path_component,
    result_field,
    runtime_field,
    wrong_key,
)
from undo_hpc.config.method import MethodConfig, check_selection
from undo_hpc.config.train import TrainConfig
from undo_hpc.records import SPLITS

__all__ = [
    "AddedEvaluation",
    "BudgetConfig",
    "ClusterConfig",
    "DataConfig",
    "DisplayConfig",
    "DistillConfig",
    "EngineConfig",
    "EvaluateConfig",
    "FieldsConfig",
    "GenerateConfig",
    "GradingConfig",
    "HubConfig",
    "JudgeConfig",
    "MethodConfig",
    "ModelConfig",
    "OpenAIEngineConfig",
    "PolicyConfig",
    "QualityConfig",
    "RationalesConfig",
    "RunConfig",
    "SamplingConfig",
    "SourceConfig",
    "StageConfig",
    "StageResources",
    "StopConfig",
    "StorageConfig",
    "StudentConfig",
    "TeacherConfig",
    "TrainConfig",
    "TransformersEngineConfig",
    "VllmEngineConfig",
]


class ModelConfig(Section):
    """A language model: a local directory or a Hub id, and how it is spoken to."""

    model: str = result_field(
        "", "local directory or Hub id of the model; 'tiny:teacher' and 'tiny:student' are the embedded ones"
    )
    revision: str = result_field("", "git revision on the Hub")
    trust_remote_code: bool = result_field(
        False, "run code that comes with the model; off unless you trust its author"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = result_field(
        "auto", "precision of the weights"
    )
    system_prompt: str = result_field("", "system message put before each prompt; empty for none")
    chat_template_kwargs: dict[str, Any] = result_field(
        {}, "passed to the chat template, e.g. {enable_thinking: false} for Qwen3"
    )
    date: str = result_field(
        "",
        "the day that a chat template with a date prints, YYYY-MM-DD; empty for the day on which the run was made",
        pattern=r"^(\d{4}-\d{2}-\d{2})?$",
    )


class TeacherConfig(ModelConfig):
    """The model that writes rationales, and what it is asked with."""

    prompt: str = result_field(
        "default", "prompt templates: default, tiny, or a folder with problem.txt and refine.txt"
    )
    instruction: str = result_field("", "instruction put behind each problem; empty takes the template's")


class StudentConfig(ModelConfig):
    """The model that learns, and what it is asked with, in training, evaluation and exports alike."""

    prompt: str = result_field("default", "prompt templates: default, tiny, or a folder with student.txt")
    instruction: str = result_field("", "instruction put behind each problem; empty takes the template's")
    reasoning: Literal["keep", "strip", "drop"] = adjustable_field(
        "keep",
        "the reasoning before a rationale's answer: keep (learned, in the form of the student's chat template), strip (only the "
        "answer behind it is learned), or drop (rows with reasoning are left out); may change until a student is trained, or a text is scored for it",
    )


class QualityConfig(Section):
    """Which right rationales are good enough to learn from; every reason to drop is counted in the manifest."""

    drop_truncated: bool = result_field(True, "drop completions cut off by max_new_tokens")
    drop_control_tokens: bool = result_field(
        True,
        "drop rationales that hold a model's control token, such as <|im_end|>, which their problem does not",
    )
    drop_leaks: bool = result_field(True, "drop rationales that mention the given answer or the student")
    min_chars: int = result_field(1, "shortest rationale in characters", ge=0)
    max_chars: int = result_field(0, "longest rationale in characters; 0 for no limit", ge=0)
    max_repeated_lines: float = result_field(0.5, "largest share of repeated lines", ge=0, le=1)
    leak_phrases: list[str] = result_field([], "further texts that count as a leak")


class GenerateConfig(Section):
    """The teacher writes rationales."""

    engine: EngineConfig = result_field(EngineConfig(), "the engine of the teacher")
    sampling: SamplingConfig = result_field(SamplingConfig(), "how the teacher samples")
    samples: int = result_field(1, "rationales asked for each problem", ge=1)
    max_attempts: int = result_field(4, "attempts a problem until one is right", ge=1)
    retry_temperature_step: float = result_field(0.0, "added to the temperature with each retry", ge=0)
    shards: int = runtime_field(0, "tasks of the array; 0 chooses from `target_minutes`", ge=0)
    target_minutes: float = runtime_field(60.0, "how long a task should run about, for shards: 0", gt=0)
    tokens_per_second: float = runtime_field(
        0.0, "measured speed of a task; 0 takes the last iteration's, or a careful guess", ge=0
    )
    quality: QualityConfig = result_field(QualityConfig(), "what is good enough to learn from")
    canary: CanaryConfig = result_field(CanaryConfig(), "a few problems first, on one task")
    service: int = runtime_field(
        0, "serve the teacher by this many server tasks, with the shards as clients; 0 for none", ge=0
    )
    service_slack_s: float = runtime_field(
        1800.0, "how long a client waits for a server to come up or back", gt=0
    )

    @model_validator(mode="after")
    def _attempts_cover_samples(self) -> GenerateConfig:
        if self.max_attempts < self.samples:
            raise ValueError(f"max_attempts ({self.max_attempts}) is below samples ({self.samples})")
        if self.sampling.temperature == 0 and (
            self.samples > 1 or (self.max_attempts > 1 and not self.retry_temperature_step)
        ):
            raise ValueError(
                "temperature 0 gives the same answer each time: set samples and max_attempts to 1, or a temperature"
            )
        return self


class EvaluateConfig(Section):
    """The student answers."""

    benchmarks: list[str] = result_field([], "names of the embedded benchmarks, or YAML files")
    overrides: dict[str, SourceConfig] = result_field(
        {}, "another source for a benchmark, e.g. a local file: {gsm8k: {path: test.jsonl}}"
    )
    limit: int = result_field(0, "use the first N problems of each benchmark; 0 for all", ge=0)
    engine: EngineConfig = result_field(EngineConfig(), "the engine of the student")
    sampling: SamplingConfig = result_field(SamplingConfig(temperature=0.0), "how the student answers")
    samples: int = result_field(1, "answers a problem; over 1 gives pass@1 with less noise, and pass@k", ge=1)
    train_predictions: bool = result_field(
        True, "answer the training problems too (needed to find errors on them)"
    )
    problems_per_task: int = runtime_field(2000, "problems a task answers about", ge=1)
    baseline: bool = result_field(True, "evaluate the untrained student first")
    added: dict[str, AddedEvaluation] = runtime_field(
        {},
        "evaluations added to a run that has begun, by the name of their set (undo-hpc evaluate RUN); no result rests on them",
    )

    def asked(self, problem_set: str) -> tuple[int, SamplingConfig]:
        """Answers a problem of a set, and how they are drawn."""
        added = self.added.get(problem_set, AddedEvaluation())
        changed = {} if added.temperature is None else {"temperature": added.temperature}
        return added.samples or self.samples, self.sampling.model_copy(update=changed)

    @model_validator(mode="after")
    def _added_have_names(self) -> EvaluateConfig:
        for name in self.added:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name in SPLITS:
                raise wrong_key(
                    ("added", name), "the name of a set is a folder's: letters, digits, - . _; no split's"
                )
            if name in (PurePath(benchmark).stem for benchmark in self.benchmarks):
                raise wrong_key(
                    ("added", name), "a benchmark of the run has this name already (evaluate.benchmarks)"
                )
        return self

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _several_in_one_text(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) and "," in value[0]:
            return [name.strip() for name in value[0].split(",") if name.strip()]
        return value

    @model_validator(mode="after")
    def _samples_differ(self) -> EvaluateConfig:
        for samples, sampling in (self.asked(name) for name in ("", *self.added)):
            if samples > 1 and sampling.temperature == 0:
                raise ValueError(
                    "several samples at temperature 0 are all the same: set sampling.temperature above 0 (--temperature)"
                )
        return self


class StopConfig(Section):
    """When the loop ends. Only the validation split is looked at."""

    epsilon: float = result_field(
        0.0, "a gain on validation of at most this is none; a share, so 0.01 is one point", ge=0
    )
    patience: int = result_field(1, "iterations without gain before the loop ends", ge=1)
    enabled: bool = result_field(True, "false runs all iterations")


class StorageConfig(Section):
    """How rows of answers are made durable."""

    flush_rows: int = runtime_field(64, "rows in a durable group", ge=1)
    flush_seconds: float = runtime_field(10.0, "longest time before a group is made durable", gt=0)


class JudgeConfig(Section):
    """A model that is asked about answers which the checker could not decide."""

    model: str = result_field("", "name of the model at the server; empty asks nobody")
    openai: OpenAIEngineConfig = result_field(OpenAIEngineConfig(), "the server: base_url, key and so on")
    verdicts: list[Literal["unparsed", "timeout"]] = result_field(
        ["unparsed", "timeout"], "verdicts that count as undecided; a decision is never overridden"
    )
    max_new_tokens: int = result_field(16, "max new tokens of its reply, which begins with yes or no", ge=1)

    @model_validator(mode="after")
    def _has_a_server(self) -> JudgeConfig:
        if self.model and not self.openai.base_url:
            raise ValueError("a judge needs a server: set grading.judge.openai.base_url")
        return self


class GradingConfig(Section):
    """The checker of answers."""

    checker: str = result_field(
        "",
        "empty: the built-in one; exact: the text itself; code: the answer's program passes the tests that are the ground truth; "
        "'command: ...': a command of yours; 'package.module:Class', or its name as an entry point (undo_hpc.checkers): your own",
    )
    judge: JudgeConfig = result_field(JudgeConfig(), "a model for undecided verdicts only")
    deadline_s: float = result_field(5.0, "seconds for one answer", gt=0)
    memory_mb: int = adjustable_field(2048, "memory of a checking process", ge=256)
    workers: int = runtime_field(1, "processes for algebra", ge=1, le=1024)


class HubConfig(Section):
    """Publishing on the Hugging Face Hub."""

    dataset_repo: str = runtime_field(
        "", "repository of the distilled sets and predictions, e.g. me/undo-data; empty for none"
    )
    model_repo: str = runtime_field("", "repository of the student; empty for none")
    private: bool = runtime_field(True, "create repositories as private")
    push_every_min: float = runtime_field(0.0, "minutes between pushes while the run goes on; 0 is off", ge=0)
    push_at_end: bool = runtime_field(False, "push when the run ends")
    endpoint: str = runtime_field("", "another Hub's address")
    token_file: str = runtime_field("", "file with the token; else HF_TOKEN or the login's own")


class BudgetConfig(Section):
    """What a run may cost; 0 is no limit."""

    gpu_hours: float = runtime_field(0.0, "stop before an iteration that would go over this", ge=0)
    cpu_hours: float = runtime_field(0.0, "stop before an iteration that would go over this", ge=0)


class DisplayConfig(Section):
    """What the user sees."""

    progress: Literal["auto", "rich", "plain", "none"] = runtime_field(
        "auto", "live view, plain lines, or nothing; auto looks at the terminal"
    )
    report: bool = runtime_field(True, "write report/index.html after each iteration")
    report_examples: int = runtime_field(200, "examples in the report's browser", ge=0)
    chat_format: bool = runtime_field(False, "also write the distilled set in the `messages` chat format")
    rows_file: str = runtime_field(
        "",
        "also write the last iteration's rows to this JSONL file, in the reference implementation's fields",
    )


class RunConfig(Section):
    """Everything that is asked of a run."""

    name: str = result_field("run", "name of the run, and of its directory under checkpoints/")
    seed: int = result_field(0, "the seed that all others follow from", ge=0)
    iterations: int = adjustable_field(3, "most iterations, the one-shot iteration 0 included", ge=1)
    until: str = adjustable_field(
        "",
        "the last iteration ends behind this stage (generate, merge, train; baseline: the untrained student is evaluated); empty for a whole one",
    )
    data: DataConfig = result_field(DataConfig(), "problems and splits")
    teacher: TeacherConfig = result_field(
        TeacherConfig(), "the model that writes rationales, and its prompts"
    )
    student: StudentConfig = result_field(StudentConfig(), "the model that learns, and its prompt")
    method: MethodConfig = result_field(MethodConfig(), "the choices of the method")
    generate: GenerateConfig = result_field(GenerateConfig(), "teacher generation")
    train: TrainConfig = result_field(TrainConfig(), "student training")
    distill: DistillConfig = result_field(DistillConfig(), "learning from the teacher's log-probabilities")
    evaluate: EvaluateConfig = result_field(EvaluateConfig(), "evaluation of the student")
    stop: StopConfig = result_field(StopConfig(), "when the loop ends")
    grading: GradingConfig = result_field(GradingConfig(), "the checker of answers")
    storage: StorageConfig = result_field(StorageConfig(), "how rows are made durable")
    stages: dict[str, StageConfig] = result_field({}, "stages of your own, by name")
    plugins: list[str] = runtime_field(
        [], "folders with modules of your own (engines, stages, checkers), searched behind installed packages"
    )
    cluster: ClusterConfig = result_field(ClusterConfig(), "where tasks run")
    hub: HubConfig = result_field(HubConfig(), "publishing")
    budget: BudgetConfig = result_field(BudgetConfig(), "what the run may cost")
    display: DisplayConfig = result_field(DisplayConfig(), "what the user sees")

    @field_validator("name")
    @classmethod
    def _one_component(cls, name: str) -> str:
        return path_component(name)

    @model_validator(mode="after")
    def _stages_exist(self) -> RunConfig:
        check_stages(self.stages, self.cluster)
        if self.until:
            require_end(self.until)
        return self

    @model_validator(mode="after")
    def _rationales_come_from_one_place(self) -> RunConfig:
        named = self.data.rationales.named()
        if named and self.method.condition == "ground_truth":
            raise wrong_key(
                ("data", "rationales"),
                "method.condition is ground_truth, which learns from the data's own solutions; give one of both",
            )
        return self

    @model_validator(mode="after")
    def _signal_can_be_had(self) -> RunConfig:
        check_signal(self.method, self.distill, self.generate.engine)
        return self

    @model_validator(mode="after")
    def _selection_has_a_choice(self) -> RunConfig:
        check_selection(
            self.method, self.generate.samples, self.evaluate.engine.name, "generate" in self.cluster.policy
        )
        return self

    @model_validator(mode="after")
    def _errors_can_be_found(self) -> RunConfig:
        """Refuses a loop whose teacher would never see an error: each later iteration would write nothing, silently."""
        if self.iterations == 1 or self.method.condition in ("one_shot", "ground_truth"):
            return self
        source = self.method.errors_from
        if source != "diagnosis" and not self.evaluate.train_predictions:
            raise ValueError(
                f"method.errors_from is '{source}', but evaluate.train_predictions is off: no error on the training problems "
                "would be found. Turn it on, or set method.errors_from: diagnosis"
            )
        if source == "diagnosis" and not self.data.diagnosis:
            raise ValueError(
                "method.errors_from is 'diagnosis', but data.diagnosis is 0: no error would be found. "
                "Hold out problems for it, or set method.errors_from: train"
            )
        return self
