"""What the models of a run will see, of one problem: the prompts with their chat templates, and what training puts under the loss.

Rendered by the functions that generate, train and evaluate use; loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from undo_hpc.chat.template import ChatTemplate, RenderError
from undo_hpc.chat.training_text import NotLearned
from undo_hpc.config.parts import asks, effective_iterations, has_rationales, only_evaluates
from undo_hpc.config.schema import ModelConfig, RunConfig
from undo_hpc.errors import UndoError
from undo_hpc.method.targets import first_target, refine_target, shown_example, shown_past
from undo_hpc.models.resolve import loaded_models
from undo_hpc.prompts import load_prompts
from undo_hpc.records import Problem, Target
from undo_hpc.stages.targets import prompt_of
from undo_hpc.training.loss_tokens import load_tokenizer, loss_tokens
from undo_hpc.training.student_check import template_of, tokenizer_files, writer_of

MADE_UP = Problem("example", "A box holds 17 red and 25 blue pens. How many pens is that?", "42", 0)
_SHOWN_TOKENS = 80


@dataclass(frozen=True)
class Sample:
    """One thing to show: what it is, a remark on what in it is made up or missing, and the text."""

    title: str
    remark: str
    text: str


def samples(config: RunConfig, problem: Problem | None, date: str) -> Iterator[Sample]:
    """Teacher prompt, refinement prompt, student prompt, and the tokens under the loss of one example.

    Args:
        problem: a training problem (of a run that only evaluates, one of a benchmark); None shows a made-up one.
        date: the day that a chat template with a date prints.
    """
    made_up = problem is None
    about = "of a training problem" if not only_evaluates(config) else "of a problem of the first benchmark"
    if made_up:
        about = "of a made-up problem, for the data is not read here"
    shown = problem or MADE_UP
    if has_rationales(config):
        own = config.method.condition == "ground_truth"
        what = (
            "the data's own solutions teach (method.condition)"
            if own
            else "rationales exist already (data.rationales)"
        )
        yield Sample("teacher prompt", f"none: {what}", "")
    elif asks(config, "teacher"):
        yield _teacher(config, "teacher prompt", about, first_target(shown.to_dict(), config.method), date)
    if asks(config, "teacher") and effective_iterations(config) > 1:
        remark = (
            f"{about}; the rationale{'' if config.method.condition == 'blind' else ' and the attempt of the student'} in it "
            "are made up: no model wrote them"
        )
        yield _teacher(config, "refinement prompt", remark, _refinement(config, shown), date)
    elif asks(config, "teacher"):
        yield Sample("refinement prompt", "none: the run has one iteration", "")
    if asks(config, "student"):
        yield from _student(config, shown, about, date)


def _rationale(problem: Problem) -> str:
    return f"We work through the problem step by step.\nThe answer is \\boxed{{{problem.ground_truth}}}."


def _refinement(config: RunConfig, problem: Problem) -> Target:
    method = config.method
    attempt = problem.to_dict() | {
        "rationale": _rationale(problem),
        "student_answer": "I am not sure how to begin: 1 + 1 = 3.\nThe answer is \\boxed{?}.",
        "verdict": "wrong",
        "error_kind": "arithmetic",
        "score": 0.0,
    }
    other = attempt | {"problem_id": "example", "problem": "A made-up problem."}
    examples = (shown_example(other, method),) * min(1, method.examples)
    history = (shown_past(attempt, attempt, method, 0),) if method.history == "all" else ()
    return refine_target(problem.to_dict(), attempt, attempt, method, examples, history)


class ModelReader:
    """Prompts as a model reads them: with its chat template, which is loaded once.

    Args:
        served: a server of others puts its own template around the prompt, which is not known here.
    """

    def __init__(self, model: ModelConfig, *, date: str = "", served: bool = False) -> None:
        self._model = model
        self.template: ChatTemplate | None = None
        self._why = ""
        if served:
            self._why = "the server's chat template is not known here"
            return
        try:
            self.template = template_of(model, date=date)
            if self.template is None:
                self._why = f"without the chat template of {model.model}, which cannot be read here"
        except UndoError as error:
            self._why = self._unusable(error)

    def _unusable(self, error: Exception) -> str:
        return f"without the chat template of {self._model.model}, which cannot be used ({str(error).splitlines()[0]})"

    def read(self, text: str) -> tuple[str, str]:
        """The prompt of a user's turn, and what is missing in it (empty where nothing is)."""
        system = self._model.system_prompt
        why = self._why
        if self.template is not None:
            turns = [{"role": "system", "content": system}] * bool(system)
            try:
                return self.template.render([*turns, {"role": "user", "content": text}], True), ""
            except RenderError as error:
                why = self._unusable(error)
        return (f"{system}\n\n{text}" if system else text), why


def _teacher(config: RunConfig, title: str, about: str, target: Target, date: str) -> Sample:
    model = config.teacher
    text = prompt_of(target, load_prompts(model.prompt), model.instruction)
    reader = ModelReader(model, date=date, served="teacher" not in loaded_models(config))
    return _read(reader, title, about, text)


def _read(reader: ModelReader, title: str, about: str, text: str) -> Sample:
    shown, missing = reader.read(text)
    return Sample(title, f"{about}; {missing}" if missing else about, shown)


def _student(config: RunConfig, problem: Problem, about: str, date: str) -> Iterator[Sample]:
    model = config.student
    turn = load_prompts(model.prompt).student(problem.problem, model.instruction)
    reader = ModelReader(model, date=date)
    yield _read(reader, "student prompt", about, turn)
    if only_evaluates(config):
        return
    title = "tokens under the loss"
    rationale, source = problem.solution, "the data's own solution stands for the rationale"
    if not rationale:
        rationale, source = _rationale(problem), "the rationale is made up: no model wrote it"
    text, counts = learned_tokens(config, problem.problem, rationale, date)
    yield Sample(title, f"{about}; {source}; {counts}", text)


def learned_tokens(config: RunConfig, problem: str, rationale: str, date: str) -> tuple[str, str]:
    """What the student learns of a rationale, its tokens in a line; and how many there are, or why it is left out."""
    model = config.student
    turn = load_prompts(model.prompt).student(problem, model.instruction)
    try:
        template = template_of(model, date=date)
        return _loss(config, template, turn, rationale) if template else ("", "no chat template here")
    except (UndoError, RenderError, NotLearned) as error:
        return "", f"it would be left out: {str(error).splitlines()[0]}"


def _loss(config: RunConfig, template: ChatTemplate, user_turn: str, rationale: str) -> tuple[str, str]:
    """The learned tokens in a line, and how many there are."""
    writer = writer_of(config.student, template)
    turn = writer.write(user_turn, rationale)
    folder = tokenizer_files(config.student)
    tokenizer = load_tokenizer(folder) if folder else None
    if tokenizer is None:
        return (
            turn.target,
            "its tokens are not known here (no tokenizer.json that can be read), this is their text",
        )
    found = loss_tokens(tokenizer, turn, eos_token=template.eos_token, closing=writer.closing)
    if found is None:
        raise NotLearned("the answer holds an end-of-turn token")
    shown = list(found.learned)
    if len(shown) > _SHOWN_TOKENS:
        half = _SHOWN_TOKENS // 2
        shown = [*shown[:half], f" ... {len(shown) - 2 * half} more ... ", *shown[-half:]]
    counts = f"{found.prompt} tokens of the prompt without loss, then these {len(found.learned)}"
    length, limit = found.prompt + len(found.learned), config.train.max_length
    if length > limit:
        counts += f"; {length} is over train.max_length ({limit}): {config.train.too_long}"
    return "|".join(text.replace("\n", "\\n") for text in shown), counts
