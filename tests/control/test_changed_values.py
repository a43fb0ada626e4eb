"""One value of one file of a finished iteration is another, and a launcher acts: it says so, makes it again, or plans just what it would have."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.observe.synthetic import RunBuilder
from tests.search import FUZZ
from tests.stages.test_changed_values import cases, change
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import discard_stale
from undo_hpc.control.tidy import tidy
from undo_hpc.observe.after import after_iteration
from undo_hpc.pipeline.damage import explain_in_run
from undo_hpc.pipeline.run import open_run
from undo_hpc.system.guard import UnexpectedError


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sets = ["generate.shards=2", "display.report=false", "stop.patience=9"]
    root = tmp_path_factory.mktemp("values") / "run"
    return RunBuilder(root, problems=6, validation=4, benchmarks={"gsm": 2}, sets=sets).play(1).layout.root


def act(root: Path) -> list[str]:
    """What the launcher plans: digests of the targets files; nothing where a task of the finished iteration is made again first."""
    run = open_run(root)
    state = current_state(run)
    discard_stale(run, state)
    tidy(run)
    return [file["sha256"] for file in state.plan.targets] if state.iteration else []


def test_a_launcher_plans_the_same_or_says_why_not(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = act(Path(shutil.copytree(finished, tmp_path / "sound")))
    assert expected
    every = list(cases(finished))
    by_file = {file: [case for case in every if case[0] == file] for file in {case[0]: 0 for case in every}}
    files, rng, problems = list(by_file), random.Random(None if FUZZ else 0), []
    for number in range(FUZZ or 40):
        file, at, place, value = rng.choice(by_file[files[number % len(files)]])
        root = Path(shutil.copytree(finished, tmp_path / "run"))
        change(root / file, at, place, value)
        try:
            planned = act(root)
            if planned not in ([], expected):
                problems.append((file, at, place, value, "BELIEVED"))
            after_iteration(open_run(root), 0)  # the report and what is written beside it
        except Exception as error:  # noqa: BLE001 -- what the search is for
            if isinstance(explain_in_run(error, root), UnexpectedError):
                problems.append((file, at, place, value, repr(error)))
        shutil.rmtree(root)
    assert not problems, "\n".join(map(str, problems))
