"""Random search: how many examples a property test tries, and `make fuzz`, which tries new ones for minutes.

A test takes a fixed set of examples, the same each time; with UNDO_FUZZ=N it takes N new ones.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import settings

FUZZ = int(os.environ.get("UNDO_FUZZ", "0"))
ROOT = Path(__file__).resolve().parent.parent


def examples(usual: int, *, share: float = 1.0, **more: Any) -> settings:
    """The settings of one property test.

    Args:
        usual: examples where no search was asked for.
        share: of the examples of a search, for a test whose examples take long.
    """
    return settings(max_examples=max(1, round(FUZZ * share)) if FUZZ else usual, deadline=None, **more)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all property tests in rounds of new seeds until the time is over; prints commit, seed and figures. Returns 1 after a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.search", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="no round begins later (default: 10)")
    parser.add_argument(
        "--examples", type=int, default=1000, help="examples a test and round (default: 1000)"
    )
    parser.add_argument(
        "--seed", type=int, help="of the first round; each later one adds 1 (default: by the clock)"
    )
    parser.add_argument("tests", nargs="*", default=["tests"], help="files or folders (default: all)")
    arguments = parser.parse_args(argv)
    began, seed = time.time(), arguments.seed if arguments.seed is not None else int(time.time()) % 10**6
    first, total, findings = seed, 0, 0
    while seed == first or time.time() - began < 60 * arguments.minutes:
        tried, found, words = one_round(arguments.tests, arguments.examples, seed)
        total, findings = total + tried, findings + found
        print(
            f"seed {seed}: {tried:,} examples, {found} findings, {(time.time() - began) / 60:.1f} minutes",
            flush=True,
        )
        if found:
            print(words, flush=True)
        seed += 1
    print(
        f"commit {commit()}, seeds {first} to {seed - 1}, {arguments.examples} examples a test: "
        f"{total:,} examples in {(time.time() - began) / 60:.1f} minutes, {findings} findings"
    )
    return int(findings > 0)


def one_round(tests: Sequence[str], count: int, seed: int) -> tuple[int, int, str]:
    """Examples that were tried, tests that failed, and the output."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "hypothesis and not vllm and not gpu and not slurm", "-o", "timeout=0",
         "-p", "no:cacheprovider", f"--hypothesis-seed={seed}", "--hypothesis-show-statistics", *tests],
        env={**os.environ, "UNDO_FUZZ": str(count)}, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    tried = sum(
        int(number)
        for line in re.findall(r"\d+ passing.*", done.stdout)
        for number in re.findall(r"\d+", line)
    )
    failed = (
        re.search(r"(\d+) (?:failed|errors?)\b", done.stdout.strip().splitlines()[-1])
        if done.stdout.strip()
        else None
    )
    return tried, int(failed[1]) if failed else int(done.returncode != 0), done.stdout + done.stderr


def commit() -> str:
    """The commit of the working tree, with a plus where it has changes."""
    try:
        words = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    except OSError:
        words = ""
    return words or "unknown"


if __name__ == "__main__":
    raise SystemExit(main())
