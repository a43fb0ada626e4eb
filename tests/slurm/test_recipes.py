"""The recipe of a stage, followed word for word on a real cluster: partition, minutes, memory, policy; nothing of the package is edited."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields

import yaml

from tests.docs.pages import follow_recipes, recipe
from tests.slurm.small import Campaign
from tests.slurmlab import Lab
from tests.slurmlab.settings import LabSettings
from undo_hpc.config.fields import merged
from undo_hpc.storage.manifest import read_manifest

PARTITIONS = next(field.default for field in fields(LabSettings) if field.name == "partitions")


def test_a_stage_of_ones_own_on_the_cluster(
    start_lab: Callable[..., Lab], campaign: Callable[..., Campaign]
) -> None:
    start_lab(cred_expire=120, partitions=(*PARTITIONS, "PartitionName=cpu PriorityTier=1 PreemptMode=OFF"))
    small = campaign(iterations=2, train__epochs=1)
    small.config = merged(small.config, follow_recipes(small.folder, "engine", "checker", "stage"))
    small.profile = merged(small.profile, yaml.safe_load(recipe("profile stage")))
    small.launch()
    asked = subprocess.run(
        ["squeue", "-h", "-o", "%j|%P|%l|%m|%E"], capture_output=True, text=True, check=True
    ).stdout
    own = [line.split("|") for line in asked.splitlines() if line.startswith("count-i0-")]
    assert own and {(line[1], line[2], line[3]) for line in own} == {("cpu", "10:00", "1G")}
    assert all("afterok" in line[4] for line in own), "it waits for merge"
    small.wait_ended()
    for iteration in (0, 1):
        at = small.run_dir / f"iter_{iteration:03d}"
        assert json.loads((at / "plan.json").read_text())["policy"]["count"] == {
            "kind": "quorum",
            "value": 1.0,
        }
        done = [read_manifest(at / "count" / f"task-{k:05d}.manifest.json") for k in (0, 1)]
        assert all(manifest is not None and "merge" in manifest.inputs for manifest in done)
    status = subprocess.run(
        [sys.executable, "-m", "undo_hpc.cli", "status", str(small.run_dir)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "count" in status.stdout


def test_a_failing_stage_of_ones_own_stops_the_run_and_says_so(
    start_lab: Callable[..., Lab], campaign: Callable[..., Campaign]
) -> None:
    """Its tasks are submitted again as those of every stage, then the run stops; nothing else was lost."""
    lab = start_lab(cred_expire=120)
    small = campaign(train__epochs=1, cluster__max_resubmits=1)
    small.config = merged(small.config, follow_recipes(small.folder, "engine"))
    (small.folder / "my_pkg" / "broken.py").write_text(
        "def run_stage(ctx):\n    raise RuntimeError('no luck')\n"
    )
    small.config["stages"] = {"broken": {"module": "my_pkg.broken"}}
    small.launch()
    lab.wait_empty(300)
    starts = [event for event in small.events("broken") if event["kind"] == "start"]
    assert len(starts) == 2, f"once, and once again\n{small.logs()}"
    assert (small.run_dir / "iter_000" / "train.manifest.json").exists()
    assert "no luck" in small.logs()
    (small.folder / "my_pkg" / "broken.py").write_text("from my_pkg.count import run_stage\n")
    again = small.launch()
    assert "submitted broken" in again.stdout and "submitted train" not in again.stdout
    small.wait_ended()
