"""A copy of the code beside the run: a job that waits for days runs what it was submitted with.

With its bytecode: where it is missing each job would write it, and Python (before 3.14) takes a write that a full disk cut short for a whole
one; each later job would end in `EOFError: marshal data too short`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import marshal
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from undo_hpc.storage.atomic import publish_dir, temporary_name, translate_os_error, write_bytes
from undo_hpc.storage.opening import read_bytes
from undo_hpc.system.data_files import project_root
from undo_hpc.system.ownership import EVERYBODY, is_trusted

log = logging.getLogger(__name__)


def code_files(package: Path) -> list[Path]:
    """All files of the package, in the order of their names' bytes."""
    found = (
        p
        for p in package.rglob("*")
        if p.is_file() and "__pycache__" not in p.relative_to(package).parts and not p.name.startswith(".")
    )
    return sorted(found, key=lambda p: p.relative_to(package).as_posix().encode())


def code_digest(package: Path) -> str:
    """Digest of all files of the package: names and contents, 12 hexadecimal digits.

    It is that of the lines of `sha256sum`, so that a job can compare it before it runs any of the code (slurm/prelude.sh).
    """
    return _sum_of(package)[:12]


def _sum_of(package: Path) -> str:
    found = hashlib.sha256()
    for path in code_files(package):
        name = path.relative_to(package).as_posix()
        found.update(f"{hashlib.sha256(read_bytes(path) or b'').hexdigest()}  ./{name}\n".encode())
    return found.hexdigest()


def take_snapshot(folder: Path) -> Path:
    """Copies the package into `folder`/DIGEST, once for each state of the code; returns that folder. A copy that was changed, or that holds
    more than the package, is made again, and bytecode that is not this checkout's; that of other Pythons is removed. A run directory may be
    another user's gift.

    Raises StorageError where the disk is full or the place cannot be written; nothing is left then.
    """
    package = project_root() / "undo_hpc"
    whole_sum = _sum_of(package)
    target = folder / whole_sum[:12]
    for place, whole in ((folder, _is_folder), (target, partial(_is_whole, whole_sum=whole_sum))):
        if os.path.lexists(place) and not whole(place):
            log.warning("the copy of the code in %s was changed; it is made again", place)
            with translate_os_error(place):
                shutil.rmtree(place) if _is_folder(place) else place.unlink()
    if folder.is_dir() and _is_for_everybody(folder):
        with translate_os_error(folder):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~stat.S_IWOTH)
    if target.is_dir():
        wanted = {_cached(copy): (path, copy) for path, copy in _modules(package, target)}
        for cached, (path, copy) in wanted.items():
            if read_bytes(cached) != (ours := _bytecode(path, copy)):
                write_bytes(cached, ours)
        with translate_os_error(target):
            for found in target.rglob("__pycache__/[!.]*"):
                if found not in wanted:
                    found.unlink(missing_ok=True)
        return target
    temporary = temporary_name(target)
    try:
        with translate_os_error(target):
            for path in code_files(package):
                copy = temporary / path.relative_to(package.parent)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
                os.utime(copy, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
            for path, copy in _modules(package, temporary):
                _cached(copy).parent.mkdir(exist_ok=True)
                _cached(copy).write_bytes(_bytecode(path, copy))
            publish_dir(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _is_folder(place: Path) -> bool:
    """Whether a place is a folder itself: what lies behind a link can be changed when it has been looked at."""
    return stat.S_ISDIR(place.lstat().st_mode)


def _is_whole(target: Path, whole_sum: str) -> bool:
    """Whether a copy is that of the package, and holds nothing but files and folders that not everybody can write: a link to a folder, or a
    folder that cannot be listed, may hold a module that goes before one of ours, and bytecode is written where a link leads."""
    try:
        if not _is_folder(target) or [at.name for at in target.iterdir() if at.name[0] != "."] != [
            "undo_hpc"
        ]:
            return False
        for root, folders, files in os.walk(target, onerror=_raise):
            for at in (Path(root, name) for name in (".", *folders, *files)):
                folder = _is_folder(at)
                if (
                    not (folder or stat.S_ISREG(at.lstat().st_mode))
                    or (folder and at.parent.name == "__pycache__")
                    or _is_for_everybody(at)
                ):
                    return False
        return _sum_of(target / "undo_hpc") == whole_sum  # of which the name is a part
    except OSError:
        return False


def _is_for_everybody(place: Path) -> bool:
    return bool(place.lstat().st_mode & stat.S_IWOTH) and not is_trusted(EVERYBODY)


def _raise(error: OSError) -> None:
    raise error


def _modules(package: Path, copy: Path) -> Iterator[tuple[Path, Path]]:
    """Each module and its copy."""
    for path in code_files(package):
        if path.suffix == ".py":
            yield path, copy / path.relative_to(package.parent)


def _cached(path: Path) -> Path:
    """Where jobs look for the bytecode of a module: beside it, though PYTHONPYCACHEPREFIX or -O may say otherwise of this process."""
    return path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"


def _header(path: Path) -> bytes:
    """What bytecode begins with: Python's version, no flags, time and size of its source (PEP 552)."""
    found = path.stat()
    numbers = (0, int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
    return importlib.util.MAGIC_NUMBER + b"".join(number.to_bytes(4, "little") for number in numbers)


def _bytecode(path: Path, copy: Path) -> bytes:
    """The bytecode of a module's copy: that which this process runs itself; compiled where there is none, or it is another source's or damaged."""
    with contextlib.suppress(OSError, EOFError, ValueError, TypeError):
        data = read_bytes(Path(importlib.util.cache_from_source(str(path)))) or b""
        if data[:16] == _header(path):
            marshal.loads(data[16:])  # noqa: S302 (of the checkout, whose code is running)
            return _header(copy) + data[16:]
    return _header(copy) + marshal.dumps(compile(path.read_bytes(), str(copy), "exec", dont_inherit=True))
