"""Everything here runs on a real SLURM."""

import pytest

from tests.slurmlab.fixtures import lab, slurm_cluster, start_lab

__all__ = ["lab", "slurm_cluster", "start_lab"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks all tests of this folder, so that `make test-slurm` finds them."""
    for item in items:
        if "tests/slurm/" in str(item.path):
            item.add_marker(pytest.mark.slurm)
