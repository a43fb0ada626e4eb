"""What a launcher starts once on its own machine: `python -m undo_hpc.warm FD`. Its workers begin with everything imported (system/warm.py).

Only imports happen here: no tensor is made, no thread of a library starts, and CUDA is not touched.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

from undo_hpc.system.invocation import python_module
from undo_hpc.system.parent_death import die_with_parent_if_asked
from undo_hpc.system.warm import serve
from undo_hpc.worker import main as run_worker

# What the stages of a run with the transformers engine import in their course, in the order of their first use.
MODULES = (
    "torch",
    "transformers",
    "undo_hpc.engines.transformers_engine",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.qwen2.modeling_qwen2",
    "undo_hpc.stages.generate",
    "undo_hpc.stages.evaluate",
    "undo_hpc.stages.merge",
    "undo_hpc.stages.advance",
    "pyarrow.parquet",
)


def main(argv: list[str]) -> int:
    """Imports, then starts workers until the launcher ends."""
    die_with_parent_if_asked(pass_on=False)
    for name in MODULES:
        with contextlib.suppress(ImportError):  # a worker that needs it says so
            importlib.import_module(name)
    with contextlib.suppress(ImportError):
        from undo_hpc.training.setup import quiet_deepspeed

        quiet_deepspeed()
        importlib.import_module("undo_hpc.training.loop")
    serve(int(argv[0]), run_worker, python_module("undo_hpc.worker")[1:])
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # nothing of it is to be kept, and taking torch apart takes time
