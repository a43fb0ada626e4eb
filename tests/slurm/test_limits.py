"""Runs of users who may have few jobs in the queue end as all others do (doepipeline#4, canu#1218, fractal#377, reframe#1595)."""

from collections.abc import Callable

import pytest

from tests.slurm.conftest import STOCK, same_results
from tests.slurm.small import Campaign, limit_submissions
from tests.slurmlab import Lab

Make = Callable[..., Campaign]


@pytest.mark.parametrize(
    ("limit", "iterations"), [(6, 2), (3, 1)], ids=["exactly_one_iteration", "one_stage_and_the_next"]
)
def test_a_run_never_needs_more_places_than_the_user_has(
    start_lab: Callable[..., Lab], campaign: Make, undisturbed: dict[str, str], limit: int, iterations: int
) -> None:
    lab = start_lab(**STOCK, accounting="dbd")
    limit_submissions(lab, limit)
    small = campaign(iterations=iterations)
    done = small.launch()
    assert ("takes no more jobs" in done.stderr) == (limit == 3)
    small.wait_ended()
    same_results(small, undisturbed)
