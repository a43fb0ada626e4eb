"""Where the project's code lies, and the files that come beside its package: presets, profiles, sbatch templates."""

from __future__ import annotations

import sysconfig
from pathlib import Path


def project_root() -> Path:
    """The folder that holds the package as it is imported now."""
    return Path(__file__).resolve().parents[2]


def data_file(folder: str) -> Path:
    """`launchers/configs` or `slurm/profiles`: of the checkout, or what a wheel put under the environment's `share/undo-hpc`."""
    beside = project_root() / folder
    return beside if beside.is_dir() else Path(sysconfig.get_path("data")) / "share" / "undo-hpc" / folder
