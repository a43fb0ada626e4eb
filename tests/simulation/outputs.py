"""What the simulated stages leave: outputs that are a function of their inputs alone, published as the real ones publish theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from undo_hpc.records import SPLITS
from undo_hpc.stages.context import StageContext, gate
from undo_hpc.storage.atomic import write_bytes, write_json
from undo_hpc.storage.shards import dump_rows


def _content(inputs: dict[str, str], index: int) -> bytes:
    return hashlib.sha256(repr((sorted(inputs.items()), index)).encode()).hexdigest().encode() + b"\n"


def _rows(ctx: StageContext, inputs: dict[str, str]) -> None:
    for name in ctx.task.outputs:
        write_bytes(ctx.run.layout.root / name, _content(inputs, ctx.task.index))
    ctx.publish(
        {ctx.run.layout.root / name: 1 for name in ctx.task.outputs}, inputs=inputs, counts={"rows": 1}
    )


def _merge(ctx: StageContext, inputs: dict[str, str]) -> None:
    write_bytes(ctx.at.distilled_card, _content(inputs, 0))
    used = [m.index for m in gate(ctx, "generate")[0]]
    ctx.publish(
        {ctx.at.distilled_card: None}, inputs=inputs, counts={"rows": 6}, details={"generate_used": used}
    )


def _train(ctx: StageContext, inputs: dict[str, str]) -> None:
    write_bytes(ctx.at.student / "config.json", _content(inputs, 0))
    ctx.publish(
        {ctx.at.student / "config.json": None}, inputs=inputs, counts={"rows_given": 6, "rows_learned": 6}
    )


def _advance(ctx: StageContext, inputs: dict[str, str]) -> None:
    rows = []
    for split in SPLITS:
        for problem in ctx.run.problems(split):
            rows.append({"problem_id": problem.problem_id, "idx": problem.idx, "split": split, "problem": problem.problem,
                         "ground_truth": problem.ground_truth, "rationale": "r", "student_answer": "s", "verdict": "wrong",
                         "error_kind": "setup", "score": 0.0, "unstable": False, "rationale_from_data": False})  # fmt: skip
    rows.sort(key=lambda row: (row["idx"], row["problem_id"]))
    write_bytes(ctx.at.feedback, dump_rows(rows))
    accuracy = {"accuracy": 0.1 * ctx.plan.iteration}
    write_json(ctx.at.metrics, {"iteration": ctx.plan.iteration, "sets": {"validation": accuracy}})
    used = {name: [m.index for m in gate(ctx, name)[0]] for name in ctx.stage.after}
    ctx.publish(
        {ctx.at.metrics: None, ctx.at.feedback: len(rows)},
        inputs=inputs,
        details={f"{name}_used": indices for name, indices in used.items()},
    )


PUBLISH: dict[str, Callable[[StageContext, dict[str, str]], None]] = {
    "generate": _rows, "baseline": _rows, "evaluate": _rows, "merge": _merge, "train": _train, "advance": _advance,
}  # fmt: skip
