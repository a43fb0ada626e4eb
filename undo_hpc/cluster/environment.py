"""The packages of the environment in one archive, which each node unpacks once on its own disk (`stage_to` in the profile).

A task that imports torch from a shared file system opens some thousand files there; a thousand tasks at once are a storm. Of an archive a node
opens one, and reads it from beginning to end. Python itself and its standard library stay where they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from undo_hpc.errors import ClusterError
from undo_hpc.storage.atomic import make_folder, temporary_name, translate_os_error
from undo_hpc.storage.hashing import HashingFile
from undo_hpc.system.own_places import place_at_home

log = logging.getLogger(__name__)
_WHERE = """
import json, sys, sysconfig
folders = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})
json.dump([folders, sorted(sys.stdlib_module_names)], sys.stdout)
"""


def pack_environment(folder: Path, python: str = "") -> Path:
    """Writes the packages that a Python has installed into `folder`/environment-DIGEST.tar, once for each state of them; returns that file.

    DIGEST is the archive's SHA-256, which nodes compare. A run directory may be another user's gift, so an archive that lies there is taken
    where a note in this user's home says that it was packed from these packages; else it is packed again. Names of the standard library are
    left out: on PYTHONPATH they would hide it.

    Args:
        python: the Python of the jobs; empty takes this one.

    Raises:
        ClusterError: the Python cannot be asked.
        StorageError: the disk is full or the place cannot be written; nothing is left then.
    """
    try:
        said = subprocess.run(
            [python or sys.executable, "-I", "-c", _WHERE], capture_output=True, text=True, check=True
        )
        folders, standard = json.loads(said.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise ClusterError(
            f"{python or sys.executable} cannot be asked for its packages: {error}",
            hint="correct `python` in the profile, or leave `stage_to` out",
        ) from None
    files = _files(map(Path, folders), set(standard))
    listing = "".join(f"{name}\0{size}\0{changed}\n" for name, (_, size, changed) in files.items())
    state = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
    home = place_at_home()
    notes = home / "environments" / state[:32] if home else None
    for target in sorted(folder.glob("environment-*.tar")):
        if notes and target.is_file() and (notes / target.stem).is_file():
            return target
    total = sum(size for _, size, _ in files.values())
    log.info(
        "packing the environment for the nodes: %d files, %.1f GB, into %s", len(files), total / 1e9, folder
    )
    temporary = temporary_name(folder / "environment.tar")
    with translate_os_error(folder):
        make_folder(folder)
        try:
            with (
                HashingFile(temporary) as sink,
                tarfile.open(fileobj=sink, mode="w|", format=tarfile.GNU_FORMAT) as archive,
            ):
                for name, (path, _, _) in files.items():
                    archive.add(path, name, recursive=False)
                archive.close()
                digest = sink.sync()
            target = temporary.replace(folder / f"environment-{digest}.tar")
        finally:
            temporary.unlink(missing_ok=True)
    if notes:
        with contextlib.suppress(OSError):  # without one it is packed again
            notes.mkdir(0o700, parents=True, exist_ok=True)
            (notes / target.stem).touch()
    return target


def _files(folders: map[Path], standard: set[str]) -> dict[str, tuple[Path, int, int]]:
    """By its name in the archive: a file or link, its size, and when it was changed (ns). The first folder's win."""
    found: dict[str, tuple[Path, int, int]] = {}
    for folder in folders:
        for root, names, files in os.walk(folder):
            at = Path(root).relative_to(folder)
            if not at.parts:
                names[:] = [name for name in names if name not in standard]
                files = [
                    name
                    for name in files
                    if name.partition(".")[0] not in standard and not name.endswith(".pth")
                ]
            names.sort()
            links = [name for name in names if (Path(root) / name).is_symlink()]
            for name in sorted([*files, *links]):
                path = Path(root) / name
                held = path.lstat()
                found.setdefault((at / name).as_posix(), (path, held.st_size, held.st_mtime_ns))
    return found
