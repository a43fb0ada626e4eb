"""Which run a command is about, where none was named: the only one, or the one that changed last."""

from __future__ import annotations

from pathlib import Path

from undo_hpc.errors import ConfigError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.system.invocation import cli_hint, launcher_hint

CHECKPOINTS = Path("checkpoints")


def run_dirs(folder: Path) -> list[Path]:
    """Run directories in a folder (and the folder itself, if it is one), the latest first."""
    name = Layout(folder).config.name
    found = [path.parent for path in [folder / name, *folder.glob(f"*/{name}")] if path.is_file()]
    return sorted(found, key=changed_at, reverse=True)


def changed_at(run_dir: Path) -> float:
    """When something last happened to a run."""
    layout = Layout(run_dir)
    places = [
        layout.events,
        layout.config,
        *(layout.iteration(number).root for number in layout.iterations()),
    ]
    return max(path.stat().st_mtime for path in places if path.exists())


def choose_run(given: Path | None) -> Path:
    """The run directory given, or the latest under checkpoints/. Raises ConfigError where there is none."""
    if given is not None:
        return given
    found = run_dirs(Path()) or run_dirs(CHECKPOINTS)
    if not found:
        raise ConfigError(
            f"there is no run in {CHECKPOINTS.resolve()}",
            hint=f"name one ({cli_hint('status RUN_DIR')}), or start one: {launcher_hint()}",
        )
    return found[0]
