"""On SLURM the last job of an iteration starts what waited for it: arms that take it over, are matched to it, or learn from it."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from undo_hpc.campaign.state import CampaignDir
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import expect_fields, read_json, write_json

log = logging.getLogger(__name__)
_MAIN = "from undo_hpc.cli.run_campaign import main; raise SystemExit(main())"


def remember(run: Run, place: CampaignDir, file: Path, base: Path, sets: list[str], seed: int) -> None:
    """Writes into a run how its campaign is continued from its last job; the code that the job has holds no presets, hence `base`."""
    where = {"--dir": place.root, "--continue-seed": seed, "--base": base}
    command = [str(file.resolve()), "--quiet"]
    command += [str(word) for pair in where.items() for word in pair]
    command += [word for item in sets for word in ("--set", item)]
    write_json(run.layout.campaign, {"command": command, "folder": str(Path.cwd())})


def continue_campaign(run: Run) -> None:
    """Starts the runs under the same seed that waited for this one, and writes the page when all runs have ended.

    The command is a process of its own: the campaign's own, with the code of this job. What goes wrong is logged; this run is complete
    all the same, and the campaign's command, typed again, does the rest.
    """
    if not run.layout.campaign.exists() or run.layout.paused.exists():
        return
    asked = read_json(run.layout.campaign)
    with expect_fields(run.layout.campaign):
        command = [str(word) for word in [*asked["command"]]]
        folder = asked["folder"] if Path(asked["folder"]).is_dir() else None
        if not isinstance(asked["command"], list):
            raise TypeError("the command is no list")
    done = subprocess.run(
        [sys.executable, "-P", "-c", _MAIN, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=folder,
        check=False,
    )
    for line in done.stdout.splitlines():
        log.info("campaign: %s", line)
    if done.returncode:
        log.warning(
            "the campaign was not continued (exit code %d): run its command again by hand", done.returncode
        )
