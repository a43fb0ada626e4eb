"""Two clusters under one accounting database: jobs go where the profile, or SLURM_CLUSTERS, says, and are looked for there
(parsl#3675, nf-core/configs#676)."""

from collections.abc import Iterator

import pytest

from tests.slurm.conftest import same_results
from tests.slurm.small import Campaign
from tests.slurm.test_sites import journal
from tests.slurmlab import Lab, LabSettings
from tests.slurmlab.fixtures import point_at, require_slurm
from tests.slurmlab.processes import wait_until
from undo_hpc.cli.__main__ import main
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import open_run


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Lab, Lab]]:
    """(the default cluster, another one of the same site)."""
    settings = LabSettings(accounting="dbd", name="first")
    require_slurm(settings)
    with Lab(settings) as first:
        shared = (first.places.root, first.ports[1])
        with Lab(LabSettings(accounting="shared", name="second", shared=shared)) as second:
            wait_until(
                lambda: "second" in first.run("squeue", "-M", "second", check=False), 60, "the second cluster"
            )
            yield first, second


@pytest.fixture
def both(site: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch) -> tuple[Lab, Lab]:
    """Both clusters, without jobs; this process talks to the first."""
    first, second = site
    point_at(first, monkeypatch)
    for lab in site:
        lab.clear()
        lab.run("scontrol", "update", "PartitionName=low", "State=UP")
    return first, second


def test_a_run_on_another_cluster(
    both: tuple[Lab, Lab],
    begun: Campaign,
    undisturbed: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = both
    begun.profile["cluster"] = "nowhere"
    done = begun.launch(check=False)
    assert done.returncode == 1 and "no cluster of that name" in done.stderr, done.stderr
    assert not first.jobs() and not second.jobs()

    del begun.profile["cluster"]
    second.run("scontrol", "update", "PartitionName=low", "State=DOWN")  # nothing ends between two looks
    monkeypatch.setenv("SLURM_CLUSTERS", "second")  # as `module swap cluster/second` does
    begun.launch()
    assert len(second.jobs()) == 3 and not first.jobs()
    monkeypatch.delenv("SLURM_CLUSTERS")
    assert collect_status(open_run(begun.run_dir)).jobs == 3
    assert "nothing to submit" in begun.launch().stdout, "a run stays on its cluster"
    begun.profile["cluster"] = "first"
    done = begun.launch(check=False)
    assert done.returncode == 1 and "are on second, and first is asked for" in done.stderr, done.stderr
    assert not first.jobs()

    begun.profile["cluster"] = "second"
    assert main(["cancel", str(begun.run_dir)]) == 0
    second.wait_empty(60)
    second.run("scontrol", "update", "PartitionName=low", "State=UP")
    begun.launch()
    wait_until(lambda: begun.ended, 900, "the run to end", every=0.5)
    same_results(begun, undisturbed)
    assert not first.jobs() and {e["event"] for e in journal(begun)} == {"intent", "submitted"}


@pytest.mark.parametrize("names", ["first,second", "all"])
def test_several_clusters_at_once_are_refused(
    both: tuple[Lab, Lab], begun: Campaign, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", names)
    done = begun.launch(check=False)
    assert done.returncode == 2 and "a run is on one cluster" in done.stderr, done.stderr


def test_in_a_federation_a_run_stays_where_it_is_launched(
    both: tuple[Lab, Lab], begun: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of a federation may start on any cluster of it; here the other one alone is free. (The last test: they stay one.)"""
    first, second = both
    first.run("sacctmgr", "-i", "add", "federation", "both", "clusters=first,second")
    wait_until(
        lambda: all("Federation: both" in lab.run("scontrol", "show", "federation") for lab in both),
        60,
        "the federation",
    )
    first.run("scontrol", "update", "PartitionName=low", "State=DOWN")
    begun.launch()
    assert len(first.jobs()) == 3 and not second.jobs()
    assert "nothing to submit" in begun.launch().stdout
    assert main(["cancel", str(begun.run_dir)]) == 0
    first.wait_empty(60)
