"""canary: before a teacher's first array, a few of its problems on one task: are its rationales right, whole, and fit to be learned?

It asks and writes as `generate` does, with the same seeds; what it wrote is not written again. `release`, behind it, lets the array start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from undo_hpc.config.parts import asks
from undo_hpc.records import Attempt, Target
from undo_hpc.stages.context import StageContext
from undo_hpc.stages.generate import write_shard
from undo_hpc.stages.train import make_spec
from undo_hpc.training import student
from undo_hpc.training.encoding import Encoder, encoded_rows


def run_stage(ctx: StageContext) -> None:
    """Writes the canary's rows; raises as `generate`, DataError where the student's tokenizer cannot encode at all."""
    write_shard(ctx, lambda targets, rows: encoded_counts(ctx, targets, rows))


def encoded_counts(ctx: StageContext, targets: Sequence[Target], rows: Sequence[Attempt]) -> dict[str, int]:
    """How many of the rationales that would be kept the student's encoding takes; nothing where no student is trained."""
    if not asks(ctx.run.config, "student"):
        return {}
    problem = {target.problem_id: target.problem for target in targets}
    good: list[dict[str, Any]] = [
        {"id": row.problem_id, "problem": problem[row.problem_id], "teacher_solution": row.text}
        for row in rows
        if row.verdict == "correct" and not row.flags
    ]
    if not good:
        return {"encoded": 0, "to_encode": 0}
    spec = make_spec(ctx, "")
    found = list(encoded_rows(good, Encoder(student.load_tokenizer(spec), spec), spec.config))
    reasons = Counter(reason for _, reason in found if isinstance(reason, str))
    for reason, count in reasons.most_common():
        ctx.say(f"the student would not learn {count} of {len(good)} right rationales: {reason}")
    return {"encoded": len(good) - reasons.total(), "to_encode": len(good)}
