"""Temporary files of dead writers go; those of living ones, and of other hosts that may live, stay."""

import os
import subprocess
import sys
from pathlib import Path

from undo_hpc.storage.atomic import temporary_name
from undo_hpc.storage.leftovers import ELSEWHERE_S, remove_leftovers


def test_only_what_a_dead_writer_left_goes(tmp_path: Path) -> None:
    code = "import sys\nfrom pathlib import Path\nfrom undo_hpc.storage.atomic import temporary_name\nprint(temporary_name(Path(sys.argv[1])))"
    dead = Path(
        subprocess.check_output([sys.executable, "-c", code, str(tmp_path / "a.json")], text=True).strip()
    )
    mine = temporary_name(tmp_path / "a.json")
    elsewhere = mine.with_name(f".a.json.other_node-{os.getpid()}-0123abcd.tmp")
    old = mine.with_name(f".b.json.other_node-{os.getpid()}-0123abcd.tmp")
    folder = dead.with_name(dead.name.replace("a.json", "student"))
    for path in (dead, mine, elsewhere, old, tmp_path / "a.json", tmp_path / ".step-00000002.tmp"):
        path.write_text("x")
    folder.mkdir()
    (folder / "weights").write_text("x")
    then = old.stat().st_mtime - ELSEWHERE_S - 5
    os.utime(old, (then, then))
    assert set(remove_leftovers(tmp_path)) == {dead, old, folder}
    assert {p.name for p in tmp_path.iterdir()} == {mine.name, elsewhere.name, "a.json", ".step-00000002.tmp"}


def test_two_writers_with_one_pid_never_meet(tmp_path: Path) -> None:
    """Two nodes share a file system, and pids repeat: the names differ all the same."""
    assert len({temporary_name(tmp_path / "a") for _ in range(100)}) == 100
