"""One value in the files of a campaign and its runs is another: its command and `compare` say so, or give the same figures."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_bad_input import call, require_message
from tests.cli.test_run_campaign import ARMS, Played, write_campaign
from tests.search import FUZZ
from tests.stages.test_changed_values import cases, change
from undo_hpc.cli import run_locally
from undo_hpc.cli.run_campaign import main
from undo_hpc.storage.atomic import read_json

READ = (
    "campaign.resolved.json", "results.json", "plan.json", "metrics.json", "manifest.json", "environment.json", "events.jsonl",
)  # fmt: skip


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A campaign whose runs have ended; its folder is `out`."""
    place = tmp_path_factory.mktemp("campaign")
    file = write_campaign(place)
    text = file.read_text().replace(ARMS, "{undo: {}, blind: {method.preset: blind}}")
    text = text.replace("seeds: [0, 1]", "seeds: [0]").replace(", [undo, one_shot]", "")
    file.write_text(text)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(run_locally, "run_locally", Played())
        assert main([str(file), "--dir", str(place / "out"), "--quiet"]) == 0
        monkeypatch.setattr(run_locally, "run_locally", lambda run, console: 0)
        yield place


def test_a_changed_value_is_noticed_or_gives_the_same_figures(
    played: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = read_json(played / "out" / "results.json")
    every = [
        case for case in cases(played / "out") if case[0].endswith(READ) or "/evaluate/gsm8k/" in case[0]
    ]
    by_file = {file: [case for case in every if case[0] == file] for file in {case[0]: 0 for case in every}}
    rng = random.Random(None if FUZZ else 0)
    files = list(by_file)
    problems = []
    for number in range(FUZZ or 14):
        out = Path(shutil.copytree(played / "out", tmp_path / "out"))
        file, at, place, value = rng.choice(by_file[files[number % len(files)]])
        change(out / file, at, place, value)
        what = (file, at, place, value)
        code = main([str(played / "camp.yaml"), "--dir", str(out), "--quiet"])
        said = capsys.readouterr()
        try:
            require_message(code, list(map(str, what)), said.err, (0, 2, 3))
            if code == 0 and (found := read_json(out / "results.json")) != expected and not found["pending"]:
                problems.append(
                    (*what, "BELIEVED")
                )  # (a run that is named as pending is made again by a real launcher)
            code = call(["compare", str(out / "undo" / "seed-000"), str(out / "blind" / "seed-000")])
            require_message(code, ["compare", *map(str, what)], capsys.readouterr().err, (0, 2, 3))
        except AssertionError as error:
            problems.append((*what, str(error)[:600]))
        shutil.rmtree(out)
    assert not problems, "\n".join(map(str, problems))
