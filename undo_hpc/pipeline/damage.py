"""What an error in a command about a run comes to: most that is unexpected is explained by a damaged file."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from undo_hpc.errors import StorageError, UndoError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.storage.manifest import read_manifest, verify_outputs
from undo_hpc.system.guard import explained

_SMALL = 2**26  # bytes of a file that is read whole in search of damage; weights are not


def explain_in_run(error: Exception, run_dir: Path | None) -> UndoError:
    """The error in words; the traceback of one that nobody foresaw goes into the run's logs."""
    if isinstance(error, UndoError | OSError):
        return explained(error)
    return find_damage(run_dir) or explained(error, _log_folder(run_dir))


def find_damage(run_dir: Path | None) -> StorageError | None:
    """The first file of a run that is not what its manifest says, which explains most of what else is unexpected."""
    try:
        paths = sorted(run_dir.rglob("*manifest.json")) if run_dir is not None and run_dir.is_dir() else []
    except (OSError, ValueError):
        return None
    for path in paths:
        try:
            manifest = read_manifest(path)
            small = {n: out for n, out in manifest.outputs.items() if out.bytes < _SMALL} if manifest else {}
            problem = (
                verify_outputs(run_dir, replace(manifest, outputs=small), deep=True, pruned=True)
                if manifest and run_dir
                else ""
            )
        except UndoError as error:
            return StorageError(error.message, hint=error.hint)
        except OSError as error:
            problem = str(error)
        if problem:
            return StorageError(
                f"the run is damaged: {problem} ({path})",
                hint="put the file back; or run the launcher again, which makes again what is missing or damaged",
            )
    return None


def _log_folder(run_dir: Path | None) -> Path | None:
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # whatever is wrong with the run directory
        if run_dir is not None and Layout(run_dir).config.is_file():
            return Layout(run_dir.resolve()).logs
    return None
