"""Fixtures of a real cluster. A cluster starts in half a second, so a test that hurts one takes its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.slurmlab.lab import Lab, missing_programs
from tests.slurmlab.settings import LabSettings


def require_slurm(settings: LabSettings | None = None) -> None:
    """Skips where SLURM is not installed; fails instead where UNDO_REQUIRE_SLURM=1 or UNDO_REQUIRE_REAL=1 insist on it."""
    lacking = missing_programs(settings)
    if not lacking:
        return
    reason = f"no SLURM here: {', '.join(lacking)} not installed (Debian: apt-get install slurm-wlm munge)"
    if "1" in (os.environ.get("UNDO_REQUIRE_SLURM"), os.environ.get("UNDO_REQUIRE_REAL")):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Lab]:
    """A healthy cluster of four nodes, shared by all tests that do not hurt it."""
    require_slurm()
    with Lab() as lab:
        yield lab


@pytest.fixture
def start_lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Lab]]:
    """Starts clusters of a test's own: `start_lab(max_array=11)`; this process then talks to the last one started."""
    labs: list[Lab] = []

    def start(**changes: object) -> Lab:
        settings = LabSettings(**changes)  # type: ignore[arg-type]
        require_slurm(settings)
        lab = Lab(settings).start()
        labs.append(lab)
        point_at(lab, monkeypatch)
        return lab

    yield start
    for lab in labs:
        lab.stop()


@pytest.fixture
def lab(slurm_cluster: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The shared cluster with this process pointed at it, and an empty queue afterwards."""
    point_at(slurm_cluster, monkeypatch)
    yield slurm_cluster
    slurm_cluster.clear()


def point_at(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes SLURM's commands in this process and its children talk to the laboratory."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "SBATCH_", "SRUN_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", str(lab.slurm_conf))
    monkeypatch.setenv("PATH", lab.env()["PATH"])
