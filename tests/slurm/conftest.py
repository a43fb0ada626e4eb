"""Everything here runs on a real SLURM. One undisturbed run a session is what all others are compared with."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.small import Campaign, continued, make_campaign
from tests.slurmlab.fixtures import lab, require_slurm, slurm_cluster, start_lab

__all__ = ["lab", "slurm_cluster", "start_lab"]

# A stock cluster holds a requeued job back for two minutes; here too, so that a restart within seconds is our doing.
STOCK = {"cred_expire": 120}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks all tests of this folder, so that `make test-slurm` finds them; a whole campaign on a busy machine takes minutes."""
    for item in items:
        if "tests/slurm/" in str(item.path):
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def undisturbed_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a campaign that nothing happened to: two iterations on this machine, made once for all processes of the tests."""
    require_slurm()
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # then each process has its own below one of all
        root = root.parent
    with (root / "undisturbed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        campaign = make_campaign(root / "undisturbed", iterations=2)
        if not campaign.ended:
            campaign.run_locally()
    return campaign.folder


@pytest.fixture(scope="session")
def undisturbed(undisturbed_dir: Path) -> dict[str, str]:
    """Digests of the results of that run."""
    return make_campaign(undisturbed_dir).results()


@pytest.fixture
def begun(undisturbed_dir: Path, tmp_path: Path) -> Campaign:
    """A campaign whose first merge is complete, made on this machine: the cluster goes on with the training."""
    return continued(undisturbed_dir, tmp_path / "begun")


@pytest.fixture
def campaign(tmp_path: Path) -> Callable[..., Campaign]:
    """Makes a campaign: `campaign(iterations=2, train__epochs=3)`."""

    def make(**changes: Any) -> Campaign:
        return make_campaign(tmp_path / "campaign", **changes)

    return make


def same_results(campaign: Campaign, undisturbed: dict[str, str]) -> None:
    """The distilled sets, weights, shards and feedback are, byte for byte, those of the undisturbed run."""
    mine = campaign.results()
    wanted = {
        name: digest for name, digest in undisturbed.items() if int(name[5:8]) < campaign.config["iterations"]
    }
    assert len(wanted) >= 4
    assert mine == wanted
