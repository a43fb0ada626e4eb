"""Fixtures of the checker's tests: one warm pool for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from undo_hpc.grading import Checker


@pytest.fixture(scope="session")
def checker() -> Iterator[Checker]:
    """A pool of one worker with a generous deadline (the machine may be busy)."""
    with Checker(workers=1, deadline_s=30.0) as pool:
        yield pool
