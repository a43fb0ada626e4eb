"""Our commands as they can be typed here, for messages that say what to do next."""

from __future__ import annotations

import shlex
import shutil
import stat
import sys
from pathlib import Path


def program(name: str) -> str:
    """How a program of this virtual environment is called from here: its bare name where that finds the right one."""
    ours = Path(sys.executable).parent / name
    found = shutil.which(name)
    if not ours.exists() or (found and Path(found).parent == ours.parent):
        return name
    return display_path(ours)


def python_module(module: str, *words: str) -> list[str]:
    """The command that runs a module with this Python. `-P`: the folder where it is started is no place to import from; there another user
    may have put a `torch.py`."""
    return [sys.executable, "-P", "-m", module, *words]


def cli_hint(words: str) -> str:
    """A verb of undo-hpc with its arguments."""
    return f"{program('undo-hpc')} {words}"


def launcher_hint(words: str = "") -> str:
    """The launcher with its arguments: the script in a checkout of the project, the verb anywhere else."""
    start = (
        f"{program('python')} launchers/run_iteration.py"
        if _lies_here("launchers/run_iteration.py")
        else cli_hint("run")
    )
    return f"{start} {words}".rstrip()


def _lies_here(script: str) -> bool:
    """Whether a script of the project can be named as it lies in the working folder: in one for everybody it may be another user's."""
    return Path(script).is_file() and not Path.cwd().stat().st_mode & stat.S_IWOTH


def resume_hint(run_dir: Path) -> str:
    """The command that resumes a run."""
    return launcher_hint(f"--run-dir {display_path(run_dir)}")


def task_hint(run_dir: Path, stage: str, iteration: int, *, slurm: bool = False) -> str:
    """The command that does the only task of a stage by hand: here, or as a job of its own."""
    if slurm and _lies_here(f"slurm/{stage}.sbatch"):
        return f"bash slurm/{stage}.sbatch {display_path(run_dir)} {iteration}"
    return (
        f"{program('python')} -P -m undo_hpc.worker {display_path(run_dir)} {stage} --iteration {iteration}"
    )


def display_path(path: Path) -> str:
    """A path relative to the current folder where it lies below it, in quotes where a shell needs them."""
    try:
        return shlex.quote(str(path.relative_to(Path.cwd())) or ".")
    except (ValueError, FileNotFoundError):
        return shlex.quote(str(path))
