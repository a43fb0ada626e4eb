"""`--dry-run`: the graph of the next iteration in words. Reads the run directory where there is one; writes nothing."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from undo_hpc.config.schema import RunConfig, StageResources
from undo_hpc.layout import Layout
from undo_hpc.plan import IterationPlan, build_graph, effective_iterations, plan_iteration


def show_plan(config: RunConfig, run_dir: Path, console: Console) -> None:
    """Prints stages, tasks, inputs, outputs and resources."""
    layout = Layout(run_dir.resolve())
    plan, counted = guess_plan(config)
    console.print(
        f"run [bold]{config.name}[/bold] in {layout.root} on {config.cluster.kind}; nothing is written", highlight=False
    )
    console.print(
        f"teacher {config.teacher.model or '?'} ({config.generate.engine.name}) -> student {config.student.model or '?'}; "
        f"condition {config.method.condition}; at most {effective_iterations(config)} iterations",
        highlight=False,
        markup=False,
    )
    table = Table(title=f"iteration 0{'' if counted else ' (sizes of the data are estimates)'}", title_justify="left")
    for heading in ("stage", "tasks", "after", "inputs", "outputs", "resources"):
        table.add_column(heading, overflow="fold")
    for stage in build_graph(config, layout, plan):
        outputs = sorted({path for task in stage.tasks for path in task.outputs})
        shown = outputs if len(outputs) <= 3 else [*outputs[:2], f"... {len(outputs) - 2} more"]
        table.add_row(
            stage.name,
            str(len(stage.tasks)),
            ", ".join(stage.after),
            "\n".join(stage.inputs),
            "\n".join(shown),
            resources(stage.resources),
        )
    console.print(table)
    console.print(
        "later iterations have the same stages; the teacher then sees the errors of the last student", highlight=False
    )


def guess_plan(config: RunConfig) -> tuple[IterationPlan, bool]:
    """The plan of iteration 0 from what the configuration says of sizes; False where a size had to be guessed."""
    from undo_hpc.benchmarks.loader import benchmark_size

    total = config.data.train.sample
    counted = total is not None
    size = total or 10_000

    def part(wanted: int | float) -> int:
        return round(size * wanted) if 0 < wanted < 1 else int(wanted)

    validation, diagnosis = part(config.data.validation), part(config.data.diagnosis)
    train = max(1, size - validation - diagnosis)
    sets: dict[str, int] = {}
    for name in config.evaluate.benchmarks:
        known = benchmark_size(name)
        counted = counted and bool(known)
        sets[Path(name).stem] = min(known or 1000, config.evaluate.limit or known or 1000)
    sets |= {"validation": validation, "diagnosis": diagnosis}
    if config.evaluate.train_predictions:
        sets["train"] = train
    return plan_iteration(config, 0, problems=train, sets={k: v for k, v in sets.items() if v}), counted


def resources(asked: StageResources) -> str:
    """What a task asks for, in words."""
    given = {key: value for key, value in asked.model_dump().items() if value is not None}
    return (
        "\n".join(f"{key.replace('_', ' ')}: {value}" for key, value in given.items())
        or "the profile's, or this machine's"
    )
