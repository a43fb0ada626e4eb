"""What is wrong in a module of the user's own is named: the key, the module, the line; and its end is not taken for ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from undo_hpc.errors import ConfigError
from undo_hpc.system.plugins import load_object, search_folders

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
