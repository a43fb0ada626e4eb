"""What the next iteration will cost, and the gate that asks before it is started: what is spent plus the estimate against the budget."""

from __future__ import annotations

from dataclasses import dataclass

from undo_hpc.cluster.profile import load_profile, read_frozen
from undo_hpc.config.parts import refines
from undo_hpc.config.schema import RunConfig, StageResources
from undo_hpc.control.spent import GENERATION, measure
from undo_hpc.errors import Incomplete
from undo_hpc.pipeline.results import find_metrics
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.workload import Workload, estimate
from undo_hpc.system.invocation import resume_hint
from undo_hpc.system.wording import counted, three_digits


@dataclass(frozen=True)
class Estimate:
    """What an iteration will cost. `basis` says where the figure comes from."""

    iteration: int
    gpu_hours: float
    cpu_hours: float
    basis: str


def estimate_next(run: Run) -> Estimate:
    """What the next iteration will cost: the last complete one's, its generation scaled by the number of problems.

    Before the first iteration there is nothing to go by but the configuration: tokens over speed for generation, and as much
    again for training and evaluation. `basis` says which it is.
    """
    complete = [k for k in run.layout.iterations() if run.layout.iteration(k).metrics.exists()]
    if not complete:
        return _guess(run)
    last = complete[-1]
    cost = measure(run)
    scale, problems = _scale(run, last)
    gpu = cpu = 0.0
    for item in cost.stages:
        if item.iteration == last and item.stage != "baseline":
            times = scale if item.stage in GENERATION else 1.0
            useful_gpu, useful_cpu = item.gpu.useful + item.gpu.idle, item.cpu.useful + item.cpu.idle
            gpu, cpu = gpu + times * useful_gpu, cpu + times * useful_cpu
    basis = (
        f"as iteration {last} without what was lost; the teacher writes for {counted(problems, 'problem')}"
    )
    if (
        cost.taken_over
        and cost.per_rationale_s.get(last) is None
        and not any(item.stage in GENERATION for item in cost.stages if item.iteration == last)
    ):
        guess, plan = _guess(run), run.plan(0)
        times = (
            problems / plan.problems / 2 if plan and plan.problems else 0.0
        )  # half of a guess is the teacher's
        gpu, cpu = gpu + times * guess.gpu_hours, cpu + times * guess.cpu_hours
        basis += ", whose hours are a guess: that work was taken over"
    return Estimate(last + 1, gpu, cpu, basis)


def _scale(run: Run, last: int) -> tuple[float, int]:
    """Problems of the next iteration over those of the last, and their number: from its plan, else as `advance` counted them."""
    plan, following = run.plan(last), run.plan(last + 1)
    if plan is None or not plan.problems:
        return 1.0, 0
    problems = plan.problems
    if following is not None:
        problems = following.problems
    elif refines(run.config):
        metrics = find_metrics(run, last)
        problems = int(metrics.get("to_refine", problems))
    return problems / plan.problems, problems


def _guess(run: Run) -> Estimate:
    plan = run.plan(0)
    problems = plan.problems if plan else run.config.data.train.sample or 0
    expected = Workload(**plan.workload) if plan and plan.workload else estimate(run.config, 0, problems)
    speed = expected.tokens_per_second
    hours = 2 * expected.completion_tokens / speed / 3600
    gpus = _generation_gpus(run)
    if not gpus:
        return Estimate(
            0,
            0.0,
            hours,
            f"a guess: {counted(problems, 'problem')} at {speed:g} tokens/s, and as much again for the rest",
        )
    return Estimate(
        0,
        hours * gpus,
        0.0,
        f"a guess: {counted(problems, 'problem')} at {speed:g} tokens/s a task, and as much again for the rest",
    )


def _generation_gpus(run: Run) -> int:
    """GPUs of one task of generation; on a cluster at least one is assumed."""
    cluster = run.config.cluster
    asked = cluster.resources.get("generate", StageResources())
    if cluster.kind == "local":
        return asked.gpus_per_node or 0
    frozen = run.layout.profile
    profile = read_frozen(frozen) if frozen.exists() else load_profile(cluster.profile)
    resources = profile.for_stage("generate", asked)
    return max(1, (resources.nodes or 1) * (resources.gpus_per_node or 0))


def require_budget(run: Run, iteration: int, *, begun: bool) -> None:
    """To be called before anything of an iteration is started.

    Args:
        begun: whether the iteration has begun; what has begun is finished whatever it costs.

    Raises:
        Incomplete: the iteration would exceed the budget; the same command continues once the budget is raised.
    """
    why = None if begun else check_budget(run)
    if why:
        run.events.append("stopped", iteration=iteration, by="budget", why=why)
        raise Incomplete(why, hint=f"{resume_hint(run.layout.root)} --set budget.gpu_hours=N (0 is no limit)")


def check_budget(run: Run, config: RunConfig | None = None) -> str | None:
    """Why the next iteration must not begin, or None where it may: what is spent plus its estimate against the budget."""
    budget = (config or run.config).budget
    if not budget.gpu_hours and not budget.cpu_hours:
        return None
    cost, following = measure(run), estimate_next(run)
    for name, limit, spent, more in (
        ("GPU", budget.gpu_hours, cost.gpu.total, following.gpu_hours),
        ("CPU", budget.cpu_hours, cost.cpu.total, following.cpu_hours),
    ):
        if limit and spent + more > limit:
            return (
                f"iteration {following.iteration} would exceed the budget of {limit:g} {name}-hours: {three_digits(spent)} are spent, and it is "
                f"estimated at {three_digits(more)} ({following.basis}); raise budget.{name.lower()}_hours to continue"
            )
    return None
