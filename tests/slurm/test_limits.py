"""Runs of users who may have few jobs in the queue end as all others do (doepipeline#4, canu#1218, fractal#377, reframe#1595)."""

from collections.abc import Callable

from tests.slurm.conftest import STOCK, same_results
from tests.slurm.small import Campaign, limit_submissions
from tests.slurmlab import Lab

Make = Callable[..., Campaign]


def run_with(small: Campaign, lab: Lab, limit: int) -> str:
    limit_submissions(lab, limit)
    said = small.launch().stderr
    small.wait_ended()
    return said


def test_a_run_never_needs_more_places_than_the_user_has(
    start_lab: Callable[..., Lab], begun: Campaign, campaign: Make, undisturbed: dict[str, str]
) -> None:
    """Exactly one iteration, whose last job holds a place while it submits the next; then one stage and the next."""
    lab = start_lab(**STOCK, accounting="dbd")
    begun.config["iterations"] = 2
    assert "takes no more jobs" not in run_with(begun, lab, 6)
    same_results(begun, undisturbed)
    lab.wait_empty(60)
    small = campaign()
    assert "takes no more jobs" in run_with(small, lab, 3)
    same_results(small, undisturbed)
