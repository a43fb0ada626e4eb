"""Which checker an iteration's verdicts are of. Figures of different checkers are never compared: `regrade` makes them of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from undo_hpc.checkers import CODE_VERSION, JUDGE_VERSION
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError
from undo_hpc.grading import CHECKER_VERSION
from undo_hpc.pipeline.results import find_metrics
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.events import read_events
from undo_hpc.storage.manifest import Manifest
from undo_hpc.storage.reading import finite
from undo_hpc.system.invocation import cli_hint, display_path


def checker_version(config: RunConfig) -> str:
    """The checker that a run is graded with now: the built-in one's version, or the name of the user's own; and the judge."""
    name, judge = config.grading.checker, config.grading.judge.model
    inner = f"code ({CODE_VERSION})" if name == "code" else name or CHECKER_VERSION
    return inner + (f", judge {judge} ({JUDGE_VERSION})" if judge else "")


def checker_of_tasks(run: Run, iteration: int, manifests: Iterable[Manifest]) -> str:
    """The checker of the verdicts of some tasks: recorded in their manifests, or the one that graded them again since.

    Raises:
        ConfigError: they are of several checkers.
    """
    found = checkers_of_tasks(run, iteration, manifests)
    if len(found) > 1:
        raise _several(run, f"the answers of iteration {iteration} were", found)
    return found.pop() if found else checker_version(run.config)


def checkers_of_tasks(run: Run, iteration: int, manifests: Iterable[Manifest]) -> set[str]:
    """All checkers of the verdicts of some tasks."""
    again = _regrades(run)
    found = set()
    for manifest in manifests:
        version = str(manifest.details.get("checker", ""))
        for when, numbers, checker in again:
            if iteration in numbers and when >= manifest.finished:
                version = checker
        found.add(version)
    return found


def require_one_checker(run: Run, iteration: int, version: str) -> None:
    """Refuses a decision over iterations whose verdicts are of different checkers.

    Raises:
        ConfigError: an earlier iteration was graded by another version, and not again since.
    """
    found, again = {version}, _regrades(run)
    for number in range(iteration):
        recorded = find_metrics(run, number).get("checker", version)
        found.add(
            next((checker for _, numbers, checker in reversed(again) if number in numbers), str(recorded))
        )
    if len(found) > 1:
        raise _several(run, f"the answers of iterations 0 to {iteration} were", found)


def _regrades(run: Run) -> list[tuple[float, list[Any], str]]:
    """Time, iterations and checker of each `regrade --apply` of a version that wrote it into no manifest whose verdicts stood, in order; a
    damaged event is none. (Times of several nodes: later ones are not told by their clocks any more.)"""
    found = []
    for event in read_events(run.events.path):
        checker, numbers = event.get("checker"), event.get("iterations")
        if event["kind"] != "regraded" or event.get("recorded"):
            continue
        if isinstance(checker, str) and isinstance(numbers, list):
            found.append((finite(event, "time"), numbers, checker))
    return found


def _several(run: Run, what: str, versions: Iterable[str]) -> ConfigError:
    root = display_path(run.layout.root)
    return ConfigError(
        f"{what} graded by different checkers ({', '.join(sorted(versions))}); their figures cannot be compared",
        hint=f"grade all of them by the present one: {cli_hint(f'regrade {root} --apply')}, then the launcher again",
    )
