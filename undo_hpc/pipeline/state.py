"""PURE: from a plan, the evidence on disk and the cluster's word to the state of each task, and why it is so.

Evidence decides. A job state only tells a task that is waiting or running from one that nobody is working on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from undo_hpc.config.schema import PolicyConfig
from undo_hpc.pipeline.plan import Stage, StageName, Task
from undo_hpc.storage.manifest import Manifest

TaskState = Literal["done", "stale", "running", "waiting", "ready", "blocked"]
Key = tuple[str, int]


@dataclass(slots=True)
class Evidence:
    """What was found of a task: its manifest, and what is wrong with its outputs (empty where all is well)."""

    manifest: Manifest | None
    problem: str = ""


NOTHING = Evidence(None)


@dataclass(slots=True)
class TaskStatus:
    """The state of a task and the reason in words."""

    stage: StageName
    index: int
    state: TaskState
    why: str = ""


def combined_digest(manifests: Sequence[Manifest]) -> str:
    """Digest of a stage from the digests of its tasks, in the order of their indices."""
    ordered = sorted(manifests, key=lambda m: m.index)
    return hashlib.sha256("\n".join(f"{m.index} {m.digest}" for m in ordered).encode()).hexdigest()


def enough(policy: PolicyConfig, done: int, total: int) -> bool:
    """Whether `done` of `total` tasks satisfy a stage's policy."""
    if policy.kind == "all":
        return done >= total
    if policy.kind == "min_fraction":
        return done >= math.ceil(policy.value * total)
    return done >= min(total, int(policy.value))


def derive(
    stages: Sequence[Stage],
    evidence: Mapping[Key, Evidence],
    *,
    policies: Mapping[str, PolicyConfig] | None = None,
    outside: Mapping[str, str] | None = None,
    live: Mapping[Key, tuple[TaskState, str]] | None = None,
) -> list[TaskStatus]:
    """The state of every task, in the order of the graph.

    Args:
        evidence: what lies on disk, by (stage, index).
        policies: how much of a stage is enough for the next.
        outside: digests of inputs from outside the iteration (configuration, splits), by name; `Task.inputs` are added to them.
        live: what the cluster says of tasks it knows, by (stage, index).
    """
    policies, outside, live = policies or {}, outside or {}, live or {}
    statuses: list[TaskStatus] = []
    complete: dict[str, bool] = {}
    upstream = _Upstream(evidence)
    for stage in stages:
        good: list[Manifest] = []
        upstream_done = all(complete.get(name, True) for name in stage.after)
        for task in stage.tasks:
            key = (stage.name, task.index)
            found = evidence.get(key, NOTHING)
            state, why = _one(stage, task, found, upstream, outside, upstream_done, live.get(key))
            if state == "done" and found.manifest is not None:
                good.append(found.manifest)
            statuses.append(TaskStatus(stage.name, task.index, state, why))
        complete[stage.name] = enough(policies.get(stage.name, PolicyConfig()), len(good), len(stage.tasks))
    return statuses


def unmet(
    stages: Sequence[Stage], policies: Mapping[str, PolicyConfig], statuses: Sequence[TaskStatus]
) -> set[StageName]:
    """The stages that an iteration still needs: with tasks that are stale, or fewer complete ones than their policy asks for.

    An iteration is complete where there is none. (Servers leave no evidence, and nobody needs them afterwards.)
    """
    names: set[StageName] = set()
    for stage in stages:
        mine = [status.state for status in statuses if status.stage == stage.name]
        short = not enough(policies.get(stage.name, PolicyConfig()), mine.count("done"), len(stage.tasks))
        if "stale" in mine or (short and stage.name != "serve"):
            names.add(stage.name)
    return names


def _one(
    stage: Stage,
    task: Task,
    found: Evidence,
    upstream: _Upstream,
    outside: Mapping[str, str],
    upstream_done: bool,
    live: tuple[TaskState, str] | None,
) -> tuple[TaskState, str]:
    why = ""
    if found.manifest is not None:
        why = found.problem or _outdated(stage, task, found.manifest, upstream, outside)
        if not why:
            return "done", ""
    if live is not None:
        return live
    if not upstream_done:
        return "blocked", why or f"waits for {', '.join(stage.after)}"
    return ("stale", why) if why else ("ready", "")


def _outdated(
    stage: Stage, task: Task, manifest: Manifest, upstream: _Upstream, outside: Mapping[str, str]
) -> str:
    """Which input has changed since the manifest was written, in words; empty where none has."""
    for digests in (outside, task.inputs):
        for name, digest in digests.items():
            if name in manifest.inputs and manifest.inputs[name] != digest:
                return f"its input '{name}' has changed"
    for name in stage.after:
        if (
            name in manifest.inputs
            and upstream.digest(name, manifest.details.get(f"{name}_used")) != manifest.inputs[name]
        ):
            return f"stage {name} has other results now"
    return ""


class _Upstream:
    """Digests of whole stages, each computed once however many tasks rest on it."""

    def __init__(self, evidence: Mapping[Key, Evidence]) -> None:
        self._manifests: dict[str, list[Manifest]] = {}
        for (name, _), item in evidence.items():
            if item.manifest is not None:
                self._manifests.setdefault(name, []).append(item.manifest)
        self._known: dict[tuple[str, tuple[int, ...] | None], str] = {}

    def digest(self, stage: str, used: Sequence[int] | None) -> str:
        """Digest of a stage's manifests, or of those with the indices `used`."""
        key = (stage, None if used is None else tuple(used))
        if key not in self._known:
            wanted = None if used is None else set(used)
            chosen = [m for m in self._manifests.get(stage, []) if wanted is None or m.index in wanted]
            self._known[key] = combined_digest(chosen)
        return self._known[key]
