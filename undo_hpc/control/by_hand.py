"""`bash slurm/STAGE.sbatch RUN_DIR ITERATION [INDICES]`: submits tasks of one stage as the run's profile says, and nothing behind them.

The tasks that INDICES name (0-7,9), or all of the stage; those that are complete end at once. The profile is the run's own or, where
it has none yet, the file that UNDO_PROFILE names.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from undo_hpc.cluster.base import Submission
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.cluster.profile import load_profile
from undo_hpc.cluster.slurm import SlurmCluster
from undo_hpc.control.run_cluster import kept_profile, require_usable_path, run_lease
from undo_hpc.errors import ConfigError
from undo_hpc.pipeline.damage import explain_in_run
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import Run, open_run, require_trusted_run
from undo_hpc.system.data_files import project_root
from undo_hpc.system.guard import guard


def parse_indices(text: str, total: int) -> tuple[int, ...]:
    """PURE: the numbers that `0-7,9` names; all below `total` for an empty text.

    Raises:
        ConfigError: it names none, or one that there is not.
    """
    if not text:
        return tuple(range(total))
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            raise ConfigError(f"'{text}' names no tasks", hint="write numbers and ranges, e.g. 0-7,9")
        found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    if not found or max(found) >= total:
        raise ConfigError(f"'{text}': the tasks of this stage are 0 to {total - 1}")
    return tuple(sorted(found))


def submit(run: Run, stage_name: str, iteration: int, indices: str) -> tuple[str, ...]:
    """Submits the tasks; returns the ids of their jobs. Raises ConfigError, ClusterError."""
    plan = run.plan(iteration)
    graph = {} if plan is None else {s.name: s for s in build_graph(run.config, run.layout, plan)}
    if stage_name not in graph:
        raise ConfigError(
            f"iteration {iteration} of {run.layout.root} has no plan with a stage {stage_name}",
            hint="the launcher makes the plan; stages: " + (", ".join(graph) or "none"),
        )
    require_usable_path(run.layout)
    stage, given = graph[stage_name], os.environ.get("UNDO_PROFILE", "")
    chosen = parse_indices(indices, len(stage.tasks))
    with run_lease(run):
        submission = Submission(
            run_dir=run.layout.root,
            iteration=iteration,
            stage=stage_name,
            indices=chosen if stage.is_array else None,
            resources=stage.resources,
            tag=run.id,
            attempt=SubmissionJournal(run.layout.submissions).attempts(iteration).get(stage_name, 0),
            total=len(stage.tasks),
            continues=False,
        )
        profile = load_profile(given) if given else kept_profile(run)
        return SlurmCluster(profile, project_root(), (), run.layout.root).submit(submission)


def main() -> int:
    """Parses the words behind the template's name, submits, and says the ids."""
    parser = argparse.ArgumentParser(prog="bash slurm/STAGE.sbatch", description=__doc__)
    parser.add_argument("stage", help=argparse.SUPPRESS)
    parser.add_argument("run_dir", type=Path, help="the run directory")
    parser.add_argument("iteration", type=int, help="0-based")
    parser.add_argument("indices", nargs="?", default="", help="tasks, e.g. 0-7,9 (default: all)")
    given = parser.parse_args()

    def command() -> int:
        require_trusted_run(given.run_dir)
        ids = submit(open_run(given.run_dir), given.stage, given.iteration, given.indices)
        print(f"submitted {given.stage} of iteration {given.iteration}: job {', '.join(ids)}")
        return 0

    return guard(command, explain=lambda error: explain_in_run(error, given.run_dir))


if __name__ == "__main__":
    raise SystemExit(main())
