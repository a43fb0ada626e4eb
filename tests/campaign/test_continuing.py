"""What the last job of a run does for its campaign, and which runs wait for which."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tests.campaign.build import campaign_file, played
from tests.campaign.test_shared import fresh
from undo_hpc.campaign.continuing import continue_campaign, remember
from undo_hpc.campaign.definition import base_file, load_campaign
from undo_hpc.campaign.shared import awaited, take_over
from undo_hpc.campaign.state import CampaignDir, begin
from undo_hpc.control.planning import current_state
from undo_hpc.storage.atomic import read_json


def test_a_job_continues_its_seed_of_the_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As the last job of `undo` does: the real command, which finds that `blind` is done already, and `undo`, seed 1, is not its own."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    place, file = CampaignDir(tmp_path / "camp"), campaign_file(tmp_path)
    begin(load_campaign(file), place)
    runs = [
        played(place.run(arm, 0), f"method.preset={arm}", "stop.enabled=false") for arm in ("undo", "blind")
    ]
    caplog.clear()
    continue_campaign(runs[0])
    assert not caplog.records, "a run of its own has no campaign"
    remember(runs[0], place, Path(file.name), base_file(file, "tiny"), ["generate.shards=1"], 0)
    monkeypatch.setattr("undo_hpc.config.load.PRESETS", tmp_path)  # as in a job's copy of the code
    command = read_json(runs[0].layout.campaign)["command"]
    assert command[0] == str(file) and command[command.index("--base") + 1].endswith("configs/tiny.yaml")
    assert (
        load_campaign(file, [], Path(command[command.index("--base") + 1])).arm("undo").name == "mine-undo-0"
    )
    assert command[-2:] == ["--set", "generate.shards=1"]
    continue_campaign(runs[0])
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING], caplog.text
    assert not place.run("undo", 1).exists() and not place.page.exists(), "seed 1 is left to its own jobs"
    caplog.clear()
    file.write_text(file.read_text().replace("[0, 1]", "[0, 2]"))
    continue_campaign(runs[0])
    assert "was begun with another file" in caplog.text and "run its command again by hand" in caplog.text
    caplog.clear()
    runs[0].layout.paused.touch()
    continue_campaign(runs[0])
    assert not caplog.records and os.getcwd() == str(tmp_path)


def test_a_run_waits_for_the_one_that_does_its_work_and_for_no_other(tmp_path: Path) -> None:
    done = played(tmp_path / "done")
    prepared = fresh(tmp_path / "prepared", "method.preset=shuffled")
    planned = fresh(tmp_path / "planned", "method.preset=undo_paper")
    current_state(planned)
    blind = fresh(tmp_path / "blind", "method.preset=blind").config
    longer = fresh(tmp_path / "longer", "train.epochs=9")
    current_state(longer)
    assert awaited(blind, [prepared]) is None, "one that has not begun waits itself"
    assert awaited(blind, [prepared, planned]) is planned
    assert awaited(blind, [done, planned]) is None, "there is one to take all of"
    assert awaited(blind, [longer, planned]) is planned, "the student counts more than the rationales"
    assert awaited(blind, [longer]) is longer, "the rationales alone"
    assert awaited(longer.config, [done, longer]) is longer
    run = fresh(tmp_path / "run", "method.preset=blind")
    assert take_over(run, [done]) and awaited(blind, [done, run]) is None, (
        "the third need not wait for the second"
    )
