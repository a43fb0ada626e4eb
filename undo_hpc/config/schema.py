"""The typed configuration of a run. Each field's description is what the user is told when a key is wrong.

A field made by `runtime_field()` does not touch the results (resources, cluster, display): it may change in an existing run. The default of
any other field never changes, for runs that were begun with it would lose their work (tests/config/test_defaults.py holds that).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from undo_hpc.config.fields import Section, result_field, runtime_field
from undo_hpc.config.train import TrainConfig
from undo_hpc.records import AnswerKind


class FieldsConfig(Section):
    """Which columns of a source mean what. A list names candidates, the first present one wins; a text with braces is a template.

    A dotted name reads inside a column (reward_model.ground_truth); of a conversation (`messages`) the user's turn is the problem and
    the assistant's the answer.
    """

    problem: str | list[str] = result_field(
        ["problem", "question", "input"], "column(s) of the problem, or a template like '{Body} {Question}'"
    )
    answer: str | list[str] = result_field(
        ["answer", "gt", "output", "solution", "target"], "column(s) of the ground truth, or a template"
    )
    solution: str | list[str] = result_field(
        ["solution", "answer"], "column(s) of a worked solution, where there is one"
    )
    options: str = result_field(
        "",
        "column holding a list of choices, or {A: ..., B: ...}; they are lettered and put behind the question",
    )


class SourceConfig(Section):
    """Where problems come from: a local file (or folder), or a data set on the Hub."""

    path: str = result_field(
        "",
        "local JSONL, JSON, CSV, TSV (also .gz, .zst), parquet or Arrow file, a pattern like data/*.parquet, or a folder; wins over `hub`",
    )
    hub: str = result_field("", "id of a data set on the Hugging Face Hub")
    hub_config: str = result_field("", "configuration name of the Hub data set")
    split: str = result_field("train", "split of the Hub data set")
    revision: str = result_field("", "git revision of the Hub data set")
    tiny: str = result_field("", "a split of the embedded tiny world (train, test)")
    fields: FieldsConfig = result_field(FieldsConfig(), "which columns mean what")
    where: dict[str, str] = result_field(
        {}, "keep only rows whose column has this value, e.g. {category: math}"
    )
    answer_from: Literal["auto", "plain", "boxed", "hashes"] = result_field(
        "auto",
        "where the ground truth stands: the plain field, the last \\boxed{}, after ####, or whichever is found",
    )
    answer_kind: AnswerKind = result_field(
        "auto", "kind of answer: number, expression, letter, text, or auto"
    )
    sample: int | None = result_field(None, "use this many rows, drawn by `sample_seed`; null for all", ge=1)
    sample_seed: int = result_field(42, "seed of the draw")
    licence: str = result_field("", "licence of the source, for the cards")


class DataConfig(Section):
    """The training problems and how they are split."""

    train: SourceConfig = result_field(SourceConfig(), "the source of the training problems")
    diagnosis: int | float = result_field(
        0.1, "problems held out to examine the student: a number, or a share below 1", ge=0
    )
    validation: int | float = result_field(
        0.1, "problems held out to choose the iteration and to stop: a number, or a share below 1", ge=0
    )
    contamination: Literal["off", "report", "drop"] = result_field(
        "drop", "training problems whose text stands in a benchmark: leave, report, or drop them"
    )
    ngram: int = result_field(13, "length in words of an n-gram overlap that counts as contamination", ge=3)

    @field_validator("contamination", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML 1.1 reads a bare `off` as false


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


class StudentConfig(ModelConfig):
    """The student: a language model, and what it learns of a rationale."""

    reasoning: Literal["keep", "strip", "drop"] = runtime_field(
        "keep",
        "the reasoning before a rationale's answer: keep (learned, in the form of the student's chat template), strip (only the "
        "answer behind it is learned), or drop (rows with reasoning are left out); may change until a student is trained",
    )


class TransformersEngineConfig(Section):
    """Settings of the transformers engine."""

    batch_tokens: int = result_field(
        65536,
        "token budget of a batch: rows x (prompt + most new tokens); more is faster while memory lasts",
        ge=64,
    )
    max_batch: int = result_field(64, "most rows in a batch", ge=1)
    attn: str = result_field("auto", "attention implementation: auto, eager, sdpa, flash_attention_2")
    device: str = runtime_field("auto", "auto, cpu or cuda")
    threads: int = runtime_field(0, "CPU threads; 0 leaves torch's choice", ge=0)
    batch_invariant: bool = result_field(
        False,
        "make each completion independent of its neighbours in the batch (fixed batch shapes, one CPU thread); for exact repeats",
    )


class VllmEngineConfig(Section):
    """Settings of the vLLM engine; what is not here goes into `extra` (keyword arguments of vllm.LLM)."""

    tensor_parallel_size: int = runtime_field(
        0, "GPUs a model is spread over; 0 takes all that the task was given", ge=0
    )
    max_num_seqs: int = runtime_field(512, "most sequences in a step", ge=1)
    max_num_batched_tokens: int | None = runtime_field(32768, "most tokens in a step")
    max_model_len: int | None = result_field(None, "longest prompt + completion; null takes the model's own")
    gpu_memory_utilization: float = runtime_field(0.9, "share of the GPU's memory", gt=0, le=1)
    enable_prefix_caching: bool = runtime_field(True, "share the work on equal prompt beginnings")
    enforce_eager: bool = runtime_field(False, "no CUDA graphs: slower, starts faster")
    batch_invariant: bool = result_field(
        False,
        "vLLM's batch-invariant kernels (GPUs only): a completion does not depend on its neighbours in the batch; slower",
    )
    extra: dict[str, Any] = result_field({}, "further keyword arguments of vllm.LLM")


class OpenAIEngineConfig(Section):
    """Settings of the client for any OpenAI-compatible server."""

    base_url: str = runtime_field(
        "", "address such as http://host:8000/v1; empty takes the run's own teacher service"
    )
    served_model: str = result_field("", "name of the model at the server; empty takes `model`")
    concurrency: int = runtime_field(64, "requests under way at once", ge=1)
    timeout_s: float = runtime_field(600.0, "seconds before a request is given up", gt=0)
    max_retries: int = runtime_field(6, "tries of a request, with growing random waits", ge=1)
    api_key_env: str = runtime_field("OPENAI_API_KEY", "environment variable with the key")
    api_key_file: str = runtime_field("", "file with the key; wins over the variable")
    require_key: bool = runtime_field(False, "refuse to start where no key is found")


class EngineConfig(Section):
    """Which engine generates, and its settings."""

    name: Literal["transformers", "vllm", "openai"] = result_field(
        "transformers", "transformers, vllm or openai"
    )
    transformers: TransformersEngineConfig = result_field(
        TransformersEngineConfig(), "settings of the transformers engine"
    )
    vllm: VllmEngineConfig = result_field(VllmEngineConfig(), "settings of the vLLM engine")
    openai: OpenAIEngineConfig = result_field(
        OpenAIEngineConfig(), "settings of the OpenAI-compatible client"
    )
    request_retries: int = result_field(
        2, "tries of a request that the engine itself fails on, before it is recorded as failed", ge=1
    )


class SamplingConfig(Section):
    """How tokens are drawn."""

    temperature: float = result_field(0.7, "0 is greedy", ge=0)
    top_p: float = result_field(0.95, "nucleus sampling", gt=0, le=1)
    top_k: int = result_field(0, "0 for all", ge=0)
    max_tokens: int = result_field(2048, "most new tokens of a completion", ge=1)
    max_tokens_by_iteration: dict[int, int] = result_field(
        {}, "most new tokens from that iteration on, e.g. {1: 1024}"
    )
    stop: list[str] = result_field([], "texts that end a completion, beside the template's end of turn")


class QualityConfig(Section):
    """Which right rationales are good enough to learn from; every reason to drop is counted in the manifest."""

    drop_truncated: bool = result_field(True, "drop completions cut off by max_tokens")
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
    instruction: str = result_field("", "instruction put behind each problem; empty takes the template's")
    prompt: str = result_field(
        "default", "prompt templates: default, tiny, or a folder with problem.txt and refine.txt"
    )
    shards: int = runtime_field(0, "tasks of the array; 0 chooses from `target_minutes`", ge=0)
    target_minutes: float = runtime_field(60.0, "how long a task should run about, for shards: 0", gt=0)
    tokens_per_second: float = runtime_field(
        0.0, "measured speed of a task; 0 takes the last iteration's, or a careful guess", ge=0
    )
    flush_rows: int = runtime_field(64, "rows in a durable group", ge=1)
    flush_seconds: float = runtime_field(10.0, "longest time before a group is made durable", gt=0)
    quality: QualityConfig = result_field(QualityConfig(), "what is good enough to learn from")
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


class MethodConfig(Section):
    """The choices that the paper (arXiv 2504.02521) leaves open, and the controls of a sound experiment."""

    condition: Literal["undo", "blind", "shuffled", "one_shot", "ground_truth"] = result_field(
        "undo",
        "what the teacher sees when it refines: the student's answer (undo), nothing of it (blind), another problem's (shuffled); "
        "one_shot never refines; ground_truth learns from the data's own solutions",
    )
    errors_from: Literal["diagnosis", "train", "both"] = result_field(
        "both",
        "the splits on which the student is examined for its errors; failed diagnosis problems are then learned from, too",
    )
    regenerate: Literal["wrong", "wrong_and_unstable", "all"] = result_field(
        "wrong", "which problems get a new rationale"
    )
    show_truth: bool = result_field(
        False,
        "show the ground truth to the teacher, and the data's own solution of a diagnosis problem that has no rationale yet",
    )
    start_from: Literal["base", "previous"] = result_field("base", "weights that each iteration starts from")
    combine: Literal["replace", "add", "best"] = result_field(
        "replace", "new rationales replace the old, stand beside them, or the better one stays"
    )
    wrong_rationales: Literal["drop", "keep"] = result_field(
        "drop", "rationales with a wrong answer are dropped or kept"
    )
    validation_examples: int = result_field(
        0, "tuples of the validation split shown to the teacher as examples", ge=0
    )


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
    instruction: str = result_field("", "instruction put behind each problem; empty takes the template's")
    prompt: str = result_field("default", "prompt templates: default, tiny, or a folder with student.txt")
    problems_per_task: int = runtime_field(2000, "problems a task answers about", ge=1)
    baseline: bool = result_field(True, "evaluate the untrained student first")

    @model_validator(mode="after")
    def _samples_differ(self) -> EvaluateConfig:
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError(
                "several samples at temperature 0 are all the same: set sampling.temperature above 0"
            )
        return self


class StopConfig(Section):
    """When the loop ends. Only the validation split is looked at."""

    epsilon: float = result_field(
        0.0, "a gain on validation of at most this is none; a share, so 0.01 is one point", ge=0
    )
    patience: int = result_field(1, "iterations without gain before the loop ends", ge=1)
    enabled: bool = result_field(True, "false runs all iterations")


class GradingConfig(Section):
    """The checker of answers."""

    deadline_s: float = result_field(5.0, "seconds for one answer", gt=0)
    memory_mb: int = runtime_field(2048, "memory of a checking process", ge=256)
    workers: int = runtime_field(1, "processes for algebra", ge=1)


class StageResources(Section):
    """What one task of a stage needs on the cluster; null takes the profile's value."""

    nodes: int | None = runtime_field(None, "nodes of a task", ge=1)
    tasks_per_node: int | None = runtime_field(None, "processes a node (train: one a GPU)", ge=1)
    gpus_per_node: int | None = runtime_field(None, "GPUs a node", ge=0)
    cpus_per_task: int | None = runtime_field(None, "CPUs a process", ge=1)
    memory_gb: float | None = runtime_field(None, "memory a node in GiB", gt=0)
    minutes: int | None = runtime_field(None, "time limit in minutes", ge=1)
    array_parallelism: int | None = runtime_field(None, "tasks of an array at once", ge=1)


class PolicyConfig(Section):
    """How much of a stage is enough for the next one."""

    kind: Literal["all", "min_fraction", "quorum"] = result_field(
        "all", "all tasks, at least a fraction of them, or at least a number"
    )
    value: float = result_field(1.0, "the fraction (0 to 1) or the number", gt=0)

    @model_validator(mode="after")
    def _can_be_met(self) -> PolicyConfig:
        if self.kind == "min_fraction" and self.value > 1:
            raise ValueError(
                f"min_fraction is a share of the tasks, at most 1, not {self.value:g}; quorum takes a number of tasks"
            )
        if self.kind == "quorum" and self.value != int(self.value):
            raise ValueError(
                f"quorum is a whole number of tasks, not {self.value:g}; min_fraction takes a share of them"
            )
        return self


class ClusterConfig(Section):
    """Where tasks run."""

    kind: Literal["local", "slurm"] = runtime_field("local", "local (this machine) or slurm")
    profile: str = runtime_field("", "YAML file that describes the SLURM cluster")
    max_processes: int = runtime_field(
        0,
        "local: tasks at once; 0 chooses: one where there is a GPU (a task takes all of its memory), else two where the CPUs suffice",
        ge=0,
    )
    threads_per_process: int = runtime_field(1, "local: CPU threads of each task", ge=1)
    resources: dict[Literal["generate", "serve", "merge", "train", "evaluate", "advance"], StageResources] = (
        runtime_field({}, "what a stage's task needs, over the profile")
    )
    policy: dict[Literal["generate", "evaluate"], PolicyConfig] = result_field(
        {}, "how much of a stage is enough"
    )
    max_resubmits: int = runtime_field(3, "times that missing tasks of a stage are submitted again", ge=0)
    max_preemptions: int = runtime_field(100, "requeues of a task by preemption", ge=0)
    max_timeouts: int = runtime_field(20, "requeues of a task by its time limit", ge=0)
    code_snapshot: bool = runtime_field(True, "run the code as it was when the run was submitted")
    check_shared: bool = runtime_field(True, "refuse a run directory that the compute nodes cannot see")


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


class RunConfig(Section):
    """Everything that is asked of a run."""

    name: str = result_field("run", "name of the run, and of its directory under checkpoints/")
    seed: int = result_field(0, "the seed that all others follow from", ge=0)
    iterations: int = runtime_field(3, "most iterations, the one-shot iteration 0 included", ge=1)
    data: DataConfig = result_field(DataConfig(), "problems and splits")
    teacher: ModelConfig = result_field(ModelConfig(), "the model that writes rationales")
    student: StudentConfig = result_field(StudentConfig(), "the model that learns")
    method: MethodConfig = result_field(MethodConfig(), "the choices of the method")
    generate: GenerateConfig = result_field(GenerateConfig(), "teacher generation")
    train: TrainConfig = result_field(TrainConfig(), "student training")
    evaluate: EvaluateConfig = result_field(EvaluateConfig(), "examination of the student")
    stop: StopConfig = result_field(StopConfig(), "when the loop ends")
    grading: GradingConfig = result_field(GradingConfig(), "the checker of answers")
    cluster: ClusterConfig = result_field(ClusterConfig(), "where tasks run")
    hub: HubConfig = result_field(HubConfig(), "publishing")
    budget: BudgetConfig = result_field(BudgetConfig(), "what the run may cost")
    display: DisplayConfig = result_field(DisplayConfig(), "what the user sees")

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
