"""The run as a whole in a line: which iteration of how many, what is at work, how long so far, when all of it will have ended."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from undo_hpc.config.parts import effective_iterations
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.events import read_events
from undo_hpc.storage.reading import finite, read_fast
from undo_hpc.system.wording import format_duration

_SENSELESS_S = 10 * 365 * 86400.0  # a time in a damaged event; no clock can show it


@dataclass(frozen=True)
class Whole:
    """How far a run is.

    Attributes:
        iteration, last: the iteration at work, and the last one that may come.
        stages: what is at work.
        spent_s: seconds since the run was made, pauses included.
        left_s: seconds to its end if all iterations run; None while no iteration was measured.
        basis: what that rests on, in words.
    """

    iteration: int
    last: int
    stages: tuple[str, ...]
    spent_s: float
    left_s: float | None
    basis: str

    def in_words(self, now: float | None = None, *, working: bool = True) -> str:
        """The line; without an end where nobody works on the run."""
        of = f"iteration {self.iteration} of 0 to {self.last}" if self.last else "the only iteration"
        parts = [
            of,
            *[" and ".join(self.stages)] * bool(self.stages),
            f"{format_duration(self.spent_s)} since the start",
        ]
        if not working:
            return ", ".join(parts)
        if self.left_s is None or self.left_s > _SENSELESS_S:
            return ", ".join([*parts, "end unknown until an iteration is measured"])
        end = (now or time.time()) + self.left_s
        form = "%H:%M" if self.left_s < 18 * 3600 else "%a %d %b, %H:%M"
        return ", ".join([*parts, f"ends about {time.strftime(form, time.localtime(end))} ({self.basis})"])


def look_at_whole(run: Run, iteration: int, stages: Iterable[str] = (), *, now: float | None = None) -> Whole:
    """How far a run is, from its events and the manifests of its finished iterations. An early stop may end it sooner."""
    now = now or time.time()
    planned: dict[int, float] = {}
    made = now
    for event in read_events(run.layout.events):
        if event.get("kind") == "created":
            made = min(made, finite(event, "time", made))
        elif event.get("kind") == "planned" and type(event.get("iteration")) is int:
            planned[event["iteration"]] = finite(event, "time", now)
    last = max(iteration, effective_iterations(run.config) - 1)
    took = _durations(run, planned, iteration)
    left, basis = None, ""
    if took:
        measured = max(took)
        elapsed = now - planned.get(iteration, now)
        left = max(0.0, took[measured] - elapsed) + (last - iteration) * took[measured]
        basis = f"an iteration as long as iteration {measured}"
    return Whole(iteration, last, tuple(stages), now - made, left, basis)


def _durations(run: Run, planned: dict[int, float], before: int) -> dict[int, float]:
    """Seconds from plan to decision of each finished iteration before the present one."""
    found = {}
    for number in range(before):
        at = run.layout.iteration(number)
        manifest = read_fast(at.stage_manifest("advance")) or {}
        if number not in planned:
            continue
        ends = [
            finite(e, "time") for e in read_events(at.events("advance", 0)) if e.get("status") == "complete"
        ]
        first = next((t for t in ends if t > planned[number]), 0.0)  # it may be done again long after
        finished = first or finite(manifest, "finished")
        if finished > planned[number]:
            found[number] = finished - planned[number]
    return found
