"""A copy of the code beside the run: a job that waits for days runs what it was submitted with."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

from undo_hpc.storage.atomic import publish_dir, temporary_name, translate_os_error
from undo_hpc.system.data_files import project_root

log = logging.getLogger(__name__)


def code_files(package: Path) -> list[Path]:
    """All files of the package, in the order of their names' bytes."""
    found = (
        p
        for p in package.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and not p.name.startswith(".")
    )
    return sorted(found, key=lambda p: p.relative_to(package).as_posix().encode())


def code_digest(package: Path) -> str:
    """Digest of all files of the package: names and contents, 12 hexadecimal digits.

    It is that of the lines of `sha256sum`, so that a job can compare it before it runs any of the code (slurm/prelude.sh).
    """
    found = hashlib.sha256()
    for path in code_files(package):
        name = path.relative_to(package).as_posix()
        found.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{name}\n".encode())
    return found.hexdigest()[:12]


def take_snapshot(folder: Path) -> Path:
    """Copies the package into `folder`/DIGEST, once for each state of the code; returns that folder. A copy that was changed is made again.

    Raises StorageError where the disk is full or the place cannot be written; nothing is left then.
    """
    package = project_root() / "undo_hpc"
    target = folder / code_digest(package)
    if target.is_dir():
        if code_digest(target / "undo_hpc") == target.name:
            return target
        log.warning("the copy of the code in %s was changed; it is made again", target)
        shutil.rmtree(target)
    temporary = temporary_name(target)
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
