"""A profile: what must be known of one SLURM cluster, in one YAML file. `slurm/profiles/example.yaml` explains each key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, field_validator

from undo_hpc.config.fields import Section, runtime_field
from undo_hpc.config.load import read_yaml, validate_section
from undo_hpc.config.schema import StageResources
from undo_hpc.config.stages import STAGE_NAME, STAGES, spec_of
from undo_hpc.errors import ConfigError, StorageError
from undo_hpc.storage.atomic import read_json
from undo_hpc.system.data_files import data_file
from undo_hpc.system.ownership import TRUST, require_not_for_everybody

DEFAULT_MINUTES = 60  # time limit where nobody says one
# What a task needs to find its programs and caches. Tokens travel by file: HF_HOME or HF_TOKEN_PATH lead to it.
BASIC_EXPORTS = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "SLURM_CONF",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HF_TOKEN_PATH",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "XDG_CACHE_HOME",
    "LD_LIBRARY_PATH",
    TRUST,
)
_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE)", re.IGNORECASE)
# sbatch options that are ours to set, and what to say instead: among `extra` they would undo a promise (secrets, the way of the jobs).
_OURS = {
    "export": "list names under `export`",
    "export-file": "list names under `export`",
    "signal": "set `signal_lead_s`",
    "requeue": "set `requeue`",
    "no-requeue": "set `requeue`",
    "clusters": "set `cluster`",
    "cluster": "set `cluster`",
}
_OURS |= dict.fromkeys(
    ("array", "dependency", "job-name", "output", "open-mode", "wait", "wrap", "test-only"), "leave it out"
)
_PATH_LIKE = re.compile(r"(_PATH|_FILE|_DIR)$", re.IGNORECASE)


class StageProfile(StageResources):
    """What a task of a stage asks of the scheduler."""

    partition: str | None = runtime_field(None, "partition(s), separated by commas")
    account: str | None = runtime_field(None, "account that is charged")
    qos: str | None = runtime_field(None, "quality of service")
    constraint: str | None = runtime_field(None, "features that a node must have")
    exclusive: bool | None = runtime_field(
        None, "whole nodes, where a site gives out nothing less: all their CPUs and memory"
    )
    extra: dict[str, str | int | bool] = runtime_field(
        {}, "further sbatch options by their long names, e.g. {exclude: node7}"
    )

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        if ours := [name for name in extra if name in _OURS]:
            raise ValueError(f"'{ours[0]}' is set by this program: {_OURS[ours[0]]}")
        return extra


class ContainerProfile(Section):
    """The container in which tasks run."""

    kind: Literal["none", "pyxis", "apptainer"] = runtime_field(
        "none", "none, pyxis (srun --container-image) or apptainer"
    )
    image: str = runtime_field("", "image: a .sqsh or .sif file, or a registry's name")
    mounts: list[str] = runtime_field(
        [], "further folders as SOURCE:TARGET; the run directory and the code are always mounted"
    )
    options: list[str] = runtime_field([], "further words for srun (pyxis) or for `apptainer exec`")
    python: str = runtime_field("python3", "the Python inside the image")

    @field_validator("options")
    @classmethod
    def _keeps_variables(cls, options: list[str]) -> list[str]:
        if taking := [o for o in options if o in ("-e", "--cleanenv", "-C", "--containall")]:
            raise ValueError(
                f"'{taking[0]}' takes away the variables that tell a task its rank, its GPUs and where its code lies"
            )
        return options


class Profile(Section):
    """A SLURM cluster."""

    cluster: str = runtime_field(
        "",
        "name of the cluster where SLURM has several (sbatch -M); empty: SLURM_CLUSTERS, or the default one",
    )
    defaults: StageProfile = runtime_field(
        StageProfile(), "what every stage asks for, unless `stages` or the configuration says otherwise"
    )
    stages: dict[str, StageProfile] = runtime_field(
        {}, "what a stage asks for, over `defaults`; stages of your own (configuration: `stages`) too"
    )
    gpu_syntax: Literal["gres", "gpus-per-node", "gpus-per-task", "none"] = runtime_field(
        "gres",
        "how GPUs are asked for: --gres=gpu:N, --gpus-per-node=N, --gpus-per-task (those of the node, shared among its tasks), or not at all",
    )
    gpu_type: str = runtime_field(
        "", "type of GPU, or of a part of one (MIG), as sinfo -o %G names it: a100, 1g.10gb"
    )
    modules: list[str] = runtime_field([], "environment modules to load, in order")
    setup: list[str] = runtime_field([], "shell lines to run before the task")
    python: str = runtime_field("", "Python on the compute nodes; empty takes the one that submits")
    container: ContainerProfile = runtime_field(ContainerProfile(), "the container in which tasks run")
    stage_to: str = runtime_field(
        "",
        "folder on each node's own disk where code and packages are unpacked once a node, and imported from; empty: from the shared file system",
    )
    stage_archive: str = runtime_field(
        "", "archive of the packages for `stage_to`; empty: the launcher makes one in the run directory"
    )
    export: list[str] = runtime_field(
        [], "names of further environment variables to hand to the tasks; never secrets"
    )
    submit_from: Literal["nodes", "login"] = runtime_field(
        "nodes",
        "who submits what follows: merge and advance on their nodes, or the launcher alone: it submits the iterations ahead, and cron may call it again",
    )
    signal_lead_s: int = runtime_field(
        120, "seconds before the time limit at which a task is told to save; SLURM may be 60 s early", ge=10
    )
    requeue: bool = runtime_field(True, "whether the site lets a job be requeued")
    restart_delay_s: int = runtime_field(
        3,
        "seconds after which a requeued job may start again; must be more than the site's epilog takes, "
        "or SLURM's own rule holds (two minutes)",
        ge=1,
    )
    visible_within_s: float = runtime_field(
        60.0, "seconds within which a file written on one node shows on all others (NFS caches)", ge=0
    )
    array_parallelism: int = runtime_field(256, "tasks of an array at once, where a stage does not say", ge=1)
    max_array_size: int | None = runtime_field(None, "most tasks in an array; null asks the cluster", ge=1)

    @field_validator("cluster")
    @classmethod
    def _one_cluster(cls, name: str) -> str:
        if "," in name or name.lower() == "all":
            raise ValueError(f"'{name}' names several clusters; a run is on one")
        return name

    @field_validator("export")
    @classmethod
    def _no_secrets(cls, names: list[str]) -> list[str]:
        for name in names:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(
                    f"'{name}' is not the name of a variable (values do not belong in a profile)"
                )
            if _SECRET.search(name) and not _PATH_LIKE.search(name):
                raise ValueError(
                    f"'{name}' looks like a secret, which SLURM would store; hand over a file instead "
                    "(HF_TOKEN_PATH, engine.openai.api_key_file, hub.token_file)"
                )
        return names

    @field_validator("stage_to", "stage_archive")
    @classmethod
    def _is_a_place(cls, path: str) -> str:
        if path and (not path.startswith("/") or ":" in path):
            raise ValueError(
                f"'{path}' must be an absolute path without ':', which separates entries of PYTHONPATH"
            )
        return path

    @field_validator("setup")
    @classmethod
    def _no_secrets_in_setup(cls, lines: list[str]) -> list[str]:
        for line in lines:
            for name, value in re.findall(r"\b([A-Za-z_][A-Za-z0-9_]*)=(\S*)", line):
                if (
                    _SECRET.search(name)
                    and not _PATH_LIKE.search(name)
                    and value
                    and not value.strip("\"'").startswith("$(")
                ):
                    raise ValueError(
                        f"a line sets {name} to a value, which SLURM would store with the script; read it from a file "
                        f"on the node instead: export {name}=$(cat ~/.{name.lower()})"
                    )
        return lines

    def exports(self) -> str:
        """The value of sbatch's --export: names only, so that nothing else of the environment reaches SLURM's records."""
        names = dict.fromkeys((*BASIC_EXPORTS, *self.export))
        if self.cluster:  # its nodes have a configuration of their own
            names.pop("SLURM_CONF")
        return ",".join(names)

    def for_stage(self, stage: str, asked: StageResources) -> StageProfile:
        """What a task of a stage asks for: the run's configuration over the stage's profile over the defaults.

        Raises ConfigError where the time limit leaves no time to work before the signal that says to save.
        """
        merged: dict[str, Any] = {"extra": {}}
        spec, own = spec_of(stage), self.stages.get(stage)
        # of the same work, such as baseline's and evaluate's
        layers: list[StageResources | None] = [self.defaults, self.stages.get(spec.resources_of), own, asked]
        for layer in layers:
            if layer is None:
                continue
            for key, value in layer.model_dump(exclude_none=True).items():
                merged[key] = merged["extra"] | value if key == "extra" else value
        if (
            not spec.gpu
        ):  # a GPU among the defaults is for models; a stage may ask for one, as some sites want of every job
            merged["gpus_per_node"] = asked.gpus_per_node or (own.gpus_per_node if own else 0) or 0
        if not spec.cooperates:  # each process would do the whole task
            merged["tasks_per_node"] = 1
            said = [
                layer.nodes for layer in layers[1:] if layer and layer.nodes
            ]  # those of defaults are for train
            merged["nodes"] = said[-1] if spec.spans and said else 1
        minutes = merged.get("minutes") or DEFAULT_MINUTES
        if 60 * minutes <= self.signal_lead_s:
            raise ConfigError(
                f"{stage}: no time to work within a limit of {minutes} minutes: a task is told to save "
                f"{self.signal_lead_s} seconds before its end (signal_lead_s)",
                hint="give it more minutes, or set a shorter signal_lead_s in the profile",
            )
        return StageProfile(**merged)


def require_used(
    stage: str, asked: StageResources, where: Callable[[str], str], *, single: bool | None = None
) -> None:
    """Refuses what a stage would silently ignore.

    Args:
        where: names a key of `asked`, for the message.
        single: whether the stage is one task; by default as the table says, where it knows the stage.

    Raises:
        ConfigError: several nodes or processes anywhere but in training; a number of tasks at once of a stage that is one task.
    """
    if single is None:
        single = stage in STAGES and not STAGES[stage].array
    spec = spec_of(stage)
    if not spec.cooperates:
        for key in ("tasks_per_node",) if spec.spans else ("nodes", "tasks_per_node"):
            if (getattr(asked, key) or 1) > 1:
                raise ConfigError(
                    f"{where(key)}: only the processes of train work together; a task of any other stage is one process on one node"
                    + (" (of generate, serve and score one process a node: nodes)" if key == "nodes" else ""),
                    hint=f"say {key} of train alone"
                    + (
                        "; generate.shards and evaluate.problems_per_task make more tasks side by side"
                        if stage != "defaults"
                        else ""
                    ),
                )
    if single and asked.array_parallelism is not None:
        raise ConfigError(
            f"{where('array_parallelism')}: {stage} is one task, not an array", hint="leave it out"
        )


def _require_single_lines(
    value: object, where: Callable[[tuple[str, ...]], str], key: tuple[str, ...] = ()
) -> None:
    """Raises ConfigError for a text with a newline or another control character: in a batch file it would become a line of its own."""
    if isinstance(value, str) and value and not value.isprintable():
        raise ConfigError(
            f"{where(key)}: '{'.'.join(key)}' contains a newline or another character that does not print: {value!r}",
            hint="write the value on one line, without control characters",
        )
    if isinstance(value, dict):
        for name, item in value.items():
            _require_single_lines(str(name), where, key)
            _require_single_lines(item, where, (*key, str(name)))
    if isinstance(value, list):
        for item in value:
            _require_single_lines(item, where, key)


def read_frozen(path: Path) -> Profile:
    """The profile that a launcher froze in its run; the stock one where there is none. Raises StorageError where it is damaged."""
    if not path.exists():
        return Profile()
    try:
        return Profile.model_validate(read_json(path))
    except (StorageError, ValidationError) as error:
        if isinstance(error, StorageError):
            why = error.message
        else:
            first = error.errors()[0]
            why = f"{path} is no profile: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise StorageError(
            why,
            hint="the launcher writes it: remove the file, and give the launcher the same profile and cluster as before",
        ) from error


def load_profile(path: str | Path) -> Profile:
    """A profile from its file; an empty path is the stock profile. Raises ConfigError that names the wrong key and line."""
    if not str(path):
        return Profile()
    file = Path(path)
    if not file.is_file():
        known = sorted(str(p) for p in data_file("slurm/profiles").glob("*.yaml"))
        raise ConfigError(
            f"no such cluster profile: {path}",
            hint="write one with `undo-hpc doctor --write-profile FILE`, or start from "
            + (", ".join(known) or "slurm/profiles/example.yaml"),
        )
    require_not_for_everybody(file)
    text = read_yaml(file)
    profile = validate_section(Profile, text)
    _require_single_lines(profile.model_dump(exclude={"setup"}), text.where)

    def place(*path: str) -> Callable[[str], str]:
        return lambda key: f"{text.where((*path, key))}: '{'.'.join((*path, key))}'"

    if profile.stage_to and profile.container.kind != "none":
        raise ConfigError(
            f"{text.where(('stage_to',))}: the packages of a container are in its image: there is nothing to stage",
            hint="leave `stage_to` out; copy the image to the nodes instead (`setup`), or let the container's own cache do it",
        )
    if profile.stage_archive and not profile.stage_to:
        raise ConfigError(
            f"{text.where(('stage_archive',))}: stage_archive means nothing without stage_to",
            hint="name a folder on the nodes' own disks",
        )
    require_used("defaults", profile.defaults, place("defaults"))
    for stage, asked in profile.stages.items():
        near = difflib.get_close_matches(stage, STAGES, n=1, cutoff=0.75)
        if stage not in STAGES and (near or not STAGE_NAME.fullmatch(stage)):
            raise ConfigError(
                f"{place('stages')(stage)}: there is no stage '{stage}'",
                hint=(f"did you mean '{near[0]}'? " if near else "")
                + f"stages: {', '.join(STAGES)}, and your own (configuration: stages)",
            )
        require_used(stage, asked, place("stages", stage))
    return profile
