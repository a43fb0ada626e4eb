"""Which run a command is about, where none was named: the only one, or the one that changed last."""

from __future__ import annotations

from pathlib import Path

from undo_hpc.commands import launcher, undo
from undo_hpc.errors import ConfigError

CHECKPOINTS = Path("checkpoints")


def run_dirs(folder: Path) -> list[Path]:
    """Run directories in a folder (and the folder itself, if it is one), the latest first."""
    found = [path.parent for path in [folder / "config.resolved.json", *folder.glob("*/config.resolved.json")] if path.is_file()]
    return sorted(found, key=changed_at, reverse=True)


def changed_at(run_dir: Path) -> float:
    """When something last happened to a run."""
    times = [path.stat().st_mtime for path in (run_dir / "events.jsonl", run_dir / "config.resolved.json") if path.exists()]
    return max([*times, *(path.stat().st_mtime for path in run_dir.glob("iter_*"))])


def choose_run(given: Path | None) -> Path:
    """The run directory given, or the latest under checkpoints/. Raises ConfigError where there is none."""
    if given is not None:
        return given
    found = run_dirs(Path()) or run_dirs(CHECKPOINTS)
    if not found:
        raise ConfigError(
            f"there is no run in {CHECKPOINTS.resolve()}",
            hint=f"name one ({undo('status RUN_DIR')}), or start one: {launcher()}",
        )
    return found[0]
