"""Verdicts of two states of a checker are never taken for those of one: its version is raised with its code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import undo_hpc
from undo_hpc.checkers import CODE_VERSION, JUDGE_VERSION
from undo_hpc.grading import CHECKER_VERSION

ROOT = Path(undo_hpc.__file__).parent
# Where a verdict may change: raise the version, then put the new digest here. Where none can (a comment, a name): the digest alone.
KNOWN = {
    "grading": (CHECKER_VERSION, "2.6", "25f9c373641c908b"),
    "checkers/judge.py": (JUDGE_VERSION, 3, "54d602de7d976882"),
    "checkers/code.py": (CODE_VERSION, 2, "56259f49319110d0"),
    "checkers/start.py": (CODE_VERSION, 2, "1235f35e90e2fbec"),
    "checkers/inside.py": (CODE_VERSION, 2, "c0fedaee6025915a"),
    "checkers/sandbox.py": (CODE_VERSION, 2, "cae0584bff762472"),
}


def digest_of(name: str) -> str:
    files = sorted([*(ROOT / name).glob("*.py"), *(ROOT / name).glob("*.txt")]) or [
        ROOT / name
    ]  # tables decide, too
    lines = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def test_the_code_of_a_checker_is_that_of_its_version() -> None:
    found = {name: (now, now, digest_of(name)) for name, (now, _, _) in KNOWN.items()}
    assert found == KNOWN, "see above KNOWN"
