"""release: compares what the canary measured with `generate.canary`, and lets the teacher's array be planned; or refuses, with the reason.

The thresholds are read when it runs: where one is lowered, the same command releases the array, and nothing is asked again.
"""

from __future__ import annotations

from collections.abc import Container

from undo_hpc.errors import ConfigError
from undo_hpc.method.canary import figures, problems
from undo_hpc.pipeline.evidence import as_manifest
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import combined_digest
from undo_hpc.records import Attempt
from undo_hpc.stages.context import StageContext, gate
from undo_hpc.stages.verdicts import checker_version
from undo_hpc.storage.manifest import Manifest, verify_outputs
from undo_hpc.storage.reading import read_fast
from undo_hpc.storage.shards import read_rows
from undo_hpc.system.invocation import cli_hint, display_path, resume_hint


def run_stage(ctx: StageContext) -> None:
    """Writes the manifest behind which the iteration is planned.

    Raises:
        ConfigError: the canary has not reached a threshold.
        EvidenceError: it is not complete.
    """
    manifests, _, inputs = gate(ctx, "canary")
    canary = manifests[0]
    ctx.say(f"canary: {figures(canary.counts)}")
    if found := problems(canary.counts, ctx.run.config.generate.canary):
        error = canary.details.get("error")
        listed = "\n".join(f"  {what}" for what in (*found, *[f"a request failed: {error}"] * bool(error)))
        root = display_path(ctx.run.layout.root)
        raise ConfigError(
            f"the teacher's array is not released; in the canary ({figures(canary.counts)}):\n{listed}",
            hint=f"see what it wrote: {cli_hint(f'show {root} --stage canary')}; with other values take another --run-dir. Or release it all "
            f"the same: {resume_hint(ctx.run.layout.root)} --set generate.canary.KEY=VALUE",
        )
    ctx.publish({}, inputs=inputs, counts=dict(canary.counts))


def released_canary(run: Run, iteration: int, prompts: str) -> Manifest | None:
    """The manifest of an iteration's canary that was released; None where there is none, or its rows were asked for otherwise.

    Args:
        prompts: digest of the teacher's templates.
    """
    at = run.layout.iteration(iteration)
    name = at.shard_names("canary", 0)[1]
    canary, release = (
        as_manifest(read_fast(path) or {}) for path in (run.layout.root / name, at.stage_manifest("release"))
    )
    if canary is None or release is None or combined_digest([canary]) != release.inputs.get("canary"):
        return None
    asked = {"config": run.config_digest, "prompts": prompts}
    return canary if asked.items() <= canary.inputs.items() else None


def canary_rows(ctx: StageContext, prompts: str, problem_ids: Container[str]) -> list[Attempt]:
    """What the canary of this iteration has written of these problems, as this task would write it; nothing where there was none, or its
    rows have another checker or are damaged."""
    canary = released_canary(ctx.run, ctx.plan.iteration, prompts)
    if canary is None or canary.details.get("checker") != checker_version(ctx.run.config):
        return []
    if verify_outputs(ctx.run.layout.root, canary, deep=True):
        return []
    rows = map(Attempt.from_dict, read_rows(ctx.at.shard("canary", 0)))
    return [row for row in rows if row.problem_id in problem_ids]
