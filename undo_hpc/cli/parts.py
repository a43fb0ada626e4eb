"""What the verbs of a part alone share: their arguments, and the configuration that an ordinary run of that part has."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import Once, add_set, nonempty, path_argument, whole_number

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.config.schema import RunConfig


def add_place_arguments(parser: argparse.ArgumentParser) -> None:
    """Where tasks run, for every command that starts a run."""
    parser.add_argument("--cluster", action=Once, choices=("local", "slurm"), help="where the tasks run")
    parser.add_argument(
        "--profile",
        type=nonempty,
        action=Once,
        metavar="FILE",
        help="YAML file that describes the SLURM cluster (implies --cluster slurm)",
    )


def add_part_arguments(parser: argparse.ArgumentParser, *, limit: str) -> None:
    """The arguments that every part takes."""
    parser.add_argument(
        "--config",
        type=nonempty,
        metavar="NAME_OR_FILE",
        help="take all else from a preset or a YAML file; its run directory is that of the whole run",
    )
    parser.add_argument(
        "--run-dir", type=path_argument, metavar="DIR", help="the run directory (default: checkpoints/NAME)"
    )
    parser.add_argument("--limit", type=whole_number(1), metavar="N", help=limit)
    add_set(parser, "any other key, e.g. generate.engine.name=vllm; repeatable")
    add_place_arguments(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="check files and keys, say what would be done; write nothing"
    )


def place_sets(arguments: argparse.Namespace) -> list[str]:
    """`--cluster` and `--profile` as keys."""
    sets = []
    if arguments.profile:
        sets.append(key("cluster.profile", str(Path(arguments.profile).resolve())))
    if arguments.cluster or arguments.profile:
        sets.append(f"cluster.kind={arguments.cluster or 'slurm'}")
    return sets


def key(name: str, value: object) -> str:
    """A key and its value as `--set` takes them; quoted, for a value is read as YAML."""
    return f"{name}={json.dumps(value)}"


def model_sets(role: str, model: str | None) -> list[str]:
    """A model given by name or folder; the embedded ones come with their prompts."""
    if not model:
        return []
    tiny = [f"{role}.prompt=tiny", f"{role}.dtype=float32"] if model.startswith("tiny:") else []
    return [key(f"{role}.model", model), *tiny]


def source_sets(section: str, source: str | None) -> list[str]:
    """Data given by a path, a pattern, a split of the tiny world (tiny:train), or an id on the Hub."""
    if not source:
        return []
    if source.startswith("tiny:"):
        return [key(f"{section}.tiny", source.removeprefix("tiny:"))]
    on_hub = (
        re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not Path(source).suffix and not Path(source).exists()
    )
    return [key(f"{section}.{'hub' if on_hub else 'path'}", source)]


def short(*names: str | None) -> str:
    """Names of models and data as one component of a path."""
    words = (Path(name.replace(":", "-").rstrip("/")).name.partition(".")[0] for name in names if name)
    return "-".join(re.sub(r"[^\w-]+", "-", word).strip("-") for word in words)


def part_config(
    arguments: argparse.Namespace, until: str, name: str, sets: Iterable[str], alone: Iterable[str]
) -> RunConfig:
    """The configuration of a run that ends behind a stage.

    Args:
        name: of the run, where neither a configuration nor --run-dir gives one.
        sets: what the arguments of the part ask for.
        alone: what else is set where no configuration is given: nothing is held out for what does not follow.
    """
    from undo_hpc.config.load import from_sets, load_config

    part = ["iterations=1", f"until={until}", *sets, *place_sets(arguments), *arguments.sets]
    if arguments.config:
        return load_config(arguments.config, part)
    return from_sets([key("name", name), "data.diagnosis=0", "data.validation=0", *alone, *part])


def require_named(arguments: argparse.Namespace, usage: str, *given: object) -> None:
    """Raises ConfigError where a part is not told what it needs, and neither a configuration nor a key says it."""
    if arguments.config or arguments.sets or all(given):
        return
    from undo_hpc.errors import ConfigError
    from undo_hpc.system.invocation import cli_hint

    raise ConfigError(
        f"the command needs more: undo-hpc {usage}",
        hint=f"or give --config FILE; see {cli_hint(usage.split()[0] + ' --help')}",
    )


def run_part(arguments: argparse.Namespace, config: RunConfig, console: Console) -> int:
    """Starts or resumes the run of a part; returns its exit code."""
    from undo_hpc.cli.choose import CHECKPOINTS
    from undo_hpc.cli.run_iteration import start_run
    from undo_hpc.observe.dry_run import show_plan

    run_dir = arguments.run_dir or CHECKPOINTS / config.name
    if arguments.dry_run:
        show_plan(config, run_dir, console)
        return 0
    return start_run(config, run_dir, console)
