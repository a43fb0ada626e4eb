"""UNDO iterative distillation: what a notebook needs. Importing this loads nothing heavy; each function imports what it uses.

import undo_hpc
config = undo_hpc.load_config("my.yaml", ["iterations=2"])
run = undo_hpc.start(config)                 # or open_run("checkpoints/mine")
undo_hpc.status(run).next_command            # the command to type now
undo_hpc.metrics(run)[-1]["sets"]["gsm8k"]["accuracy"]
rows = undo_hpc.distilled(run, 1)            # a datasets.Dataset
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undo_hpc.system.hub_names import guard_names

if TYPE_CHECKING:
    from datasets import Dataset

    from undo_hpc.config.schema import RunConfig
    from undo_hpc.grading import grade
    from undo_hpc.observe.status import RunView
    from undo_hpc.pipeline.run import Run
    from undo_hpc.records import Attempt

__version__ = "0.2.0"
__all__ = [
    "RunConfig", "answers", "distilled", "grade", "load_config", "metrics", "open_run", "start", "status", "students",
]  # fmt: skip


guard_names()  # in each process that has anything of ours


def __getattr__(name: str) -> Any:
    """`RunConfig` and `grade` on first use (PEP 562)."""
    if name == "RunConfig":
        from undo_hpc.config.schema import RunConfig

        return RunConfig
    if name == "grade":
        from undo_hpc.grading import grade

        return grade
    raise AttributeError(f"module 'undo_hpc' has no attribute {name!r}")


def load_config(name_or_file: str | Path, sets: Iterable[str] = ()) -> RunConfig:
    """A preset or YAML file, with changes such as "train.epochs=2". Raises ConfigError, which names file, line and key."""
    from undo_hpc.config.load import load_config as load

    return load(str(name_or_file), sets)


def start(config: RunConfig, run_dir: str | Path | None = None, *, quiet: bool = False) -> Run:
    """Starts a run, or resumes it: on this machine to its end, on SLURM until its jobs are submitted.

    Args:
        run_dir: by default checkpoints/NAME.

    Raises:
        UndoError: what a user can correct; nothing that is finished is lost.
    """
    from undo_hpc.cli.choose import CHECKPOINTS
    from undo_hpc.cli.run_iteration import start_run
    from undo_hpc.system.console import SafeConsole

    folder = Path(run_dir or CHECKPOINTS / config.name)
    start_run(config, folder, SafeConsole(quiet=quiet))
    return open_run(folder)


def open_run(run_dir: str | Path) -> Run:
    """A run that exists. Raises ConfigError where there is none, StorageError where it is damaged or of another version."""
    from undo_hpc.pipeline.run import open_run as open_directory

    return open_directory(Path(run_dir))


def status(run: Run) -> RunView:
    """What `undo-hpc status` shows, as an object: stages, failures with their last lines, accuracies, the next command."""
    from undo_hpc.observe.status import collect_status

    return collect_status(run)


def metrics(run: Run) -> list[dict[str, Any]]:
    """metrics.json of every finished iteration, in order: accuracies with intervals, kinds of error, the decision."""
    from undo_hpc.control.finished import all_metrics

    return all_metrics(run)


def distilled(run: Run, iteration: int) -> Dataset:
    """The rows that the student of an iteration learned from. Raises DataError where they are not merged yet, StorageError where they have changed,
    EvidenceError where they are about to be made again."""
    import pyarrow.parquet
    from datasets import Dataset

    from undo_hpc.control.finished import require_current
    from undo_hpc.data.distilled import parquet_files
    from undo_hpc.pipeline.results import require_outputs

    require_current(run, iteration)
    require_outputs(run, iteration, "merge")
    files = parquet_files(run.layout.iteration(iteration).distilled)
    return Dataset(pyarrow.concat_tables(map(pyarrow.parquet.read_table, files)))  # no cache is asked


def answers(run: Run, iteration: int, problem_set: str) -> Iterator[Attempt]:
    """The student's graded answers to a benchmark or split of an iteration, as far as its tasks are complete.

    Raises:
        ConfigError: the iteration has no such set.
        StorageError: an answer has changed since it was counted.
    """
    from undo_hpc.errors import ConfigError
    from undo_hpc.pipeline.results import require_outputs
    from undo_hpc.records import Attempt
    from undo_hpc.storage.shards import read_rows

    plan, at = run.plan(iteration), run.layout.iteration(iteration)
    tasks = plan.evaluate if plan else ()
    if problem_set not in (known := dict.fromkeys(part.problem_set for parts in tasks for part in parts)):
        hint = f"its sets: {', '.join(known) or 'none yet'}"
        raise ConfigError(f"iteration {iteration} evaluates no {problem_set!r}", hint=hint)
    require_outputs(run, iteration, "evaluate", at.answers("evaluate") / problem_set)
    for index, parts in enumerate(tasks):
        if at.task_manifest("evaluate", index).exists():
            for part in (part for part in parts if part.problem_set == problem_set):
                rows = read_rows(at.shard("evaluate", part.shard, part.problem_set))
                yield from map(Attempt.from_dict, rows)


def students(run: Run) -> dict[int, Path]:
    """The trained students by iteration, each a Hugging Face directory; those that were pruned are left out."""
    from undo_hpc.control.prune import usage

    found = {k: run.layout.iteration(k) for k in run.layout.iterations()}
    gone = {item.iteration for item in usage(run) if item.pruned}
    return {k: at.student for k, at in found.items() if at.stage_manifest("train").exists() and k not in gone}
