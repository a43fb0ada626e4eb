"""The house: tests mirror the package, files stay small, and the glossary's words are the ones that are used."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import undo_hpc

ROOT = Path(undo_hpc.__file__).parent
TESTS = Path(__file__).parent
MAX_LINES = 400
# Tests that belong to no single room: whole runs, a real SLURM, documents, and the benchmarks that `make bench` runs.
WHOLE = {"bench", "chaos", "docs", "e2e", "gpu", "simulation", "slurm", "slurmlab"}


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("path", python_files(ROOT) + python_files(TESTS), ids=lambda p: str(p.name))
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES, f"{path}: split it by purpose"


def test_tests_mirror_the_package() -> None:
    rooms = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_dir()}
    for folder in (path for path in TESTS.rglob("*") if path.is_dir() and (path / "__init__.py").exists()):
        name = folder.relative_to(TESTS).as_posix()
        assert name in rooms or name.split("/")[0] in WHOLE, f"tests/{name} mirrors no folder of the package"
    untested = {"config", "data", "method", "pipeline", "control", "stages", "cluster", "engines", "training",
                "grading", "prompts", "storage", "system", "observe", "hub", "doctor", "cli", "tiny", "chat", "models"}  # fmt: skip
    assert not {room for room in untested if not list((TESTS / room).glob("test_*.py"))}


# Words of an earlier private language, and what is said instead (CONTRIBUTING.md).
RETIRED = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bheal(s|ed|ing|er)?\b": "resubmit missing tasks",
    r"\bcarr(y|ies) on\b": "continue",
    r"\bpassed over\b": "skipped",
    r"\bleft aside\b": "ignored",
    r"\bvouch(es)? for\b": "validates",
    r"\banew\b": "again",
    r"\bafresh\b": "from scratch",
    r"\bexamination": "evaluation",
    r"\bmost new tokens\b": "max new tokens",
    r"\bwithout a word\b": "died without an exit status, or: silently",
}
PAGES = [*(path for path in TESTS.parent.glob("*.md") if path.name != "CHANGELOG.md"), *TESTS.parent.glob("docs/*.md"),
         *TESTS.parent.glob("slurm/*.md")]  # fmt: skip


@pytest.mark.parametrize("path", python_files(ROOT) + PAGES, ids=lambda p: str(p.name))
def test_plain_words(path: Path) -> None:
    text = path.read_text()
    found = {
        re.search(word, text, re.IGNORECASE)[0]: better
        for word, better in RETIRED.items()
        if re.search(word, text, re.IGNORECASE)
    }  # type: ignore[index]
    assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize("path", python_files(ROOT), ids=lambda p: str(p.name))
def test_texts_are_utf_8_in_every_locale(path: Path) -> None:
    """A path with an accent in a file of the run was another one, or an error, where the locale is Latin-1 or C."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = {word.arg for word in node.keywords}
            if node.func.attr in ("read_text", "write_text"):
                assert "encoding" in given or len(node.args) > 1, f"{path}, line {node.lineno}"
