"""Which checker an iteration's verdicts are of. Figures of different checkers are never compared: `regrade` makes them of one."""

from __future__ import annotations

from collections.abc import Iterable

from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError
from undo_hpc.grading import CHECKER_VERSION
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.events import read_events
from undo_hpc.storage.manifest import Manifest
from undo_hpc.storage.reading import read_fast
from undo_hpc.system.invocation import cli_hint, display_path


def checker_version(config: RunConfig) -> str:
    """The checker that a run is graded with now: the built-in one's version, or the name of the user's own; and the judge."""
    judge = config.grading.judge.model
    return (config.grading.checker or CHECKER_VERSION) + (f", judge {judge}" if judge else "")


def checker_of_tasks(run: Run, iteration: int, manifests: Iterable[Manifest]) -> str:
    """The checker of the verdicts of some tasks: recorded in their manifests, or the one that graded them again since.

    Raises:
        ConfigError: they are of several checkers.
    """
    again = [e for e in read_events(run.events.path) if e.get("kind") == "regraded" and "checker" in e]
    found = set()
    for manifest in manifests:
        version = str(manifest.details.get("checker", ""))
        for event in again:
            if iteration in event["iterations"] and event["time"] >= manifest.finished:
                version = str(event["checker"])
        found.add(version)
    if len(found) > 1:
        raise _several(run, f"the answers of iteration {iteration} were", found)
    return found.pop() if found else checker_version(run.config)


def require_one_checker(run: Run, iteration: int, version: str) -> None:
    """Refuses a decision over iterations whose verdicts are of different checkers.

    Raises:
        ConfigError: an earlier iteration was graded by another version, and not again since.
    """
    found = {version}
    for number in range(iteration):
        recorded = (read_fast(run.layout.iteration(number).metrics) or {}).get("checker", version)
        for event in read_events(run.events.path):
            if event.get("kind") == "regraded" and number in event.get("iterations", []):
                recorded = event["checker"]
        found.add(str(recorded))
    if len(found) > 1:
        raise _several(run, f"the answers of iterations 0 to {iteration} were", found)


def _several(run: Run, what: str, versions: Iterable[str]) -> ConfigError:
    root = display_path(run.layout.root)
    return ConfigError(
        f"{what} graded by different checkers ({', '.join(sorted(versions))}); their figures cannot be compared",
        hint=f"grade all of them by the present one: {cli_hint(f'regrade {root} --apply')}, then the launcher again",
    )
