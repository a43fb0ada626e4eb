"""Work that is the same is done once in a campaign: iteration 0 is taken over from runs whose iteration 0 is complete.

Arms differ in what the teacher sees when it refines, so the first rationales, the first student and the untrained one are the same under
the same seed. What is the same is decided as for a fork (`control.taking_over`).
"""

from __future__ import annotations

from collections.abc import Sequence

from undo_hpc.config.schema import RunConfig
from undo_hpc.control import taking_over
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import RunState, read_state
from undo_hpc.control.taking_over import first_work
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import LAST_STAGE


def take_over(run: Run, donors: Sequence[Run]) -> dict[str, int]:
    """Takes over iteration 0 but for its decision; returns the number of tasks by the donor's run id. Nothing where `run` has begun.

    Raises:
        StorageError: a file cannot be written; what was taken over until then is complete and stays.
    """
    found: dict[str, int] = {}
    complete = [donor for donor in donors if (state := read_state(donor)) and _complete(state)]
    for (donor, _, _), tasks in taking_over.take_over(run, complete, iterations=1, but=LAST_STAGE).items():
        found[donor] = found.get(donor, 0) + tasks
    if found:
        current_state(run)  # the targets are made from the same problems, and must have the same digests
    return found


def awaited(config: RunConfig, others: Sequence[Run]) -> Run | None:
    """The run under way whose iteration 0 will be the same, or at least its rationales: to be taken over, not made twice.

    None where one has them already, or none will. Runs that have not begun wait themselves.
    """
    begun = [(other, state) for other in others if (state := read_state(other)) is not None]
    for stage in ("train", "generate"):
        mine = first_work(config, stage)
        same = [(other, state) for other, state in begun if first_work(other.config, stage) == mine]
        if any(_complete(state) for _, state in same):
            return None
        if same:
            return same[0][0]
    return None


def _complete(state: RunState) -> bool:
    return state.iteration > 0 or state.complete
