"""Checks this machine, and the cluster behind it, before a run: Python, packages, GPU, SLURM, file system, space, the Hub."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import add_set, nonempty, path_argument

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc doctor
  undo-hpc doctor --config my.yaml --prefetch             fetch models and data for nodes without a network
  undo-hpc doctor --write-profile slurm/profiles/mine.yaml  propose a profile of this cluster
"""
MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "bold red")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument(
        "--config",
        type=nonempty,
        metavar="NAME_OR_FILE",
        help="the run that is planned: a preset, or a YAML file",
    )
    add_set(parser, "a value over the file's; repeatable")
    parser.add_argument(
        "--profile", type=nonempty, metavar="FILE", help="profile of the cluster, to be checked"
    )
    parser.add_argument(
        "--folder",
        type=path_argument,
        default=Path("checkpoints"),
        help="where run directories shall lie (default: checkpoints)",
    )
    parser.add_argument(
        "--prefetch",
        action="store_true",
        help="fetch the run's models and data into the Hub's cache (needs --config)",
    )
    parser.add_argument(
        "--write-profile",
        type=path_argument,
        metavar="FILE",
        help="write a profile proposed from what SLURM says of itself",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Prints the findings; 1 where there are errors."""
    from undo_hpc.errors import ConfigError

    if arguments.write_profile:
        return _write_profile(arguments.write_profile, console)
    config = None
    if arguments.config or arguments.sets:
        from undo_hpc.config.load import load_config

        config = load_config(arguments.config or "tiny", arguments.sets)
    elif arguments.prefetch:
        raise ConfigError(
            "--prefetch needs to know the run", hint="undo-hpc doctor --config NAME_OR_FILE --prefetch"
        )
    from undo_hpc.doctor import checkup
    from undo_hpc.doctor.machine import dumps

    findings = list(checkup(config, arguments.folder, profile=arguments.profile or ""))
    if arguments.prefetch and config is not None:
        from undo_hpc.doctor.hub import prefetch

        findings += prefetch(config)
    errors = sum(finding.level == "error" for finding in findings)
    if arguments.json:
        print(dumps(findings))
        return int(bool(errors))
    from rich.table import Table
    from rich.text import Text

    from undo_hpc.system.wording import counted

    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = MARKS[finding.level]
        detail = Text(finding.detail)
        if finding.hint:
            detail.append(f"\n-> {finding.hint}", "cyan" if finding.level != "ok" else "dim")
        table.add_row(Text(mark, style), finding.what, detail)
    console.print(table)
    warnings = sum(finding.level == "warning" for finding in findings)
    console.print()
    console.print(
        f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
        if errors or warnings
        else "no errors, no warnings",
        style="bold",
        highlight=False,
    )
    return int(bool(errors))


def _write_profile(path: Path, console: Console) -> int:
    from undo_hpc.cluster.propose import propose_profile
    from undo_hpc.errors import ConfigError
    from undo_hpc.storage.atomic import write_text
    from undo_hpc.system.invocation import display_path, launcher_hint

    if path.exists():
        raise ConfigError(f"{path} exists already", hint="give another name, or remove it")
    write_text(path, propose_profile())
    trial = launcher_hint(f"--config my.yaml --profile {display_path(path)} --dry-run")
    console.print(
        f"{path}: a proposal; review and edit it, then: {trial}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0
