"""The undisturbed run that the others are compared with, and a campaign that has not begun."""

from pathlib import Path

import pytest

from tests.e2e.campaign import Small


@pytest.fixture(scope="session")
def undisturbed(tiny_run: Small) -> Small:
    """A finished small campaign."""
    return tiny_run


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A campaign that has not begun."""
    return Small(tmp_path / "run")
