"""Where the files lie that come with the project beside its package: presets, profiles, sbatch templates."""

from __future__ import annotations

import sysconfig
from pathlib import Path


def shipped(folder: str) -> Path:
    """`launchers/configs` or `slurm/profiles`: of the checkout, or what a wheel put under the environment's `share/undo-hpc`."""
    beside = Path(__file__).resolve().parents[1] / folder
    return beside if beside.is_dir() else Path(sysconfig.get_path("data")) / "share" / "undo-hpc" / folder
