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
from undo_hpc.pipeline.stages import STAGES
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


def changed_inputs(
    stages: Sequence[Stage], statuses: Sequence[TaskStatus], evidence: Mapping[Key, Evidence]
) -> TaskStatus | None:
    """The first task whose outputs are whole, and were made from other inputs than there are now: its iteration is made again.

    An input that is missing or damaged is no other one: it is made again first. Stages of the configuration do not count: some read
    the answers to added sets, and no result rests on them.
    """
    upstream = _Upstream(evidence)
    by_name = {stage.name: stage for stage in stages}

    def is_whole(name: str, used: Sequence[int] | None) -> bool:
        indices = [task.index for task in by_name[name].tasks] if used is None else used
        found = (evidence.get((name, index), NOTHING) for index in indices)
        return all(item.manifest is not None and not item.problem for item in found)

    for status in statuses:
        found = evidence.get((status.stage, status.index), NOTHING)
        if status.state == "done" or status.stage not in STAGES or found.manifest is None or found.problem:
            continue
        used = {name: found.manifest.details.get(f"{name}_used") for name in by_name[status.stage].after}
        other = [
            name
            for name, indices in used.items()
            if name in found.manifest.inputs and upstream.digest(name, indices) != found.manifest.inputs[name]
        ]
        if not other or any(name in STAGES and is_whole(name, used[name]) for name in other):
            return status
    return None


def not_needed(
    stages: Sequence[Stage], statuses: Sequence[TaskStatus], counted: Mapping[str, Sequence[int]]
) -> frozenset[Key]:
    """The tasks that are not done and that nothing waits for: a policy let what follows them begin without them.

    Stale ones are needed. So are servers where something of `generate` is.

    Args:
        counted: of a stage, the tasks that were counted already; those of added sets are needed all the same.
    """
    complete = {stage.name: True for stage in stages}
    for status in statuses:
        complete[status.stage] = complete[status.stage] and status.state == "done"
    found: set[Key] = set()
    for stage in sorted(
        stages, key=lambda each: each.name == "serve"
    ):  # last: it follows what generate needs
        followers = [other.name for other in stages if stage.name in other.after]
        left_out = bool(followers) and all(complete[name] for name in followers)
        kept = counted.get(stage.name)
        if stage.name == "serve":
            left_out = all(
                s.state == "done" or (s.stage, s.index) in found for s in statuses if s.stage == "generate"
            )
        elif complete[stage.name] or not (left_out or kept is not None):
            continue
        added = {task.index for task in stage.tasks if "added" in task.inputs}
        found |= {
            (s.stage, s.index)
            for s in statuses
            if s.stage == stage.name
            and s.state not in ("done", "stale")
            and (left_out or (kept is not None and s.index not in kept and s.index not in added))
        }
    return frozenset(found)


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
