"""`python -m undo_hpc.training SPEC.json`: one rank of a training. Needs no launcher beyond the usual rank variables."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from undo_hpc.errors import ExitCode, UndoError
from undo_hpc.system.guard import explained
from undo_hpc.system.logs import log_to_task_log
from undo_hpc.system.parent_death import die_with_parent_if_asked
from undo_hpc.system.wording import printable
from undo_hpc.training.stopping import Stopper


def main(argv: list[str], started: float) -> int:
    """Runs a rank; the exit code says whether it is complete, saved, or has failed."""
    if len(argv) != 1:
        print("usage: python -m undo_hpc.training SPEC.json", file=sys.stderr)
        return ExitCode.WRONG_INPUT
    die_with_parent_if_asked(pass_on=False)
    log_to_task_log()
    stopper, logs = Stopper(started), Path(argv[0]).resolve().parent.parent / "logs"  # of the iteration
    with stopper.listening():  # from the first moment: a signal during the slow imports must not kill us
        try:
            from undo_hpc.training.spec import TrainSpec

            spec = TrainSpec.load(Path(argv[0]))
            stopper.limit_s = spec.time_limit_s
            from undo_hpc.training.setup import quiet_deepspeed

            quiet_deepspeed()
            from undo_hpc.training.loop import run_rank

            return run_rank(spec, os.environ, stopper)
        except Exception as error:  # noqa: BLE001 -- the log says what it is; the traceback of one that nobody foresaw is in a file
            if not isinstance(error, UndoError) and (early := stopper.asked_while_loading):
                return early.exit_code  # the others have left already, as they were asked to
            told = explained(error, logs if logs.is_dir() else None)
            print(f"error: {printable(str(told))}", file=sys.stderr, flush=True)
            return int(told.exit_code)


if __name__ == "__main__":
    code = main(sys.argv[1:], time.monotonic())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(
        code
    )  # other ranks may hang in a collective that this one will not join; nothing may keep it here
