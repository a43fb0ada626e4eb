"""Runs of a campaign without models: those of `tests.observe.synthetic`, played to their end."""

from __future__ import annotations

from pathlib import Path

from tests.observe.synthetic import RunBuilder
from undo_hpc.pipeline.run import Run


def played(
    root: Path, *sets: str, seed: int = 0, skill: float = 0.6, iterations: int = 2, items: int = 80
) -> Run:
    """A finished run; `seed` draws its answers, the problems are always the same."""
    builder = RunBuilder(
        root, problems=24, sets=[f"iterations={iterations}", f"seed={seed}", *sets], benchmarks={"gsm": items}
    )
    builder.rng.seed(1000 * seed + len(sets))
    for k in range(iterations):
        plan = builder.plan(k)
        builder.generate(plan)
        if plan.baseline:
            builder.evaluate(plan, "baseline", skill=0.2)
        builder.single(plan, "merge")
        builder.train(plan)
        builder.evaluate(plan, skill=skill if k else 0.45)
        builder.single(plan, "advance")
    return builder.run


def campaign_file(folder: Path, text: str = "") -> Path:
    """A campaign of the tiny world, with `text` in the place of some of it."""
    values = {
        "name": "mine",
        "base": "tiny",
        "set": "{iterations: 2}",
        "seeds": "[0, 1]",
        "arms": "{undo: {}, blind: {method.preset: blind}}",
        "primary": "[[undo, blind]]",
        "problem_set": "tiny",
    }
    given = [line.partition(":") for line in text.splitlines() if line]
    values |= {key: value.strip() for key, _, value in given}
    path = folder / "campaign.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    return path


def files_of(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
