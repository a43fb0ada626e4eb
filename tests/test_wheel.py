"""A wheel, for those who install without a checkout: it holds all that the commands need."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def test_installed_from_a_wheel_presets_and_tiny_models_are_there(tmp_path: Path) -> None:
    if int(_version("setuptools").split(".")[0]) < 71 and importlib.util.find_spec("wheel") is None:
        pytest.skip("a wheel needs setuptools 71 or newer, or the package wheel")
    source = tmp_path / "source"
    for name in ("undo_hpc", "launchers", "slurm"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    # As pip lays it out: the package in site-packages, the rest under the environment's prefix.
    prefix = tmp_path / "prefix"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "unpacked")
    (data,) = (tmp_path / "unpacked").glob("*.data/data")
    shutil.move(data, prefix)
    program = (
        "import sys, sysconfig; sysconfig.get_path = lambda name: sys.argv[1]\n"
        f"sys.path.insert(0, {str(tmp_path / 'unpacked')!r})\n"
        "from undo_hpc.cli import main; import undo_hpc; print(undo_hpc.__file__, file=sys.stderr)\n"
        "sys.exit(main(['run', '--config', 'tiny', '--dry-run']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(prefix)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert str(tmp_path / "unpacked") in done.stderr
    assert done.returncode == 0, done.stderr
    assert "train: 1 task" in done.stdout
    assert (prefix / "share/undo-hpc/slurm/profiles/example.yaml").is_file()
