"""A copy of the code beside the run: a job that waits for days runs what it was submitted with."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from undo_hpc.storage.atomic import publish_dir, translate_os_error
from undo_hpc.system.data_files import project_root


def code_files(package: Path) -> list[Path]:
    """All files of the package, in order."""
    return sorted(
        p
        for p in package.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and not p.name.startswith(".")
    )


def code_digest(package: Path) -> str:
    """Digest of all files of the package: names and contents, 12 hexadecimal digits."""
    found = hashlib.sha256()
    for path in code_files(package):
        found.update(path.relative_to(package).as_posix().encode() + b"\0")
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:12]


def take_snapshot(folder: Path) -> Path:
    """Copies the package into `folder`/DIGEST, once for each state of the code; returns that folder.

    Raises StorageError where the disk is full or the place cannot be written; nothing is left then.
    """
    package = project_root() / "undo_hpc"
    target = folder / code_digest(package)
    if target.is_dir():
        return target
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with translate_os_error(target):
            for path in code_files(package):
                copy = temporary / path.relative_to(package.parent)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        publish_dir(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
