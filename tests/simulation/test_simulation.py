"""Whole runs in virtual time; `make simulate SEEDS=1000` for more. A seed that once found a fault stays here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import figures
from tests.simulation.campaign import make_template, simulate
from undo_hpc.pipeline.run import git_revision
from undo_hpc.storage.lease import Lease

SEEDS = (*range(40), 1119, 1142, 1148)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared run."""
    return make_template(tmp_path_factory.mktemp("simulation") / "template")


@pytest.mark.parametrize("login", [False, True])
def test_an_undisturbed_run_needs_one_launch(template: Path, login: bool) -> None:
    outcome = simulate(1, template, faults=False, login=login)
    assert outcome.ended and not outcome.violations and outcome.needed == 0


def test_the_same_seed_is_the_same_run(template: Path) -> None:
    one, other = (simulate(3, template) for _ in range(2))
    assert one == other


def test_a_lease_that_excludes_nobody_is_found(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The invariants can fail: without what keeps two starts of a task apart, a few seeds show it."""
    monkeypatch.setattr(Lease, "_is_dead", lambda *_: True)
    assert any(simulate(seed, template).violations for seed in range(24))


@pytest.mark.parametrize("block", range(4))
def test_no_invariant_breaks(template: Path, block: int) -> None:
    for seed in SEEDS[block::4]:
        outcome = simulate(seed, template)
        figures.count(
            "simulation",
            runs=1,
            events=outcome.events,
            faults=outcome.faults.total(),
            broken=len(outcome.violations),
        )
        words = f"seed {seed}, commit {git_revision()}, faults {dict(outcome.faults)}: {outcome.violations}"
        assert outcome.ended and not outcome.violations, words
