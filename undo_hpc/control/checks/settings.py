"""Settings that a job would find wrong only hours later. What one key or one section tells of itself stands in `config`;
here is what needs files, packages, or several sections at once. Each raises ConfigError or DataError that names the key.
"""

from __future__ import annotations

import difflib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from undo_hpc.cluster.profile import Profile, load_profile, require_used
from undo_hpc.config.engines import ENGINES
from undo_hpc.config.parts import asks, effective_iterations, only_evaluates
from undo_hpc.config.schema import RunConfig, StageResources
from undo_hpc.engines import load_own_engine
from undo_hpc.engines.api_key import find_key
from undo_hpc.engines.vllm_nodes import spread
from undo_hpc.errors import ConfigError
from undo_hpc.models.resolve import context_of, require_repository, resolve_model
from undo_hpc.pipeline.stages import resources_of, spec_of
from undo_hpc.prompts import PromptSet, load_prompts
from undo_hpc.stages import load_stage
from undo_hpc.stages.checker import decider_of
from undo_hpc.system.data_files import expanded
from undo_hpc.system.invocation import program
from undo_hpc.system.ownership import readable_by_others
from undo_hpc.system.plugins import NotInstalled, search_folders
from undo_hpc.system.wording import counted


def check_packages(config: RunConfig) -> None:
    """The packages of engines, of training and of LoRA are installed, as far as tasks are known to run with this Python."""
    if runs_elsewhere(config):
        return
    wanted = [
        what
        for what in ("generate", "evaluate")
        if getattr(config, what).engine.name == "vllm" and not _no_teacher(config, what)
    ]
    if config.method.signal != "text" and config.distill.engine == "vllm":
        wanted.append("generate")
    if wanted and find_spec("vllm") is None:
        instead = " ".join(f"--set {what}.engine.name=transformers" for what in wanted)
        raise ConfigError(
            f"{wanted[0]}.engine.name is vllm, and vLLM is not installed in {sys.prefix}",
            hint=f"{program('python')} -m pip install 'undo-hpc[vllm]', or here without it: {instead}",
        )
    if config.train.lora.enabled and find_spec("peft") is None:
        raise ConfigError(
            f"train.lora.enabled is on, and peft is not installed in {sys.prefix}",
            hint=f"{program('python')} -m pip install 'undo-hpc[lora]', or set train.lora.enabled to false",
        )
    for package in ("torch", "transformers", "deepspeed"):  # what training and the engine transformers run on
        if find_spec(package) is None:
            raise ConfigError(
                f"{package} is not installed in {sys.prefix}, and training needs it",
                hint=f"{program('python')} -m pip install undo-hpc",
            )


def runs_elsewhere(config: RunConfig) -> bool:
    """Whether tasks run with another Python, which only its nodes know."""
    if config.cluster.kind != "slurm":
        return False
    profile = load_profile(config.cluster.profile)
    return bool(profile.container.kind != "none" or profile.python or profile.modules or profile.setup)


def check_plugins(config: RunConfig) -> None:
    """Loads all that the user brings. Raises ConfigError where something cannot be loaded or has the wrong shape."""
    for folder in config.plugins:
        if not Path(folder).is_dir():
            raise ConfigError(
                f"plugins: there is no folder {folder}", hint="name the folder that holds your package"
            )
    search_folders(config.plugins)
    try:
        _load_plugins(config)
    except NotInstalled:
        if not runs_elsewhere(config):
            raise


def _load_plugins(config: RunConfig) -> None:
    for role in ("generate", "evaluate"):
        name = getattr(config, role).engine.name
        if name not in ENGINES and not _no_teacher(config, role):
            load_own_engine(name, f"{role}.engine.name")
    for stage in config.stages:
        load_stage(config, stage)
    decider_of(config, config.grading.workers)


def _no_teacher(config: RunConfig, stage: str) -> bool:
    """Whether the stage is `generate` and asks no model: rationales are given, or nothing is taught."""
    return stage == "generate" and not asks(config, "teacher")


def check_teacher(config: RunConfig) -> None:
    """There is one place that answers for the teacher."""
    settings = config.generate
    if _no_teacher(config, "generate"):
        return
    server = settings.engine.openai.base_url
    if settings.engine.name == "openai" and not server and not settings.service:
        raise ConfigError(
            "generate.engine.name is openai, and no server is configured",
            hint="set generate.engine.openai.base_url, e.g. http://host:8000/v1, or generate.service to a number of servers of the run's own",
        )
    if settings.service and (settings.engine.name != "openai" or server):
        other = (
            f"generate.engine.openai.base_url is {server}"
            if server
            else f"generate.engine.name is {settings.engine.name}"
        )
        raise ConfigError(
            f"generate.service asks for {settings.service} servers of the run's own, and {other}: no task would use these servers",
            hint="set generate.engine.name to openai and leave base_url empty, or set generate.service to 0",
        )
    if settings.service and settings.canary.problems:
        raise ConfigError(
            f"generate.canary asks for {settings.canary.problems} problems first, and the run's own servers (generate.service) would be started twice",
            hint="leave generate.canary.problems out; --smoke N tries the whole loop with servers, too",
        )


def check_evaluation(config: RunConfig) -> None:
    """The student itself is evaluated, and overrides name benchmarks of the run."""
    settings = config.evaluate
    if only_evaluates(config) and not (settings.benchmarks and settings.baseline):
        raise ConfigError(
            "until is 'baseline', and there is nothing to evaluate",
            hint="name benchmarks (evaluate.benchmarks), and leave evaluate.baseline on",
        )
    if settings.engine.name == "openai":
        raise ConfigError(
            "evaluate.engine.name is openai: a server answers with the model that it holds, not with the student just trained",
            hint="set evaluate.engine.name to vllm or transformers",
        )
    names = [Path(name).stem for name in settings.benchmarks]
    for name in settings.overrides:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            advice = f"did you mean '{near[0]}'? " if near else ""
            raise ConfigError(
                f"evaluate.overrides.{name}: the run has no benchmark of that name",
                hint=f"{advice}evaluate.benchmarks names: {', '.join(names) or 'none'}",
            )


def check_contexts(config: RunConfig) -> None:
    """vLLM does not start with a longer context than the model's own."""
    for stage, engine, model in (
        ("generate", config.generate.engine, config.teacher),
        ("evaluate", config.evaluate.engine, config.student),
    ):
        limit = engine.vllm.max_model_len
        if engine.name != "vllm" or not limit or _no_teacher(config, stage):
            continue
        context = context_of(model)
        if context and limit > context:
            raise ConfigError(
                f"{stage}.engine.vllm.max_model_len is {limit}, and {model.model} reads at most {context} tokens",
                hint=f"set it to {context}, or to null for the model's own",
            )


def check_prompts(config: RunConfig) -> None:
    """The prompt sets have all templates that the run needs, later iterations included."""
    refined = effective_iterations(config) > 1 and config.method.condition != "one_shot"
    needed = ["problem", "refine"] if refined else ["problem"]
    prompts = load_prompts(config.teacher.prompt)
    if not _no_teacher(config, "generate"):
        prompts.require(*needed)
        if refined:
            _require_placeholders(config, prompts)
    load_prompts(config.student.prompt).require("student")


def _require_placeholders(config: RunConfig, prompts: PromptSet) -> None:
    """What the method is to show has a place in the template: else the switch would change nothing, silently."""
    method = config.method
    shown = {
        "history": (method.history == "all", "method.history: all"),
        "score": (method.show_score, "method.show_score: true"),
        "error_kind": (method.hint == "kind", "method.hint: kind"),
        "failed_step": (method.hint == "step", "method.hint: step"),
        "examples": (method.examples > 0, f"method.examples: {method.examples}"),
    }
    for name, (wanted, key) in shown.items():
        if wanted and not prompts.shows("refine", name):
            raise ConfigError(
                f"{key} has no effect: refine.txt of {prompts.where} has no {{{{ {name} }}}}",
                hint=f"add {{{{ {name} }}}} to it (undo_hpc/prompts/default/refine.txt has one), or take the key away",
            )


def check_scorer(config: RunConfig) -> None:
    """Student and teacher have the same token ids where scores are learned, as far as both tokenizers lie here. (The task that scores
    compares them again, whatever they are, before it loads weights.)"""
    if config.method.signal == "text":
        return
    from undo_hpc.engines.scoring import match_tokenizers
    from undo_hpc.training.loss_tokens import load_tokenizer

    found = []
    for model in (config.teacher, config.student):
        folder = Path(resolve_model(model.model))
        tokenizer = load_tokenizer(folder) if (folder / "tokenizer.json").is_file() else None
        if tokenizer is None:
            return
        found.append(_Vocabulary(tokenizer))
    match_tokenizers(found[0], found[1])


class _Vocabulary:
    """A tokenizer of `tokenizers`, in the words of transformers that `match_tokenizers` uses."""

    def __init__(self, tokenizer: Any) -> None:
        self.get_vocab = tokenizer.get_vocab
        self.added_tokens_decoder = tokenizer.get_added_tokens_decoder()


def check_cluster(config: RunConfig) -> None:
    """A profile is there to be used; and training has a process for each GPU, for a GPU without one would be paid for and stand idle."""
    cluster = config.cluster
    if cluster.profile and "kind" not in cluster.model_fields_set:
        raise ConfigError(
            f"cluster.profile is {cluster.profile}, and cluster.kind is not set: the run would stay on this machine",
            hint="set cluster.kind to slurm (or to local, to ignore the profile)",
        )
    for stage, asked in cluster.resources.items():
        single = config.stages[stage].tasks == 1 if stage in config.stages else None
        where = f"cluster.resources.{stage}."
        require_used(stage, asked, where.__add__, single=single)
        if cluster.kind != "slurm" and spec_of(stage).spans and (asked.nodes or 1) > 1:
            raise ConfigError(
                f"{where}nodes is {asked.nodes}, and this run is on one machine",
                hint="leave it out, or --cluster slurm",
            )
    if cluster.kind != "slurm":
        return
    profile = load_profile(cluster.profile)
    _check_spread(config, profile)
    resources = profile.for_stage("train", cluster.resources.get("train", StageResources()))
    gpus, ranks = resources.gpus_per_node or 0, resources.tasks_per_node or 1
    if gpus and gpus != ranks:
        raise ConfigError(
            f"train asks for {counted(gpus, 'GPU')} and {ranks} process{'es' if ranks > 1 else ''} a node; each process trains on one GPU",
            hint=f"set cluster.resources.train.tasks_per_node to {gpus}, or tasks_per_node of train in the profile",
        )


def _check_spread(config: RunConfig, profile: Profile) -> None:
    """A teacher over several nodes: vLLM alone can, and its parallel sizes must be the GPUs that are asked for."""
    for stage, engine in {
        "generate": config.generate.engine.name,
        "serve": "vllm",
        "score": config.distill.engine or config.generate.engine.name,
    }.items():
        asked = profile.for_stage(stage, resources_of(config, stage))
        nodes, gpus = asked.nodes or 1, asked.gpus_per_node or 0
        if nodes == 1 or (stage == "score" and config.method.signal == "text"):
            continue
        if engine != "vllm":
            raise ConfigError(
                f"{stage} asks for {nodes} nodes a task, and the engine {engine} runs on one: only vLLM spreads a model over nodes",
                hint="set generate.engine.name to vllm, or nodes of serve where the teacher is a service; else leave nodes out",
            )
        vllm = config.generate.engine.vllm
        given = {"tensor_parallel_size": vllm.tensor_parallel_size} if vllm.tensor_parallel_size else {}
        spread(given | vllm.extra, nodes, gpus)


def check_hub(config: RunConfig) -> None:
    """What is to be pushed has a repository, and a token file exists."""
    hub = config.hub
    require_repository("hub.dataset_repo", hub.dataset_repo)
    require_repository("hub.model_repo", hub.model_repo)
    if not hub.push_at_end and not hub.push_every_min:
        return
    if not hub.dataset_repo and not hub.model_repo:
        key = "push_at_end" if hub.push_at_end else "push_every_min"
        raise ConfigError(
            f"hub.{key} is on, and no repository is named: nothing would be pushed",
            hint="set hub.dataset_repo, hub.model_repo, or both",
        )
    if hub.token_file and not expanded(hub.token_file).is_file():
        raise ConfigError(
            f"hub.token_file: there is no file {hub.token_file}", hint="correct the path, or remove the key"
        )


def check_stop(config: RunConfig) -> None:
    """The stopping rule can be met, and examples have a split to come from."""
    if config.stop.epsilon >= 1:
        raise ConfigError(
            f"stop.epsilon is {config.stop.epsilon:g}, a gain of {100 * config.stop.epsilon:g} points: no iteration could reach it",
            hint="it is a share of the validation problems: 0.01 is one point",
        )
    method = config.method
    if method.examples and not getattr(config.data, method.examples_from):
        raise ConfigError(
            f"method.examples asks for examples from the {method.examples_from} split, and data.{method.examples_from} is 0",
            hint="hold out problems for it, or set method.examples: 0",
        )


def check_key_files(config: RunConfig) -> list[str]:
    """A file that holds the key of a server can be read. (A variable is read by the tasks, with their environment.) Returns a sentence for
    each secret that other users may read."""
    settings = config.generate.engine
    if settings.name == "openai" and settings.openai.api_key_file and not _no_teacher(config, "generate"):
        find_key(settings.openai.api_key_file, "", required=False)
    files = [settings.openai.api_key_file if settings.name == "openai" else "", config.hub.token_file]
    return [said for name in files if name and (said := readable_by_others(expanded(name)))]
