"""The finished run that the tests of views share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.observe.conftest import finished
from tests.observe.synthetic import RunBuilder

__all__ = ["finished"]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bad") / "run"
    return RunBuilder(root, problems=8, sets=["display.report=false"]).play(1).layout.root


@pytest.fixture
def run_dir(played: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(played, tmp_path / "run"))
