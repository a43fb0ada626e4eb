"""Values that may change in a run only until work rests on them: its configuration would say of that work what it never was."""

from __future__ import annotations

from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError
from undo_hpc.pipeline.layout import IterationLayout, Layout
from undo_hpc.storage.reading import read_fast
from undo_hpc.system.invocation import cli_hint, display_path


def require_added_as_frozen(layout: Layout, config: RunConfig) -> None:
    """Added sets are asked as when they were frozen: their answers stay, and other samples, temperature or limit would be told of them.
    Raises ConfigError."""
    for name, asked in config.evaluate.added.items():
        details = (read_fast(layout.added_manifest(name)) or {}).get("details")
        before = details.get("asked") if isinstance(details, dict) else None
        if before is not None and before != asked.settings:
            raise ConfigError(
                f"the set {name} of {layout.root} was added with {before}, now asked for {asked.settings}",
                hint=f"put evaluate.added back as it was; add it under another name: {cli_hint('evaluate RUN --benchmarks NAME')}",
            )


def require_as_learned(layout: Layout, before: RunConfig, config: RunConfig) -> None:
    """`student.reasoning` is what students have learned by, and what texts were scored by to be learned: another value is a new run's.

    One that is put back as all students have learned is none other. Raises ConfigError.
    """
    old, new = before.student.reasoning, config.student.reasoning
    if old == new:
        return
    found = [what for number in layout.iterations() if (what := _learned_by(layout.iteration(number)))]
    if found and set(found) != {new}:
        raise ConfigError(
            f"student.reasoning of {layout.root} is {old!r}, now asked for {new!r}; a student has learned by it, or texts were scored for one",
            hint="give the old value to resume this run; a new one takes over its rationales: "
            + cli_hint(f"fork {display_path(layout.root)} NEW_RUN --set student.reasoning={new}"),
        )


def _learned_by(at: IterationLayout) -> str:
    """The value by which the student of an iteration has learned; `unknown` where but texts were scored; empty where nothing was done."""
    manifest = at.stage_manifest("train")
    if manifest.exists():
        details = (read_fast(manifest) or {}).get("details")
        return str(details.get("reasoning", "keep")) if isinstance(details, dict) else "unknown"
    return "unknown" if any(map(at.shard_manifests, ("likelihood", "score"))) else ""
