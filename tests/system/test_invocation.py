"""Processes that we start import nothing from the folder where they are started."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import undo_hpc
from undo_hpc.system.invocation import python_module, resume_hint, task_hint

ROOT = Path(undo_hpc.__file__).parent


@pytest.mark.parametrize("name", ["orjson", "json", "undo_hpc"])
def test_a_module_that_lies_in_wait_is_not_run(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("import os\nos.mkdir('caught')\n")
    env = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        python_module("undo_hpc.training"), cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert "usage: python -m undo_hpc.training" in done.stderr
    assert not (tmp_path / "caught").exists()


def test_every_process_is_started_so() -> None:
    """`python -m` and `python -c` look for modules in the working folder first."""
    found = {
        (path.name, words)
        for path in ROOT.rglob("*.py")
        for words in re.findall(r'executable,\s*("-[^"]*")', path.read_text())
    }
    assert found and not {(name, words) for name, words in found if words not in ('"-P"', '"-I"')}


def test_jobs_and_templates_too() -> None:
    prelude = (ROOT / "cluster" / "prelude.sh").read_text()
    assert 'exec "$UNDO_PYTHON" -P -m' in prelude and "PYTHONSAFEPATH=1" in prelude


def test_no_script_of_a_folder_for_everybody_is_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("launchers/run_iteration.py", "slurm/train.sbatch"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for mode, advised in ((0o755, True), (0o1777, False)):
        tmp_path.chmod(mode)
        assert ("launchers/" in resume_hint(Path("/run"))) is advised
        assert ("slurm/" in task_hint(Path("/run"), "train", 0, slurm=True)) is advised
        assert " -P -m undo_hpc.worker" in task_hint(
            Path("/run"), "train", 0
        )  # nothing from where it is typed
