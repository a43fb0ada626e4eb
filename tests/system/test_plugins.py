"""What is wrong in a module of the user's own is named: the key, the module, the line; and its end is not taken for ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO
from undo_hpc.errors import ConfigError
from undo_hpc.system.guard import explained
from undo_hpc.system.plugins import load_object, place_in_plugins, search_folders

MISTAKES = {
    "a syntax error": ("class A(:\n", "SyntaxError"),
    "an exception": ("\nraise ValueError('mine')\n", r"ValueError: mine; .*, line 2"),
    "an exit": ("import sys\nsys.exit(3)\n", r"SystemExit: 3; .*, line 2"),
    "an exit that looks like success": ("import sys\nsys.exit()\n", r"SystemExit: .*, line 2"),
    "a missing package": ("import no_such_package\n", "No module named 'no_such_package'"),
    "another name": ("class B: pass\n", "has no attribute 'A'"),
    "endless recursion": ("def f(): f()\nf()\n", "RecursionError"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_a_module_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, said = MISTAKES[kind]
    name = f"mistake_{list(MISTAKES).index(kind)}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    search_folders([str(tmp_path)])
    with pytest.raises(ConfigError, match=said) as error:
        load_object(f"{name}:A", group="undo_hpc.engines", key="generate.engine.name")
    assert (
        error.value.message.startswith(f"generate.engine.name: cannot load '{name}:A'") and error.value.hint
    )


def test_an_unexpected_error_in_a_module_of_the_user_is_not_called_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_engine.py").write_text("import json\n\ndef work():\n    json.loads('{')\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    search_folders([str(tmp_path)])
    work = load_object("failing_engine:work", group="undo_hpc.engines", key="generate.engine.name")
    with pytest.raises(ValueError, match="Expecting") as error:
        work()
    said = str(explained(error.value, tmp_path))
    assert (
        f"(in {tmp_path}/failing_engine.py, line 4, which `plugins` names; " in said
        and "report it" not in said
    )
    assert "a fault of undo-hpc, please report it" in str(explained(LookupError("ours"), tmp_path))


def test_a_project_named_as_plugins_does_not_make_our_files_the_users() -> None:
    """`plugins: [.]` in a checkout."""
    search_folders([str(REPO)])
    try:
        load_object("no-such", group="undo_hpc.engines", key="k")
    except ConfigError as error:
        assert place_in_plugins(error).startswith(f"in {__file__}")
        inner = error.__traceback__.tb_next  # type: ignore[union-attr]
        assert not place_in_plugins(error.with_traceback(inner))


def test_a_folder_that_everybody_can_put_another_in_place_of_gives_no_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a folder for everybody without a sticky bit: what was looked at is not what a task imports hours later."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    mine, link = tmp_path / "open" / "mine" / "project", tmp_path / "link"
    mine.mkdir(parents=True)
    link.symlink_to(mine)
    (tmp_path / "open").chmod(0o777)
    for named in (mine, link):
        with pytest.raises(
            ConfigError, match="every user of this machine can put another folder in place of"
        ) as error:
            search_folders([str(named)])
        assert str(named) not in sys.path and "copy it to a folder of your own" in error.value.hint
    with monkeypatch.context() as trusting:
        trusting.setenv("UNDO_TRUST", "*")
        search_folders([str(mine)])
    (tmp_path / "open").chmod(0o1777)  # as /tmp: nobody else can rename it
    search_folders([str(mine)])
    mine.chmod(0o777)
    with pytest.raises(ConfigError, match="every user of this machine can write in the folder of plug-ins"):
        search_folders([str(mine)])
    mine.chmod(0o775)  # a group's is told by the launcher
    search_folders([str(mine), str(tmp_path / "in a container only")])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_users_gives_modules_where_they_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("UNDO_TRUST", "")
    theirs = tmp_path / "scratch" / "theirs" / "project"
    theirs.mkdir(parents=True)
    os.chown(theirs.parent, 54321, -1)
    search_folders([str(theirs)])  # of ours, in a place of theirs that not everybody can write
    (tmp_path / "scratch").chmod(0o1777)
    with pytest.raises(ConfigError, match="its owner, 54321, can put another folder in place of"):
        search_folders([str(theirs)])
    os.chown(theirs, 54321, -1)
    with pytest.raises(ConfigError, match="belongs to another user, 54321"):
        search_folders([str(theirs)])
    monkeypatch.setenv("UNDO_TRUST", "54321")
    search_folders([str(theirs)])
