"""A run directory on a disk that fills up: a clear message, nothing lost, and with more room the same command goes on."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.campaign import Small

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB in memory; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k,mode=755", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path, undisturbed: Small) -> None:
    small = Small(small_disk / "run")
    full = small.launch()
    assert full.returncode == 3, full.stdout + full.stderr
    assert "is full" in full.stderr
    assert "Traceback" not in full.stderr
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    done = small.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    assert small.results() == undisturbed.results()
