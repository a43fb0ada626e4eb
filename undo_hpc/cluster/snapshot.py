"""A copy of the code beside the run: a job that waits for days runs what it was submitted with.

With its bytecode: where it is missing each job would write it, and Python (before 3.14) takes a write that a full disk cut short for a whole
one; each later job would end in `EOFError: marshal data too short`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import marshal
import os
import shutil
import sys
from pathlib import Path

from undo_hpc.storage.atomic import publish_dir, temporary_name, translate_os_error, write_bytes, write_text
from undo_hpc.storage.opening import read_bytes
from undo_hpc.system.data_files import project_root

log = logging.getLogger(__name__)
_BYTECODE = ".bytecode.sha256"  # beside the package: the digest of its bytecode


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
        found.update(f"{hashlib.sha256(read_bytes(path) or b'').hexdigest()}  ./{name}\n".encode())
    return found.hexdigest()[:12]


def take_snapshot(folder: Path) -> Path:
    """Copies the package into `folder`/DIGEST, once for each state of the code; returns that folder. A copy that was changed is made again,
    and bytecode that is damaged.

    Raises StorageError where the disk is full or the place cannot be written; nothing is left then.
    """
    package = project_root() / "undo_hpc"
    target = folder / code_digest(package)
    if target.is_dir():
        if code_digest(target / "undo_hpc") == target.name:
            if _bytecode_digest(target) != (read_bytes(target / _BYTECODE) or b"").decode("ascii", "replace"):
                for path in target.rglob("*.py"):
                    write_bytes(_cached(path), _compiled(path))
                write_text(target / _BYTECODE, _bytecode_digest(target))
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
                os.utime(copy, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
                if path.suffix == ".py":
                    _cached(copy).parent.mkdir(exist_ok=True)
                    _cached(copy).write_bytes(_bytecode(path) or _compiled(copy))
            (temporary / _BYTECODE).write_text(_bytecode_digest(temporary), encoding="utf-8")
        publish_dir(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _cached(path: Path) -> Path:
    """Where Python looks for the bytecode of a module."""
    return Path(importlib.util.cache_from_source(str(path)))


def _header(path: Path) -> bytes:
    """What bytecode begins with: Python's version, no flags, time and size of its source (PEP 552)."""
    found = path.stat()
    numbers = (0, int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
    return importlib.util.MAGIC_NUMBER + b"".join(number.to_bytes(4, "little") for number in numbers)


def _bytecode(path: Path) -> bytes | None:
    """The bytecode that this process would run for a module of ours; None where there is none, or it is another source's or damaged."""
    try:
        data = read_bytes(_cached(path)) or b""
        if data[:16] == _header(path):
            marshal.loads(data[16:])  # noqa: S302 (of the checkout, whose code is running)
            return data
    except (OSError, EOFError, ValueError, TypeError):
        pass
    return None


def _bytecode_digest(copy: Path) -> str:
    """Digest of the bytecode in a copy, as far as this Python reads it."""
    found = hashlib.sha256()
    for path in sorted(copy.rglob(f"*.{sys.implementation.cache_tag}.pyc")):
        found.update(
            f"{path.relative_to(copy)} {hashlib.sha256(read_bytes(path) or b'').hexdigest()}\n".encode()
        )
    return found.hexdigest()


def _compiled(path: Path) -> bytes:
    return _header(path) + marshal.dumps(compile(path.read_bytes(), str(path), "exec", dont_inherit=True))
