"""One logger tree: results are printed, messages are logged, and -v and -q choose among messages alone."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import undo_hpc
from undo_hpc.cli import VERBS, main
from undo_hpc.system.logs import LEVEL, adopt, level_for, log_to_task_log, log_to_terminal


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    tree = logging.getLogger("undo_hpc")
    handlers, level = list(tree.handlers), tree.level
    monkeypatch.setenv(LEVEL, "INFO")
    yield
    tree.handlers[:], tree.level = handlers, level


@pytest.mark.parametrize(
    ("verbose", "quiet", "level"),
    [(0, 0, "INFO"), (1, 0, "DEBUG"), (0, 1, "WARNING"), (0, 2, "ERROR"), (1, 1, "WARNING")],
)
def test_levels(verbose: int, quiet: int, level: str) -> None:
    assert logging.getLevelName(level_for(verbose, quiet)) == level


def test_a_task_log_has_time_and_level_and_follows_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_terminal(logging.WARNING)
    assert os.environ[LEVEL] == "WARNING", "tasks that are started from here inherit it"
    log_to_task_log()
    log_to_task_log()  # no second handler
    log = logging.getLogger("undo_hpc.stages.somewhere")
    log.info("not shown")
    log.warning("careful: %d of %d", 1, 2)
    out, err = capsys.readouterr()
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING careful: 1 of 2\n", out) and err == ""


def test_lines_of_libraries_have_time_level_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    root, library = logging.getLogger(), logging.getLogger("some_library")
    before = list(root.handlers)
    try:
        library.addHandler(logging.StreamHandler(sys.stderr))  # as transformers gives itself one
        library.propagate = False
        log_to_task_log()
        adopt("some_library")
        library.warning("odd weights")
        logging.getLogger("undo_hpc.x").warning("ours")
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
    out, err = capsys.readouterr()
    first = err.splitlines()[0]
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING some_library: odd weights", first)
    assert "ours" in out and "ours" not in err


def test_a_level_that_is_none_is_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LEVEL, "LOUD")
    log_to_task_log()
    logging.getLogger("undo_hpc.x").info("here")
    assert capsys.readouterr().out.endswith("INFO here\n")


def test_messages_of_commands_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_terminal(logging.INFO)
    logging.getLogger("undo_hpc.x").info("on the way")
    assert capsys.readouterr() == ("", "on the way\n")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_takes_v_and_q(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    said = capsys.readouterr().out
    assert "-v, --verbose" in said and "-q, --quiet" in said


def test_quiet_hides_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "undo_hpc.cli", "status", "-qq", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is not a run directory" in done.stderr


def test_only_commands_print() -> None:
    """Outside of the command line, of what is shown to a person, and of programs of their own, messages are logged."""
    root = Path(undo_hpc.__file__).parent
    printers = {"cli", "grading", "training", "tiny"}
    found = [
        f"{path.relative_to(root)}:{number}"
        for path in root.rglob("*.py")
        if path.relative_to(root).parts[0] not in printers
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"(?<![\w.])print\(", line)
    ]
    assert [
        place for place in found if not place.startswith(("stages/", "control/by_hand.py", "system/guard.py"))
    ] == []
