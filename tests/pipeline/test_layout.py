"""Paths of a run directory are joined in one file."""

import re
from pathlib import Path

import pytest

import undo_hpc

ROOT = Path(undo_hpc.__file__).parent
ROOMS = ("pipeline", "stages", "control", "hub", "cli")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if path.name != "layout.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_code_but_the_layout_joins_the_names_of_a_run_directory(path: Path) -> None:
    joined = re.findall(r"(?<!_HERE)(?<=[\w)\]]) / f?\"[^\"]*\"|glob\(f?\"iter_[^\"]*\"", path.read_text())
    assert not joined, "add a property to pipeline/layout.py"
