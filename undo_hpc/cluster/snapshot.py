"""A copy of the code beside the run: a job that waits for days runs what it was submitted with."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from undo_hpc.storage.atomic import publish_dir

_SKIP = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def project_root() -> Path:
    """The folder that holds the package as it is imported now."""
    return Path(__file__).resolve().parents[2]


def code_digest(package: Path) -> str:
    """Digest of all files of the package: names and contents, 12 hexadecimal digits."""
    found = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
            found.update(path.relative_to(package).as_posix().encode() + b"\0")
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:12]


def take_snapshot(folder: Path) -> Path:
    """Copies the package into `folder`/DIGEST, once for each state of the code; returns that folder."""
    package = project_root() / "undo_hpc"
    target = folder / code_digest(package)
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(package, temporary / "undo_hpc", ignore=_SKIP)
    publish_dir(temporary, target)
    return target
