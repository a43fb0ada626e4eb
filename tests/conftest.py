"""Fixtures that all rooms share: the real data (where it is), and what to do where a real component is missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests import figures
from tests.search import FUZZ
from undo_hpc.pipeline.run import git_revision

if TYPE_CHECKING:
    from tests.e2e.campaign import Small

# The same examples each time, so that a change is judged by what it does; see tests/search.py for a longer search.
hypothesis.settings.register_profile(
    "undo", derandomize=not FUZZ, max_examples=FUZZ or 100, deadline=None, print_blob=True
)
hypothesis.settings.load_profile("undo")

REPO = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _again() -> str:
    """What a session is repeated with."""
    seeds = (
        f"UNDO_FUZZ={FUZZ}, new examples" if FUZZ else "fixed seeds and examples (UNDO_FUZZ=N for new ones)"
    )
    return f"commit {git_revision()}; {seeds}"


def pytest_report_header() -> str:
    """At the beginning; `-q` leaves it out."""
    return _again()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures that tests counted, and what makes them again."""
    counts = {
        what: len(terminalreporter.stats.get(what, ())) for what in ("passed", "failed", "error", "skipped")
    }
    terminalreporter.section("figures")
    terminalreporter.line(
        f"{_again()}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    )
    for line in figures.lines():
        terminalreporter.line(line)


def missing(reason: str) -> None:
    """Skips the test, or fails it where UNDO_REQUIRE_REAL=1 says that every real component must be there."""
    if os.environ.get("UNDO_REQUIRE_REAL") == "1":
        pytest.fail(f"a real component is missing: {reason}", pytrace=False)
    pytest.skip(reason)


def shared_data_dir() -> Path | None:
    """The folder with GSM8K, SVAMP, MATH-500, MMLU-Pro and the grading cases, or None (UNDO_SHARED points to it)."""
    root = Path(os.environ.get("UNDO_SHARED", REPO.parent / "shared")) / "data"
    return root if root.is_dir() else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; skips the test where it is missing (it is never part of the project)."""
    root = shared_data_dir()
    if root is None:
        pytest.skip("the folder of real data is not on this machine (set UNDO_SHARED)")
    return root


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The tiny preset with fewer rows, run to its end on this machine with nothing happening to it; made once."""
    from tests.e2e.campaign import Small

    small = Small(tmp_path_factory.mktemp("tiny") / "run")
    done = small.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    (small.run_dir.parent / "output.txt").write_text(done.stdout)
    return small
