"""Learning from scores on a cluster: the stages sample and score through requeues, with the bytes of a run on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.slurm.conftest import STOCK, same_results
from tests.slurm.small import Campaign, make_campaign
from tests.slurmlab import Lab

ON_POLICY: dict[str, Any] = {
    "iterations": 2,
    "generate__shards": 1,
    "method": {"preset": "undo_on_policy", "wrong_rationales": "keep"},
    "distill": {"shards": 2, "gate": "warn"},
}


def requeue_at_start(lab: Lab, small: Campaign, stage: str) -> None:
    """Requeues each job of a stage as soon as it has begun; where it is done by then, nothing is lost by that either."""
    deadline = time.monotonic() + 600
    while not (started := [e for e in small.events(stage, 1) if e["kind"] == "start"]):
        assert time.monotonic() < deadline, small.logs()
        time.sleep(0.2)
    lab.run("scontrol", "requeue", started[0]["job"], check=False)


def test_own_answers_are_sampled_and_scored_on_the_cluster(
    start_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    alone = make_campaign(tmp_path / "alone", **ON_POLICY)
    alone.run_locally()
    wanted = alone.results()
    assert any("/score/" in name for name in wanted) and any("/sample/" in name for name in wanted)
    lab = start_lab(**STOCK)
    small = make_campaign(tmp_path / "cluster", **ON_POLICY)
    small.launch()
    for stage in ("sample", "score"):
        requeue_at_start(lab, small, stage)
    small.wait_ended()
    same_results(small, wanted)
