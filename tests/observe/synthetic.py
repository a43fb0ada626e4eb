"""A run directory without models: answers are drawn, everything else is written by the real writers and the real stages."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from undo_hpc.config.load import override
from undo_hpc.config.schema import QualityConfig, RunConfig
from undo_hpc.control.planning import make_plan
from undo_hpc.method.metrics import count_attempts
from undo_hpc.method.quality import assess
from undo_hpc.observe.after import after_iteration
from undo_hpc.pipeline.plan import IterationPlan, Stage, Task, build_graph
from undo_hpc.pipeline.run import Run, create_or_open
from undo_hpc.records import Attempt, Problem, Target, Verdict, content_id
from undo_hpc.stages import advance, merge
from undo_hpc.stages.context import StageContext
from undo_hpc.storage.atomic import write_bytes, write_json
from undo_hpc.storage.events import EventLog, read_events
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import Manifest, describe_output, read_manifest, sealed, write_manifest
from undo_hpc.storage.progress import ProgressFile
from undo_hpc.storage.shards import dump_rows, encode_sealed, read_rows

PEOPLE = ("Mia", "Noor", "Ada", "Li", "Tomás", "Ife")
THINGS = ("apples", "marbles", "stamps", "books", "shells")


def make_problem(idx: int, rng: random.Random, source: str = "synthetic") -> Problem:
    """A two-step word problem with its answer."""
    a, b, c = rng.randint(11, 90), rng.randint(3, 40), rng.randint(2, 9)
    who, what = rng.choice(PEOPLE), rng.choice(THINGS)
    text = f"{who} has {a} {what} and buys {b} more. A friend has {c} times as many. How many {what} has the friend? (no. {idx})"
    return Problem(
        content_id(text),
        text,
        str((a + b) * c),
        idx,
        source,
        f"{a} + {b} = {a + b}. {a + b} * {c} = {(a + b) * c}",
    )


def numbers(problem: Problem) -> tuple[int, int, int]:
    """The three numbers of a problem."""
    words = [int(w) for w in problem.problem.split("(")[0].split() if w.isdigit()]
    return words[0], words[1], words[2]


def answer(problem: Problem, how: str, *, refined: bool = False) -> str:
    """A worked answer: `right`, or wrong in a way that the diagnosis tells apart."""
    a, b, c = numbers(problem)
    total = a + b
    first = f"{a} + {b} = {total}"
    if refined:
        tens = a // 10 * 10
        first = f"Split {a} into {tens} and {a - tens}: {tens} + {b} = {tens + b}, then {tens + b} + {a - tens} = {total}"
    if how == "right":
        return f"First add what was bought: {first}.\nThen multiply: {total} * {c} = {total * c}.\nThe answer is \\boxed{{{total * c}}}"
    if how == "arithmetic":
        return f"First add what was bought: {a} + {b} = {total + 10}.\nThen {total + 10} * {c} = {(total + 10) * c}.\n\\boxed{{{(total + 10) * c}}}"
    if how == "setup":
        return f"The friend has {a} * {c} = {a * c}.\n\\boxed{{{a * c}}}"
    return f"First add what was bought: {a} + {b} = {total}. Then we have to look at"


def attempt(
    problem: Problem, how: str, number: int = 0, *, style: str = "plain", refined: bool = False
) -> Attempt:
    """One graded answer."""
    text = answer(problem, how, refined=refined)
    verdict: Verdict = "correct" if how == "right" else "wrong"  # as the checker says
    taken = text.rpartition("\\boxed{")[2].rstrip("}") if "\\boxed" in text else ""
    return Attempt(problem.problem_id, problem.idx, number, style, text, verdict, taken, "number", "length" if how == "truncated" else "stop",
                   40, len(text) // 3, 7, 0.7,
                   flags=assess(text, verdict=verdict, finish_reason="length" if how == "truncated" else "stop", config=QualityConfig()))  # fmt: skip


def set_metrics(run: Run, iteration: int, values: dict[str, object]) -> None:
    """Other metrics of an iteration, as `advance` would have published them."""
    at = run.layout.iteration(iteration)
    manifest = read_manifest(at.stage_manifest("advance"))
    assert manifest is not None
    write_json(at.metrics, sealed({key: value for key, value in values.items() if key != "seal"}))
    outputs = manifest.outputs | {run.layout.relative(at.metrics): describe_output(at.metrics)}
    write_manifest(at.stage_manifest("advance"), replace(manifest, outputs=outputs))


class RunBuilder:
    """Makes a run and plays its iterations.

    Args:
        problems: number of training problems.
        benchmarks: sizes of the benchmarks.
        left_out: rows of the distilled set that training leaves out, each time.
        skills: chance of a right answer, by iteration.
    """

    def __init__(
        self,
        root: Path,
        *,
        problems: int = 60,
        sets: Sequence[str] = (),
        benchmarks: dict[str, int] | None = None,
        validation: int = 25,
        seed: int = 0,
        left_out: int = 0,
        skills: Sequence[float] = (0.45, 0.6, 0.66, 0.62),
    ) -> None:
        self.rng, self.left_out, self.skills = random.Random(seed), left_out, skills
        config = override(RunConfig(), [
            "name=synthetic", "iterations=3", "generate.shards=2", "data.train.tiny=train", "teacher.model=tiny:teacher",
            "student.model=tiny:student", "evaluate.problems_per_task=50", "stop.patience=3", *sets])  # fmt: skip
        self.run: Run = create_or_open(config, root, command=["python", "launchers/run_iteration.py"])
        pool = [make_problem(k, self.rng) for k in range(problems + 40)]
        self.sets = {
            "train": pool[:problems],
            "diagnosis": pool[problems : problems + 15],
            "validation": pool[problems + 15 :][:validation],
        }
        for name, size in ({"gsm": 40, "hard": 30} if benchmarks is None else benchmarks).items():
            self.sets[name] = [make_problem(k, self.rng, name) for k in range(size)]
        self.prepare()

    @property
    def root(self) -> Path:
        """The run directory."""
        return self.run.layout.root

    def prepare(self) -> None:
        """Writes the splits and benchmarks with their manifest."""
        layout, splits = self.run.layout, ("train", "diagnosis", "validation")
        paths = {layout.split(n) if n in splits else layout.benchmark(n): ps for n, ps in self.sets.items()}
        for path, rows in paths.items():
            write_bytes(path, dump_rows([p.to_dict() for p in rows]))
        write_bytes(layout.rejected, b"")
        benchmarks = {n: {"title": n.upper(), "licence": "MIT", "n": len(ps), "of": len(ps), "source": {}}
                      for n, ps in self.sets.items() if n not in splits}  # fmt: skip
        write_manifest(layout.prepared, Manifest(
            "prepare", 0, 0, {"config": self.run.config_digest},
            {layout.relative(path): describe_output(path, len(rows)) for path, rows in paths.items()},
            {n: len(self.sets[n]) for n in splits} | {"rejected": 0, "duplicates": 0, "contaminated": 0},
            {"train_source": {"licence": "cc-by-4.0"}, "benchmarks": benchmarks}))  # fmt: skip

    def plan(self, iteration: int) -> IterationPlan:
        """Freezes an iteration's plan; from the second on the teacher writes for what the last student got wrong."""
        return make_plan(self.run, iteration)

    def plan_of(self, iteration: int) -> IterationPlan:
        """An iteration's plan as it stands now."""
        plan = self.run.plan(iteration)
        assert plan is not None
        return plan

    def graph(self, plan: IterationPlan) -> dict[str, Stage]:
        """The stages of an iteration by name."""
        return {s.name: s for s in build_graph(self.run.config, self.run.layout, plan)}

    def events(self, stage: Stage, task: Task, *, seconds: float = 60.0, status: str = "complete", load_s: float = 4.0,
               ago: float = 600.0, gpus: int = 1, ends: bool = True) -> None:  # fmt: skip
        """One start of a task, as the worker writes it, moved into the past."""
        path = self.run.layout.iteration(stage.iteration).events(stage.name, task.index)
        log = EventLog(path)
        log.append("start", job="", restart="0", gpus=gpus, cpus=2)
        if stage.name in ("generate", "evaluate", "baseline"):
            log.append("ready", load_s=load_s)
        if ends:
            log.append(
                "end",
                status=status,
                code={"complete": 0, "requeue": 75}.get(status, 1),
                reason="",
                seconds=seconds,
            )
        rows = list(read_events(path))
        mine = 3 if len(rows) >= 3 and rows[-2]["kind"] == "ready" else 2
        began = time.time() - ago
        for row in rows[-mine if ends else -mine + 1 :]:
            row["time"] = began + {"start": 0.0, "ready": load_s, "end": seconds}[row["kind"]]
        write_bytes(path, map(encode_sealed, rows))

    def publish(self, stage: Stage, task: Task, shards: list[list[Attempt]], inputs: dict[str, str]) -> None:
        """A task's shards and its manifest."""
        for name, rows in zip(task.outputs, shards, strict=True):
            write_bytes(self.root / name, dump_rows([row.to_dict() for row in rows]))
        rows = [row for shard in shards for row in shard]
        solved = {row.problem_id for row in rows if row.verdict == "correct"}
        made = count_attempts(rows) | {"problems": len({r.problem_id for r in rows}), "solved": len(solved)}
        made |= {"new_tokens": int(made["completion_tokens"]), "seconds": 50.0}
        outputs = {
            name: describe_output(self.root / name, len(shard))
            for name, shard in zip(task.outputs, shards, strict=True)
        }
        write_manifest(self.root / task.manifest, Manifest(
            stage.name, stage.iteration, task.index, {"config": self.run.config_digest} | inputs, outputs, made, {}, {},
            time.time() - 60, time.time()))  # fmt: skip

    def generate(self, plan: IterationPlan, only: Iterable[int] | None = None) -> None:
        """The teacher's shards, or some of them."""
        stage, at = self.graph(plan)["generate"], self.run.layout.iteration(plan.iteration)
        for task in stage.tasks:
            if only is not None and task.index not in only:
                continue
            rows: list[Attempt] = []
            for target in map(Target.from_dict, read_rows(at.targets_file(task.index))):
                p, style = target.to_problem(), target.style
                fails = self.rng.random() < 0.2
                if fails:
                    rows.append(attempt(p, self.rng.choice(("arithmetic", "truncated")), 0, style=style))
                if not fails or self.rng.random() < 0.7:
                    rows.append(attempt(p, "right", int(bool(rows) and rows[-1].problem_id == p.problem_id), style=style,
                                        refined=style == "refine"))  # fmt: skip
            self.events(stage, task, ago=3000 - 1000 * plan.iteration)
            self.publish(stage, task, [rows], dict(task.inputs))

    def single(self, plan: IterationPlan, name: str) -> None:
        """merge or advance, by the stage itself."""
        stage = self.graph(plan)[name]
        context = self.context(plan, stage, stage.tasks[0])
        with context.lease:
            {"merge": merge, "advance": advance}[name].run_stage(context)
        self.events(stage, stage.tasks[0], seconds=2.0, ago=1500 - 500 * plan.iteration, gpus=0)

    def context(self, plan: IterationPlan, stage: Stage, task: Task) -> StageContext:
        """What the worker would hand to a stage."""
        at = self.run.layout.iteration(plan.iteration)
        return StageContext(self.run, plan, stage, task, EventLog(at.events(stage.name, task.index)),
                            ProgressFile(at.progress(stage.name, task.index)), Lease(at.lease(stage.name, task.index), "a task"),
                            lambda: False, lambda: None)  # fmt: skip

    def train(self, plan: IterationPlan) -> None:
        """A student of a few bytes, and its curve."""
        at, stage = self.run.layout.iteration(plan.iteration), self.graph(plan)["train"]
        write_json(at.student / "config.json", {"model_type": "synthetic"})
        write_bytes(at.student / "model.safetensors", b"weights of iteration %d" % plan.iteration)
        rows = [{"step": 10 * k, "epoch": k / 10, "loss": 2.2 * 0.86**k + 0.3 - 0.05 * plan.iteration + 0.05 * self.rng.random(), "lr": 1e-3 * (1 - k / 31),
                 "grad_norm": 1.0, "tokens": 15000, "target_tokens": 9000, "tokens_per_s": 5000.0, "useful": 0.95, "seconds": 3.0, "left_s": 3.0 * (30 - k)}
                for k in range(1, 31)]  # fmt: skip
        write_bytes(at.train / "metrics.jsonl", dump_rows(rows))
        self.events(stage, stage.tasks[0], seconds=300, ago=2000 - 500 * plan.iteration)
        merged = read_manifest(at.stage_manifest("merge"))
        assert merged is not None
        from undo_hpc.pipeline.state import combined_digest

        files = {self.run.layout.relative(p): describe_output(p) for p in sorted(at.student.iterdir())}
        learned = self._learned(merged.counts["rows"])
        write_manifest(at.stage_manifest("train"), Manifest(
            "train", plan.iteration, 0, {"config": self.run.config_digest, "merge": combined_digest([merged])}, files,
            {"step": 300, "loss": rows[-1]["loss"], "tokens": 450000, "target_tokens": 270000} | learned, {"rows": merged.counts["rows"]}, {},
            time.time() - 300, time.time()))  # fmt: skip

    def evaluate(
        self,
        plan: IterationPlan,
        name: str = "evaluate",
        *,
        skill: float = 0.5,
        only: Iterable[int] | None = None,
    ) -> None:
        """The student's answers; `skill` is its chance to be right."""
        from undo_hpc.pipeline.state import combined_digest
        from undo_hpc.stages.prepare import prepared_digest

        stage, at = self.graph(plan)[name], self.run.layout.iteration(plan.iteration)
        inputs = {"splits": prepared_digest(self.run)}
        if name == "evaluate":
            trained = read_manifest(at.stage_manifest("train"))
            assert trained is not None
            inputs["train"] = combined_digest([trained])
        for task, parts in zip(
            stage.tasks, plan.evaluate if name == "evaluate" else plan.baseline, strict=True
        ):
            if only is not None and task.index not in only:
                continue
            shards = [
                [
                    self._student(p, skill, k)
                    for p in self.sets[part.problem_set][part.start : part.stop]
                    for k in range(self.run.config.evaluate.asked(part.problem_set)[0])
                ]
                for part in parts
            ]
            self.events(stage, task, seconds=40, ago=1200 - 400 * plan.iteration)
            self.publish(stage, task, shards, inputs)

    def _learned(self, rows: int) -> dict[str, object]:
        reasons = {"longer than max_length (512)": self.left_out} if self.left_out else {}
        counts = {"rows_given": rows, "rows_learned": rows - self.left_out, "rows_left_out": reasons}
        return counts | ({"problems_learned": rows - self.left_out} if reasons else {})

    def _student(self, problem: Problem, skill: float, number: int = 0) -> Attempt:
        talent = random.Random(problem.problem_id).random()  # the same problems stay easy
        chance = skill + 0.35 * (talent - 0.5)
        how = (
            "right"
            if self.rng.random() < chance
            else self.rng.choice(("arithmetic", "arithmetic", "setup", "truncated"))
        )
        made = attempt(problem, how, number, style="student")
        if how == "right" and talent > 0.9:  # some never learn to write the box
            made = replace(made, text=made.text.replace("\\boxed{", "").rstrip("}"))
        return made

    def play(self, iterations: int = 2) -> Run:
        """Whole iterations, one after another."""
        for k in range(iterations):
            plan = self.plan(k)
            self.generate(plan)
            if plan.baseline:
                self.evaluate(plan, "baseline", skill=0.2)
            self.single(plan, "merge")
            self.train(plan)
            self.evaluate(plan, skill=self.skills[k % len(self.skills)])
            self.single(plan, "advance")
            after_iteration(self.run, k)
        return self.run
