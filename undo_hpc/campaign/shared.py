"""Work that is the same is done once: iteration 0 of a run is taken over from another whose iteration 0 asked for the same.

Arms differ in what the teacher sees when it refines, so the first rationales, the first student and the untrained one are the same under
the same seed. What is taken over is proven by digests: same configuration as far as iteration 0 reads it, same problems, same models,
outputs that are what their manifests say.
"""

from __future__ import annotations

import hashlib

import orjson

from undo_hpc.config.load import is_neutral
from undo_hpc.config.schema import RunConfig
from undo_hpc.control import taking_over
from undo_hpc.control.position import read_state
from undo_hpc.pipeline.run import Run, leaves
from undo_hpc.pipeline.stages import LAST_STAGE

# What iteration 0 does not read. (`advance` does, and is never taken over.) `method.errors_from` is no such key: it cuts the problems
# into the files of the distilled set. Neither is `condition`, as far as it is `ground_truth`.
UNREAD = ("name", "stop.", "stages.", "method.preset", "method.condition", "method.regenerate", "method.history", "method.show_score",
          "method.hint", "method.examples", "method.show_truth", "method.start_from", "method.combine")  # fmt: skip


def first_work(config: RunConfig) -> str:
    """Digest of all that iteration 0 reads of a configuration, its last stage excepted."""
    explicit = config.model_dump(mode="json", exclude_defaults=True)
    values = [(k, v) for k, v in leaves(explicit) if not is_neutral(k) and not k.startswith(UNREAD)]
    teacher = "data" if config.method.condition == "ground_truth" else "model"
    return hashlib.sha256(orjson.dumps([teacher, *values])).hexdigest()


def take_over(run: Run, donor: Run) -> int:
    """Takes over the tasks of iteration 0 that the donor has done (`control.taking_over`); returns how many. Nothing where `run` has
    begun, the donor's iteration 0 is not complete, or theirs are not the same.

    Raises:
        StorageError: a file cannot be written; what was taken over until then is complete and stays.
    """
    state = read_state(donor)
    if first_work(run.config) != first_work(donor.config) or state is None:
        return 0
    if state.iteration == 0 and not state.complete:
        return 0
    return sum(taking_over.take_over(run, donor, iterations=1, but=LAST_STAGE).values())
