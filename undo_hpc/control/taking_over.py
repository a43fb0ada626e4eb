"""Work that is the same is done once: a run takes over from another what it would do alike, stage by stage, as links.

What is taken over is proven: the keys that a stage reads are the same, the models, the problems by digest, what the teacher is asked by
digest, and outputs are what their manifests say. The first iteration that is not taken over whole is the last one that is looked at: what
follows rests on it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from undo_hpc.config.load import differing_keys, is_neutral
from undo_hpc.control.position import make_plan
from undo_hpc.errors import EvidenceError
from undo_hpc.pipeline.own_prompts import as_in
from undo_hpc.pipeline.plan import EvaluationSlice, IterationPlan, Stage, Task, build_graph, decide_run
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import spec_of
from undo_hpc.pipeline.state import combined_digest, enough
from undo_hpc.storage.atomic import copy_file, link_file, read_json, write_json
from undo_hpc.storage.events import read_events
from undo_hpc.storage.manifest import Manifest, describe_output, read_manifest, verify_outputs, write_manifest

# The keys that a stage reads beside its inputs. (Models and what the teacher is asked are compared themselves.)
_ANSWERS = ("seed", "grading.", "evaluate.engine", "evaluate.sampling", "evaluate.samples")
_READS = {
    "generate": ("seed", "grading.", "generate."),
    "baseline": _ANSWERS,
    "merge": ("generate.samples", "method.wrong_rationales", "method.combine", "method.errors_from", "method.keep", "method.select",
              "method.pass_rate", "cluster.policy"),
    "train": ("seed", "train.", "distill.", "method.start_from", "method.signal"),
    "evaluate": _ANSWERS,
    "advance": ("method.", "grading.", "evaluate.", "cluster.policy", "stages"),
}  # fmt: skip
_SETS = ("baseline", "evaluate")  # they answer sets of problems
_ASKS = {"generate": "teacher", "baseline": "student", "train": "student", "evaluate": "student"}


def take_over(
    run: Run, donor: Run, *, iterations: int | None = None, but: str = ""
) -> dict[tuple[int, str], int]:
    """Takes over what the donor has done alike; returns the number of tasks by (iteration, stage). Nothing where `run` has begun.

    The run is prepared. Its plans are made as far as its work is taken over.

    Args:
        iterations: at most so many.
        but: a stage that is not taken over.

    Raises:
        StorageError: a file cannot be written; what was taken over until then is complete and stays.
    """
    mine, theirs = read_manifest(run.layout.prepared), read_manifest(donor.layout.prepared)
    if mine is None or theirs is None or (run.plan(0) is not None and not _was_interrupted(run)):
        return {}
    taker = _Taker(run, donor, mine, theirs, but)
    if not taker.fits("generate") and not taker.fits("baseline"):
        return {}
    run.events.append("taking_over", run_id=donor.id)
    for number in donor.layout.iterations()[:iterations]:
        plan = donor.plan(number)
        if plan is None:
            break
        if not taker.iteration(run.plan(number) or make_plan(run, number, shards=plan.shards), plan):
            break
    taken = dict(taker.taken)
    run.events.append("taken_over", iteration=0, tasks=sum(taken.values()), run_id=donor.id)
    return taken


def _was_interrupted(run: Run) -> bool:
    """Whether the last that happened to a run is that it began to take over, and was killed."""
    last = ""
    for event in read_events(run.layout.events):
        last = str(event.get("kind")) if event.get("kind") != "planned" else last
    return last == "taking_over"


class _Taker:
    def __init__(self, run: Run, donor: Run, mine: Manifest, theirs: Manifest, but: str) -> None:
        self.run, self.donor, self._but = run, donor, but
        self.taken: Counter[tuple[int, str]] = Counter()
        same_prompts = as_in(run.config, donor.config)
        pairs = differing_keys(donor.config.model_dump(mode="json"), same_prompts.model_dump(mode="json"))
        self._changed = [key for key, _, _ in pairs if not is_neutral(key)]
        self._same_files = {
            name for name, output in mine.outputs.items() if (other := theirs.outputs.get(name)) and other.sha256 == output.sha256
        }  # fmt: skip
        models = (mine.details.get("models", {}), theirs.details.get("models", {}))
        self._same_model = {
            role: run.asks_as(donor, role) and models[0].get(role) == models[1].get(role)
            for role in ("teacher", "student")
        }

    def fits(self, stage: str) -> bool:
        """Whether the keys that a stage reads are the same, and its model."""
        if (
            stage == self._but
            or stage not in _READS
            or any(key.startswith(_READS[stage]) for key in self._changed)
        ):
            return False
        return stage not in _ASKS or self._same_model[_ASKS[stage]]

    def _has_problems(self, *names: str) -> bool:
        return all(
            self.run.layout.relative(self.run.problems_file(name)) in self._same_files for name in names
        )

    def iteration(self, plan: IterationPlan, their_plan: IterationPlan) -> bool:
        """Takes over what fits of an iteration; returns whether that is all of it."""
        stages = build_graph(self.run.config, self.run.layout, plan)
        there = {stage.name: stage for stage in build_graph(self.donor.config, self.donor.layout, their_plan)}
        done: dict[str, list[Manifest]] = {}
        for stage in stages:
            if stage.name == "serve" or stage.name not in there or not self.fits(stage.name):
                continue
            if not all(name in done for name in stage.after) or not self._has_splits(stage):
                continue
            prompts = "generate" if stage.name == "generate" else "evaluate"
            asks = spec_of(stage.name).keeps_rows or stage.name == "train"
            if asks and plan.prompts.get(prompts) != their_plan.prompts.get(prompts):
                continue
            tasks = stage.tasks if stage.name not in _SETS else self._same_slices(stage, plan, their_plan)
            manifests = [m for task in tasks if (m := self._task(stage, task, done)) is not None]
            if enough(plan.policy_of(stage.name), len(manifests), len(stage.tasks)):
                done[stage.name] = manifests
            self.taken[plan.iteration, stage.name] += len(manifests)
        self.taken = +self.taken
        return "advance" in done

    def _has_splits(self, stage: Stage) -> bool:
        """Whether the problems that a stage reads itself are the same: all splits, but for answers, whose sets are compared one by one."""
        return spec_of(stage.name).keeps_rows or self._has_problems("train", "diagnosis", "validation")

    def _same_slices(self, stage: Stage, plan: IterationPlan, theirs: IterationPlan) -> tuple[Task, ...]:
        def of(each: IterationPlan) -> tuple[tuple[EvaluationSlice, ...], ...]:
            return each.baseline if stage.name == "baseline" else each.evaluate

        return tuple(
            task
            for task, parts in zip(stage.tasks, of(plan), strict=True)
            if of(theirs)[task.index : task.index + 1] == (parts,)
            and self._has_problems(*(p.problem_set for p in parts))
        )

    def _task(self, stage: Stage, task: Task, done: dict[str, list[Manifest]]) -> Manifest | None:
        """Links a task's outputs and writes its manifest; None where the donor has not done it, or from other inputs."""
        root = self.donor.layout.root
        try:
            manifest = read_manifest(root / task.manifest)
        except EvidenceError:
            return None
        if manifest is None or manifest.inputs.get("config") != self.donor.config_digest:
            return None
        wanted = dict(task.inputs)
        if "until" in wanted and wanted["until"] != manifest.inputs.get("until", ""):
            return None
        wanted.pop("until", None)
        for name in stage.after:
            used = manifest.details.get(f"{name}_used")
            wanted[name] = combined_digest([m for m in done[name] if used is None or m.index in used])
        if any(
            name in manifest.inputs and manifest.inputs[name] != digest for name, digest in wanted.items()
        ):
            return None
        if verify_outputs(root, manifest, deep=True):
            return None
        for name in manifest.outputs:
            link_file(root / name, self.run.layout.root / name)
        number = manifest.iteration
        if stage.name == "train":
            copy_file(
                self.donor.layout.iteration(number).train_metrics,
                self.run.layout.iteration(number).train_metrics,
            )
        manifest = self._decided(manifest) if stage.name == "advance" else manifest
        prepared = read_manifest(self.run.layout.prepared)
        inputs = manifest.inputs | {"config": self.run.config_digest}
        if "splits" in inputs and prepared is not None:
            inputs["splits"] = prepared.digest
        manifest = replace(
            manifest, inputs=inputs, details=manifest.details | {"taken_over_from": self.donor.id}
        )
        write_manifest(self.run.layout.root / task.manifest, manifest)
        return manifest

    def _decided(self, manifest: Manifest) -> Manifest:
        """The decision of an iteration under this run's own rule (`stop`, `iterations`), in its own copy of the metrics."""
        layout = self.run.layout
        metrics = layout.iteration(manifest.iteration).metrics
        history = [read_json(layout.iteration(k).metrics) for k in range(manifest.iteration + 1)]
        decision = decide_run(self.run.config, [item["sets"] for item in history]).to_dict()
        if history[-1]["decision"] == decision:
            return manifest
        write_json(
            metrics, history[-1] | {"decision": decision}
        )  # a new file: the donor's own stays as it is
        return replace(
            manifest, outputs=manifest.outputs | {layout.relative(metrics): describe_output(metrics)}
        )
