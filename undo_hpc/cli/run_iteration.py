"""`python launchers/run_iteration.py`: starts or resumes a run, on this machine or on a SLURM cluster."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import (
    LAUNCHER_EXAMPLES,
    Once,
    add_set,
    add_verbosity,
    nonempty,
    path_argument,
    run_launcher,
)
from undo_hpc.cli.parts import add_place_arguments, place_sets
from undo_hpc.system.credentials import redacted

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.config.schema import RunConfig
    from undo_hpc.errors import ConfigError
    from undo_hpc.pipeline.run import Run


def build_parser(prog: str = "run_iteration.py") -> argparse.ArgumentParser:
    """The arguments of the launcher."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Runs UNDO iterative distillation to its end. The same command again resumes it.",
        epilog=LAUNCHER_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=nonempty,
        action=Once,
        metavar="NAME_OR_FILE",
        help="a preset of launchers/configs, or a YAML file (default: tiny)",
    )
    parser.add_argument(
        "--run-dir",
        type=path_argument,
        action=Once,
        metavar="DIR",
        help="the run directory (default: checkpoints/NAME)",
    )
    add_set(parser, "a value over the file's, e.g. train.epochs=2; repeatable")
    parser.add_argument(
        "--iterations",
        type=int,
        action=Once,
        metavar="N",
        help="most iterations, the one-shot iteration 0 included",
    )
    parser.add_argument(
        "--until",
        type=nonempty,
        metavar="STAGE",
        help="end behind this stage (generate, merge, train; baseline; 'all' for the whole loop); sets --iterations to the next one",
    )
    add_place_arguments(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check files and keys, print stages, tasks, sizes and resources; write nothing",
    )
    parser.add_argument(
        "--unattended",
        action="store_true",
        help="called by cron on a SLURM site whose nodes do not submit: failed tasks are submitted again only so often",
    )
    parser.add_argument(
        "--smoke",
        type=int,
        action=Once,
        metavar="N",
        help="try the whole loop on N problems with the run's models, in RUN_DIR-smoke; says what it means for the run",
    )
    add_verbosity(parser)
    return parser


def main(argv: Sequence[str] | None = None, *, prog: str = "run_iteration.py") -> int:
    """Parses, runs, and turns errors into messages and exit codes."""
    from undo_hpc.system.guard import prepare_streams

    prepare_streams()
    parser = build_parser(prog)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        meant = f"; did you mean --config {unknown[0]}?" if unknown[0].endswith((".yaml", ".yml")) else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
    return run_launcher(arguments, launch, what="run", run_dir=None if arguments.smoke else arguments.run_dir)


def launch(arguments: argparse.Namespace, console: Console) -> int:
    """What the arguments ask for. Raises UndoError for all that a user can correct."""
    from undo_hpc.cli.choose import CHECKPOINTS

    config = read_config(arguments)
    run_dir = arguments.run_dir or CHECKPOINTS / config.name
    whole = config
    if arguments.smoke is not None:
        from undo_hpc.config.smoke import smoke_config, smoke_dir

        config, run_dir = smoke_config(whole, arguments.smoke), smoke_dir(run_dir)
        _require_same_smoke(config, run_dir)
    if arguments.dry_run:
        from undo_hpc.observe.dry_run import show_plan

        show_plan(config, run_dir, console)
        return 0
    code = start_run(config, run_dir, console, unattended=arguments.unattended)
    if arguments.smoke is not None and code == 0:
        from undo_hpc.observe.smoke import show_smoke
        from undo_hpc.pipeline.run import open_run

        show_smoke(open_run(run_dir), whole, console)
    return code


def _require_same_smoke(config: RunConfig, run_dir: Path) -> None:
    """Raises ConfigError where the directory of a smoke test holds another run, or a smoke test with other values."""
    from undo_hpc.errors import ConfigError
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.pipeline.run import changed_keys, open_run

    if not Layout(run_dir).config.exists():
        return
    run = open_run(run_dir)
    if run.config.name != config.name:
        raise ConfigError(
            f"{run_dir} is another run ({run.config.name}), and the smoke test would be made there",
            hint="move it, or give another --run-dir",
        )
    try:
        changed_keys(run, config)
    except ConfigError as error:
        raise ConfigError(
            error.message,
            hint=f"a smoke test with other values begins from nothing: remove {run_dir}, or give the old values to resume it",
        ) from error


def start_run(
    config: RunConfig,
    run_dir: Path,
    console: Console,
    *,
    prepared: Callable[[Run], object] | None = None,
    unattended: bool = False,
    only_prepare: bool = False,
) -> int:
    """Starts a run or resumes it; returns its exit code. Raises UndoError for all that a user can correct.

    Args:
        prepared: called when its data stand, before anything is planned; a campaign takes over equal work there.
        unattended: called by cron, where nodes may submit nothing.
        only_prepare: nothing is planned or submitted; a campaign does that later, from a node that may have no network.
    """
    from undo_hpc.cli.messages import show_prepared
    from undo_hpc.control.added import add_evaluations, with_new_benchmarks
    from undo_hpc.control.checks import require
    from undo_hpc.control.tidy import tidy
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.pipeline.run import create_or_open, require_trusted_run
    from undo_hpc.stages.prepare import prepare
    from undo_hpc.storage.lease import Lease

    require_trusted_run(run_dir)  # before anything is written there, the lease too
    layout = Layout(run_dir.resolve())
    config = with_new_benchmarks(config, run_dir)
    new = not layout.prepared.exists()
    inputs = (
        require(config, run_dir) if new else None
    )  # before the lease, which is the first file of a new run
    with Lease(layout.lease, f"the run directory {run_dir}"):
        if not new:
            require(config, run_dir)
        run = create_or_open(config, run_dir, command=command_line())
        tidy(run)
        manifest = prepare(run, inputs)
        if new:
            show_prepared(run, manifest, console)
        for note in add_evaluations(run) if config.evaluate.added else ():
            console.print(f"warning: {note}", highlight=False, markup=False, soft_wrap=True)
        if only_prepare:
            return 0
        if prepared is not None:
            prepared(run)
        if config.cluster.kind == "slurm":
            from undo_hpc.cli.run_on_slurm import run_on_slurm

            return run_on_slurm(run, console, unattended=unattended)
        from undo_hpc.cli.run_locally import run_locally

        return run_locally(run, console)


def command_line() -> list[str]:
    """The command as it can be typed again."""
    return ["python", *map(redacted, sys.argv)]


def read_config(arguments: argparse.Namespace) -> RunConfig:
    """The configuration asked for; an existing run directory without --config has its own.

    Raises:
        ConfigError: --run-dir without --config, and there is no run.
    """
    from undo_hpc.cli.choose import CHECKPOINTS
    from undo_hpc.config.load import load_config, override
    from undo_hpc.pipeline.layout import Layout

    sets = list(arguments.sets)
    if arguments.iterations is not None:
        sets.append(f"iterations={arguments.iterations}")
    sets += place_sets(arguments)
    known = arguments.run_dir and Layout(arguments.run_dir).config.exists()
    if known and not arguments.config:
        from undo_hpc.pipeline.run import open_run

        config = override(open_run(arguments.run_dir).config, sets)
        config = _until(config, arguments.run_dir, arguments)
        return config if arguments.profile else _with_profile(config, arguments.run_dir)
    if arguments.run_dir and not arguments.config:
        raise _no_run(arguments.run_dir)
    config = load_config(arguments.config or "tiny", sets)
    run_dir = arguments.run_dir or CHECKPOINTS / config.name
    config = _until(_where_it_runs(config, run_dir), run_dir, arguments)
    return config if arguments.profile else _with_profile(config, run_dir)


def _until(config: RunConfig, run_dir: Path, arguments: argparse.Namespace) -> RunConfig:
    """The same with `--until`: the iteration at work is the last one, unless --iterations says otherwise."""
    from undo_hpc.config.load import override
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.storage.reading import read_fast

    if not arguments.until:
        return config
    if arguments.until == "all":
        return override(config, ['until=""'])
    layout = Layout(run_dir.resolve())
    finished = (read_fast(layout.iteration(k).metrics) for k in layout.iterations())
    whole = sum(bool(metrics) and "until" not in metrics for metrics in finished if metrics)
    number = [] if arguments.iterations is not None else [f"iterations={whole + 1}"]
    return override(config, [*number, f"until={arguments.until}"])


def _with_profile(config: RunConfig, run_dir: Path) -> RunConfig:
    """The same, with the run's own copy of the profile where the file is gone that the run was launched with."""
    import logging

    from undo_hpc.config.load import override
    from undo_hpc.pipeline.layout import Layout

    kept, path = Layout(run_dir.resolve()).profile, config.cluster.profile
    if config.cluster.kind != "slurm" or not path or Path(path).exists() or not kept.exists():
        return config
    logging.getLogger(__name__).warning(
        "%s is gone; the run's own copy of the profile is used: %s", path, kept
    )
    return override(config, [f"cluster.profile={json.dumps(str(kept))}"])


def _no_run(run_dir: Path) -> ConfigError:
    """The error for a --run-dir that holds no run, given without a configuration: most likely a misspelt name."""
    import difflib

    from undo_hpc.cli.choose import run_dirs
    from undo_hpc.errors import ConfigError
    from undo_hpc.system.invocation import display_path, launcher_hint

    beside = [path.name for path in run_dirs(run_dir.parent) if path != run_dir.parent]
    near = difflib.get_close_matches(run_dir.name, beside, n=1)
    there = f"did you mean {run_dir.parent / near[0]}? " if near else ""
    new = launcher_hint(f"--run-dir {display_path(run_dir)} --config NAME_OR_FILE")
    return ConfigError(
        f"there is no run in {run_dir}, and no --config to start one with",
        hint=f"{there}To resume a run, give its directory; to start one there: {new} (the embedded demo is --config tiny)",
    )


def _where_it_runs(config: RunConfig, run_dir: Path) -> RunConfig:
    """A run that is on a cluster stays there unless something else is said: a login node is no place for its tasks."""
    from undo_hpc.config.load import override
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.pipeline.run import open_run

    if (
        not config.cluster.model_fields_set.isdisjoint({"kind", "profile"})
        or not Layout(run_dir).config.exists()
    ):
        return config
    before = open_run(run_dir).config.cluster
    if before.kind == config.cluster.kind:
        return config
    return override(config, [f"cluster.kind={before.kind}", f"cluster.profile={json.dumps(before.profile)}"])
