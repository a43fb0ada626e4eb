"""Work that is the same is done once: a run takes over from others what it would do alike, stage by stage, as links. Forks and campaigns do
it by this rule.

What is taken over is proven: the keys that a stage reads are the same, the models, the problems by digest, what the teacher is asked by
digest, and outputs are what their manifests say. The first iteration that is not taken over whole is the last one that is looked at: what
follows rests on it. So is the one behind which the taker ends by its own rule (`stop`, `iterations`, `until`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from undo_hpc.config.differences import differing_keys, is_neutral
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.planning import make_plan
from undo_hpc.errors import EvidenceError
from undo_hpc.models.files import changed_files
from undo_hpc.pipeline.own_prompts import as_in, by_content
from undo_hpc.pipeline.plan import IterationPlan, Stage, Task, build_graph, decide_run
from undo_hpc.pipeline.results import read_metrics
from undo_hpc.pipeline.run import Run, leaves
from undo_hpc.pipeline.stages import STAGES, spec_of
from undo_hpc.pipeline.state import combined_digest, enough
from undo_hpc.storage.atomic import copy_file, link_file, write_json
from undo_hpc.storage.events import read_events
from undo_hpc.storage.manifest import (
    Manifest,
    describe_output,
    read_manifest,
    sealed,
    verify_outputs,
    write_manifest,
)

# The keys that a stage reads beside its inputs. (Models and what the teacher is asked are compared themselves.)
_ANSWERS = ("seed", "grading.", "evaluate.engine", "evaluate.sampling", "evaluate.samples")
_READS = {
    "generate": ("seed", "grading.", "generate."),
    "baseline": _ANSWERS,
    "merge": ("generate.samples", "method.wrong_rationales", "method.combine", "method.errors_from", "method.keep", "method.select",
              "method.pass_rate", "cluster.policy"),
    "likelihood": ("evaluate.engine", "train.max_length", "train.too_long", "method.select", "method.keep", "method.wrong_rationales",
                   "method.pass_rate", "method.start_from", "generate.samples"),
    "sample": (*_ANSWERS, "distill.samples", "method.signal"),
    "score": ("distill.", "generate.engine", "train.max_length", "train.too_long", "method.signal", "method.condition"),
    "train": ("seed", "train.", "distill.", "method.start_from", "method.signal"),
    "evaluate": _ANSWERS,
    "advance": ("method.", "grading.", "evaluate.", "cluster.policy", "stages"),
}  # fmt: skip
_ASKS = {"generate": ("teacher",), "score": ("teacher", "student"), "baseline": ("student",), "sample": ("student",), "likelihood": ("student",),
         "train": ("student",), "evaluate": ("student",)}  # fmt: skip
_PROMPTS = {
    "generate": ("generate",),
    "score": ("generate", "evaluate"),
    "merge": (),
    "advance": (),
}  # else the student's


def first_work(config: RunConfig, stage: str = "train") -> str:
    """Digest of what a stage of iteration 0, and those before it, read of a configuration: where it is the same, so is their work.

    (`method.errors_from` cuts the problems into the files of the distilled set; without the signal soft nothing is scored.)
    """
    names = {stage}
    for name in reversed(STAGES):
        names |= set(STAGES[name].after) if name in names else set()
    scores = _scores(config)
    names -= {"sample"} if scores else {"sample", "score"}
    names -= {"likelihood"} if config.method.select != "likeliest" else set()
    read = {key for name in names for key in _reads(name, first=True, scores=scores)}
    read |= {f"{role}." for name in names for role in _ASKS.get(name, ())} | {"data.", "method.errors_from"}
    explicit = config.model_dump(mode="json", exclude_defaults=True)
    values = [
        (k, v)
        for k, v in by_content(leaves(explicit))
        if not is_neutral(k) and k.startswith(tuple(sorted(read)))
    ]
    return hashlib.sha256(orjson.dumps([_gives_own(config) and "generate" in names, *values])).hexdigest()


def _reads(stage: str, *, first: bool, scores: bool) -> tuple[str, ...]:
    """The keys that a stage reads; of iteration 0 (`first`) without what means nothing there: nothing is refined, continued or combined yet."""
    keys = _READS.get(stage, ())
    if not first:
        return keys
    idle = ("method.condition", "method.start_from", "method.combine")
    learned = () if scores else ("distill.", "method.signal")
    return tuple(key for key in keys if not key.startswith((*idle, *learned)))


def _scores(config: RunConfig) -> bool:
    """Whether iteration 0 learns from scores; `on_policy` begins with text."""
    return config.method.signal == "soft"


def _gives_own(config: RunConfig) -> bool:
    """Whether the data's own solutions are learned: `generate` writes them, whatever it is asked."""
    return config.method.condition == "ground_truth"


def take_over(
    run: Run, donors: Sequence[Run], *, iterations: int | None = None, but: str = ""
) -> Counter[tuple[str, int, str]]:
    """Takes over what donors have done alike, of each task what the first of them has; nothing where `run` has begun.

    The run is prepared. Its plans are made as far as its work is taken over.

    Args:
        iterations: at most so many.
        but: a stage that is not taken over.

    Returns:
        Number of tasks by (run id of the donor, iteration, stage).

    Raises:
        StorageError: a file cannot be written; what was taken over until then is complete and stays.
    """
    taken: Counter[tuple[str, int, str]] = Counter()
    mine = read_manifest(run.layout.prepared)
    if mine is None or not may_take_over(run):
        return taken
    ordered = sorted(donors, key=lambda other: first_work(other.config) != first_work(run.config))
    sources = [
        _Donor(run, donor, mine, theirs, but)
        for donor in ordered
        if (theirs := read_manifest(donor.layout.prepared))
    ]
    sources = [source for source in sources if source.fits("generate") or source.fits("baseline")]
    if not sources:
        return taken
    run.events.append("taking_over", run_ids=[source.run.id for source in sources])
    number = 0
    while iterations is None or number < iterations:
        plans = [
            (source, plan)
            for source in sources
            if (plan := source.run.plan(number)) and not plan.canary_problems
        ]
        if not plans:
            break
        plan = run.plan(number) or make_plan(run, number, like=plans[0][1])
        if not _take_iteration(run, plan, plans, taken):
            break
        if read_metrics(run, number)["decision"]["action"] != "continue":
            break  # the donor went on, by its own rule
        number += 1
    for donor_id in dict.fromkeys(donor_id for donor_id, _, _ in taken):
        tasks = sum(count for (name, _, _), count in taken.items() if name == donor_id)
        run.events.append("taken_over", iteration=0, tasks=tasks, run_id=donor_id)
    return taken


def may_take_over(run: Run) -> bool:
    """Whether a run has not begun, or the last that happened to it is that it began to take over, and was killed."""
    if run.plan(0) is None:
        return True
    last = ""
    for event in read_events(run.layout.events):
        last = str(event.get("kind")) if event.get("kind") != "planned" else last
    return last == "taking_over"


def _take_iteration(
    run: Run,
    plan: IterationPlan,
    plans: Sequence[tuple[_Donor, IterationPlan]],
    taken: Counter[tuple[str, int, str]],
) -> bool:
    """Takes over what fits of an iteration; returns whether that is all of it."""
    done: dict[str, list[Manifest]] = {}
    for stage in build_graph(run.config, run.layout, plan):
        if stage.name == "serve" or not all(name in done for name in stage.after):
            continue
        manifests: dict[int, Manifest] = {}
        for donor, theirs in plans:
            for task in donor.alike(stage, plan, theirs):
                if task.index not in manifests and (found := donor.take(stage, task, done)):
                    manifests[task.index] = found
                    taken[donor.run.id, plan.iteration, stage.name] += 1
        if enough(plan.policy_of(stage.name), len(manifests), len(stage.tasks)):
            done[stage.name] = list(manifests.values())
    return "advance" in done


def _same_model(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether two prepared runs record the same model; the place of local files counts for nothing: jobs have the embedded models in a
    copy of the code."""
    files = [(model or {}).get("files") for model in (one, other)]
    return not changed_files(files[0], files[1]) if files[0] and files[1] else one == other


class _Donor:
    """A run that is taken from, as the taker sees it."""

    def __init__(self, taker: Run, run: Run, mine: Manifest, theirs: Manifest, but: str) -> None:
        self.taker, self.run, self._mine, self._but = taker, run, mine, but
        same_prompts = as_in(taker.config, run.config)
        pairs = differing_keys(run.config.model_dump(mode="json"), same_prompts.model_dump(mode="json"))
        self._changed = [key for key, _, _ in pairs if not is_neutral(key)]
        self._same_files = {
            name for name, output in mine.outputs.items() if (other := theirs.outputs.get(name)) and other.sha256 == output.sha256
        }  # fmt: skip
        models = (mine.details.get("models", {}), theirs.details.get("models", {}))
        self._same_model = {
            role: taker.asks_as(run, role) and _same_model(models[0].get(role), models[1].get(role))
            for role in ("teacher", "student")
        }

    def fits(self, stage: str, iteration: int | None = None) -> bool:
        """Whether the keys that a stage reads are the same, and its models."""
        if stage == self._but or stage not in _READS:
            return False
        scores = any(_scores(run.config) for run in (self.run, self.taker))
        reads = _reads(stage, first=iteration == 0, scores=scores)
        if any(k.startswith(reads) for k in self._changed):
            return False
        if stage == "generate" and _gives_own(self.run.config) != _gives_own(self.taker.config):
            return False
        return all(self._same_model[role] for role in _ASKS.get(stage, ()))

    def _has_problems(self, *names: str) -> bool:
        layout = self.taker.layout
        return all(layout.relative(self.taker.problems_file(name)) in self._same_files for name in names)

    def alike(self, stage: Stage, plan: IterationPlan, theirs: IterationPlan) -> tuple[Task, ...]:
        """The tasks of a stage that are asked alike in both plans: by keys, models, prompts and problems."""
        there = {each.name: each for each in build_graph(self.run.config, self.run.layout, theirs)}
        if stage.name not in there or not self.fits(stage.name, plan.iteration):
            return ()
        prompts = _PROMPTS.get(stage.name, ("evaluate",))
        if any(plan.prompts.get(name) != theirs.prompts.get(name) for name in prompts):
            return ()
        asked = getattr(plan, stage.name, None)
        if isinstance(asked, tuple):  # slices of sets of problems
            known = getattr(theirs, stage.name)
            same = (
                task for task in stage.tasks if known[task.index : task.index + 1] == (asked[task.index],)
            )
            return tuple(
                t for t in same if self._has_problems(*(part.problem_set for part in asked[t.index]))
            )
        if not spec_of(stage.name).keeps_rows and not self._has_problems("train", "diagnosis", "validation"):
            return ()
        return stage.tasks if stage.name != "score" or plan.score == theirs.score else ()

    def take(self, stage: Stage, task: Task, done: dict[str, list[Manifest]]) -> Manifest | None:
        """Links a task's outputs and writes its manifest; None where it is not done here, or from other inputs."""
        root, mine = self.run.layout.root, self.taker.layout
        try:
            manifest = read_manifest(root / task.manifest)
        except EvidenceError:
            return None
        if manifest is None or manifest.inputs.get("config") != self.run.config_digest:
            return None
        wanted = dict(task.inputs)
        if "until" in wanted and wanted.pop("until") != manifest.inputs.get("until", ""):
            return None
        for name in stage.after:
            used = manifest.details.get(f"{name}_used")
            wanted[name] = combined_digest([m for m in done[name] if used is None or m.index in used])
        if any(manifest.inputs.get(name, digest) != digest for name, digest in wanted.items()):
            return None
        if verify_outputs(root, manifest, deep=True):
            return None
        for name in manifest.outputs:
            link_file(root / name, mine.root / name)
        number = manifest.iteration
        if stage.name == "train":
            copy_file(self.run.layout.iteration(number).train_metrics, mine.iteration(number).train_metrics)
        manifest = self._decided(manifest) if stage.name == "advance" else manifest
        inputs = manifest.inputs | {"config": self.taker.config_digest}
        if "splits" in inputs:
            inputs["splits"] = self._mine.digest
        details = manifest.details | {"taken_over_from": self.run.id}
        manifest = replace(manifest, inputs=inputs, details=details)
        write_manifest(mine.root / task.manifest, manifest)
        return manifest

    def _decided(self, manifest: Manifest) -> Manifest:
        """The decision of an iteration under the taker's own rule (`stop`, `iterations`), in its own copy of the metrics."""
        layout = self.taker.layout
        metrics = layout.iteration(manifest.iteration).metrics
        history = [read_metrics(self.taker, k) for k in range(manifest.iteration + 1)]
        decision = decide_run(self.taker.config, [item["sets"] for item in history]).to_dict()
        if history[-1]["decision"] == decision:
            return manifest
        write_json(
            metrics, sealed(history[-1] | {"decision": decision})
        )  # a new file: the donor's own stays as it is
        return replace(
            manifest, outputs=manifest.outputs | {layout.relative(metrics): describe_output(metrics)}
        )
