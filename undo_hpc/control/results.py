"""Results of finished iterations: are they still there? The decision rests on them, and a push publishes them."""

from __future__ import annotations

from pathlib import Path

from undo_hpc.config.parts import ends_behind
from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.pipeline.results import changed
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.manifest import read_manifest, verify_outputs


def finished_problem(run: Run, iteration: int, stage: str, file: Path | None = None) -> str:
    """What is wrong with the results of a single-task stage of a finished iteration, in words; empty where nothing is.

    Args:
        file: the one that is looked at, by its digest; without it all of them, by name and size.
    """
    path = run.layout.iteration(iteration).stage_manifest(stage)
    try:
        manifest = read_manifest(path)
    except EvidenceError:
        return f"{run.layout.relative(path)} is damaged"
    if manifest is None:
        return f"{run.layout.relative(path)} is missing"
    return (
        changed(run, manifest, file)
        if file
        else verify_outputs(run.layout.root, manifest, deep=False, pruned=True)
    )


def damaged_results(
    run: Run, iteration: int, best: int | None, *, deep: bool = False
) -> list[tuple[int, str]]:
    """(iteration, what is missing or damaged) of the results of the iterations before this one: distilled sets, and the chosen student.

    (Of the present one, evidence tells. Other students may be deleted to save room.)

    Args:
        best: the iteration whose student was chosen; None while none is.
        deep: reads everything and compares digests, the present iteration's included: minutes for large models.
    """
    found: list[tuple[int, str]] = []
    for number in range(iteration + deep):
        cut = ends_behind(run.config, number)  # a cut iteration has no student, or no distilled set either
        wanted = {"generate": (), "baseline": (), "merge": ("merge",)}.get(cut, ("merge", "train"))
        for stage in wanted if number == best else wanted[:1]:
            problem = finished_problem(run, number, stage)
            if not problem and deep:
                manifest = read_manifest(run.layout.iteration(number).stage_manifest(stage))
                root = run.layout.root
                problem = verify_outputs(root, manifest, deep=True, pruned=True) if manifest else ""
            if problem:
                found.append((number, problem))
    return found


def require_results(run: Run, iteration: int, best: int) -> None:
    """Before a run is said to have ended: everything that it leaves behind is read.

    Raises:
        StorageError: a distilled set or the chosen student is missing, or is not what its manifest says.
    """
    found = damaged_results(run, iteration, best, deep=True)
    if found:
        number = found[0][0]
        raise StorageError(
            f"this run has ended, but of its results {found[0][1]}"
            + (f" (and {len(found) - 1} more)" if found[1:] else ""),
            hint=f"put it back from a copy; or move {run.layout.iteration(number).root} and all later iterations away and run the same "
            "command again: they are then made again",
            blocked=True,
        )
