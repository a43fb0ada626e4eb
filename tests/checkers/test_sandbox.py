"""The folder of a program in the sandbox."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from undo_hpc.checkers.sandbox import run_python
from undo_hpc.errors import EngineError


@pytest.mark.parametrize("put", ["a link", "a folder"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_lies_in_place_of_a_programs_folder_is_not_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: str, when: str
) -> None:
    """Who may rename what lies in the temporary folder puts a link to files of ours, or a folder of ours, under its name."""
    (tmp_path / "tmp").mkdir()
    (precious := tmp_path / "precious").mkdir(0o755)
    (precious / "thesis.tex").write_text("words")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def swap(folder: Path) -> str:
        folder.rename(tmp_path / "old")
        folder.symlink_to(precious) if put == "a link" else precious.rename(folder)
        return str(folder)

    if when == "before":
        made = tempfile.mkdtemp
        monkeypatch.setattr(tempfile, "mkdtemp", lambda **named: swap(Path(made(**named))))
        with pytest.raises(EngineError, match="was made, and is"):
            run_python("", seconds=20, megabytes=500)
    else:
        wait = subprocess.Popen.wait

        def waited(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
            code = wait(process, timeout)
            if not (tmp_path / "old").exists():
                [folder] = (tmp_path / "tmp").iterdir()
                (folder / "left").mkdir()
                swap(folder)
            return code

        monkeypatch.setattr(subprocess.Popen, "wait", waited)
        run_python("", seconds=20, megabytes=500)
        assert not list((tmp_path / "old").iterdir()), "the program's own folder is emptied"
    left = precious if put == "a link" else next((tmp_path / "tmp").iterdir())
    assert (left / "thesis.tex").read_text() == "words" and left.stat().st_mode & 0o777 == 0o755
