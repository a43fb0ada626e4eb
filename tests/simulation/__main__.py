"""`python -m tests.simulation SEEDS [FIRST]`: so many runs, each by its seed, on all cores; prints what they found, with the commit."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.simulation.blocks import on_all_cores
from tests.simulation.campaign import Outcome, make_template
from undo_hpc.pipeline.run import git_revision


def main(count: int, first: int = 0) -> int:
    """Simulates and prints; 1 where an invariant did not hold."""
    began, outcomes, busy = time.monotonic(), list[Outcome](), 0.0
    with tempfile.TemporaryDirectory() as folder:
        template = make_template(Path(folder) / "template")
        for block, seconds in on_all_cores(template, first, count):
            outcomes += block
            busy += seconds
            for outcome in block:
                for words in outcome.violations:
                    print(
                        f"seed {outcome.seed}, commit {git_revision()}: {words}\n  faults: {dict(outcome.faults)}",
                        flush=True,
                    )
    took = time.monotonic() - began
    bad = [outcome.seed for outcome in outcomes if outcome.violations]
    faults = sum((outcome.faults for outcome in outcomes), Counter[str]())
    print(f"commit {git_revision()}, seeds {first} to {first + count - 1}: {count} runs, {sum(o.events for o in outcomes):,} events, "
          f"{sum(faults.values()):,} faults of {len(faults)} kinds, {sum(o.submissions for o in outcomes):,} submissions in {took:.0f} s "
          f"({60 * count / took:,.0f} runs a minute, {busy / count:.3f} s of a core a run)")  # fmt: skip
    print(f"virtual hours a run: median {statistics.median(o.hours for o in outcomes):.1f}, longest {max(o.hours for o in outcomes):.1f}; "
          f"launches that a run needed beside the first: {statistics.mean(o.needed for o in outcomes):.2f}")  # fmt: skip
    print(f"invariants broken in {len(bad)} runs{f': seeds {bad[:20]}' if bad else ''}")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    )
