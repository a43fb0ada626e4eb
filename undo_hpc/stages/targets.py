"""Which problems the teacher writes for in an iteration: the splits and the last iteration's feedback, read and chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from undo_hpc.errors import DataError
from undo_hpc.method.targets import Target, choose_targets, example_rows
from undo_hpc.pipeline.plan import IterationPlan
from undo_hpc.pipeline.run import Run
from undo_hpc.prompts import PromptSet, load_prompts
from undo_hpc.records import Feedback
from undo_hpc.storage.shards import read_rows


def read_feedback(run: Run, iteration: int) -> list[Feedback]:
    """What the iteration before found out about the student; empty for iteration 0."""
    if iteration == 0:
        return []
    return [Feedback.from_dict(row) for row in read_rows(run.layout.iteration(iteration - 1).feedback)]


def targets_of(run: Run, iteration: int) -> list[Target]:
    """All problems that the teacher writes for in an iteration, before they are dealt to shards."""
    method = run.config.method
    held_out = run.problems("diagnosis") if method.errors_from != "train" else []
    return choose_targets(
        iteration, run.problems("train"), held_out, read_feedback(run, iteration), method, run.config.seed
    )


def planned_prompts(plan: IterationPlan, stage: str, name: str) -> PromptSet:
    """The templates that `generate` or `evaluate` asks with.

    Raises:
        DataError: they are not those that the iteration was planned with. Some of its rows may rest on those, and nobody
            could tell an effect of the new words from one of the method.
    """
    prompts = load_prompts(name)
    planned = plan.prompts.get(stage, prompts.digest)
    if prompts.digest != planned:
        raise DataError(
            f"the prompt templates of {stage} ({name}) were changed after iteration {plan.iteration} was planned "
            f"({planned[:8]} then, {prompts.digest[:8]} now)",
            hint=f"put them back as they were; or delete iter_{plan.iteration:03d} of the run directory and run the launcher "
            "again, which has the whole iteration written with the new ones",
        )
    return prompts


def prompts_of(
    run: Run, iteration: int, targets: Iterable[Target], prompts: PromptSet | None = None
) -> Iterator[str]:
    """What the teacher is asked of each target: the plain problem, or the refinement of its last rationale.

    Args:
        prompts: the templates, where they are loaded already.
    """
    config = run.config
    prompts = prompts or load_prompts(config.teacher.prompt)
    examples = example_rows(read_feedback(run, iteration), config.method.validation_examples, config.seed)
    for target in targets:
        problem, feedback = target.problem, target.feedback
        if feedback is None:
            yield prompts.problem(problem.problem, config.teacher.instruction)
        else:
            yield prompts.refine(
                problem.problem,
                feedback.rationale,
                feedback.student_answer,
                feedback.verdict,
                truth=problem.ground_truth if config.method.show_truth else "",
                examples=examples,
                instruction=config.teacher.instruction,
            )
