"""The undisturbed run that the others are compared with; made once."""

from pathlib import Path

import pytest

from tests.e2e.campaign import Small


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A finished small campaign."""
    small = Small(tmp_path_factory.mktemp("undisturbed") / "run")
    done = small.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    (small.run_dir.parent / "output.txt").write_text(done.stdout)
    return small


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A campaign that has not begun."""
    return Small(tmp_path / "run")
