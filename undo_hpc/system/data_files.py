"""Where the project's code lies, the files that come beside its package (presets, profiles, sbatch templates), and paths as users write them."""

from __future__ import annotations

import json
import os
import sysconfig
from pathlib import Path
from typing import Any

from undo_hpc.errors import DataError


def project_root() -> Path:
    """The folder that holds the package as it is imported now."""
    return Path(__file__).resolve().parents[2]


def data_file(folder: str) -> Path:
    """`launchers/configs` or `slurm/profiles`: of the checkout, or what a wheel put under the environment's `share/undo-hpc`."""
    beside = project_root() / folder
    return beside if beside.is_dir() else Path(sysconfig.get_path("data")) / "share" / "undo-hpc" / folder


def expanded(path: str | Path) -> Path:
    """A path with `~` and `~user` written out. Unlike `Path.expanduser` it takes a user that does not exist, or a user without a home
    (a container, a number without a name), for a plain name: that no such file exists is then told where it is looked for."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 -- see above


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that others wrote, such as a model's. Raises DataError that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", hint="check the path, or copy the file there") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not valid JSON: {error}", hint="copy or download the file again"
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object", hint="copy or download the file again")
    return value
