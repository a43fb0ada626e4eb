"""Runs to look at: a finished one, and copies of it that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.observe.synthetic import RunBuilder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three whole iterations; read only."""
    root = tmp_path_factory.mktemp("observe") / "run"
    RunBuilder(root, problems=60).play(3)
    return root


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
