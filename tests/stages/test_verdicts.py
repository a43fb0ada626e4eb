"""Figures of different checkers are never compared, and grading all of them again by one makes them comparable."""

from pathlib import Path

import pytest

from tests.stages.build import make_problems, make_run
from undo_hpc.checkers import CODE_VERSION
from undo_hpc.config.load import override
from undo_hpc.errors import ConfigError
from undo_hpc.grading import CHECKER_VERSION
from undo_hpc.pipeline.run import Run
from undo_hpc.stages.verdicts import checker_of_tasks, checker_version, require_one_checker
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.manifest import Manifest


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run", make_problems(4), 1)


def graded(*versions: str) -> list[Manifest]:
    return [
        Manifest("evaluate", 1, k, {}, {}, details={"checker": name}, finished=100.0)
        for k, name in enumerate(versions)
    ]


def test_the_checker_is_the_built_in_one_or_the_users(run: Run) -> None:
    assert checker_version(run.config) == CHECKER_VERSION
    own = run.config.model_copy(
        update={"grading": run.config.grading.model_copy(update={"checker": "mine:Checker"})}
    )
    assert checker_version(own) == "mine:Checker"
    assert checker_version(override(run.config, ["grading.checker=code"])) == f"code ({CODE_VERSION})"


def test_answers_of_one_iteration_are_of_one_checker(run: Run) -> None:
    assert checker_of_tasks(run, 1, graded("1.9", "1.9")) == "1.9"
    with pytest.raises(
        ConfigError, match=r"iteration 1 were graded by different checkers \(1\.9, 2\.0\)"
    ) as error:
        checker_of_tasks(run, 1, graded("1.9", "2.0"))
    assert "regrade" in error.value.hint and "--apply" in error.value.hint
    run.events.append("regraded", checker="2.0", iterations=[0, 1])
    assert checker_of_tasks(run, 1, graded("1.9", "2.0")) == "2.0"
    assert checker_of_tasks(run, 2, graded("1.9")) == "1.9", "an iteration that was not there then"


def test_iterations_are_compared_under_one_checker(run: Run) -> None:
    write_json(run.layout.iteration(0).metrics, {"checker": "1.9"})
    require_one_checker(run, 1, "1.9")
    with pytest.raises(
        ConfigError, match=r"iterations 0 to 1 were graded by different checkers \(1\.9, 2\.0\)"
    ):
        require_one_checker(run, 1, "2.0")
    run.events.append("regraded", checker="2.0", iterations=[0])
    require_one_checker(run, 1, "2.0")
