"""A set of prompt templates: loaded once, rendered for each request, with a digest that the run records."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from undo_hpc.errors import DataError
from undo_hpc.prompts.template import NAMES, Template
from undo_hpc.records import ShownExample
from undo_hpc.storage.opening import open_binary
from undo_hpc.system.lent import require_no_stray_link, require_not_lent, undisturbed

log = logging.getLogger(__name__)
_HERE = Path(__file__).resolve().parent
_NEEDED = {
    "problem": {"problem"},
    "refine": {"problem", "rationale"},
    "student": {"problem"},
    "example": set(),
    "history": set(),
    "score": {"problem", "rationale"},
}
# The placeholders of each template.
KNOWN = {
    "problem": ("problem", "instruction"),
    "refine": NAMES,
    "student": ("problem", "instruction"),
    "example": ("problem", "rationale", "student_answer", "verdict", "score"),
    "history": ("iteration", "rationale", "student_answer", "verdict", "score"),
    "score": ("problem", "rationale", "instruction"),  # never the attempt: a teacher that sees it copies it
}
_OPTIONAL = ("example", "history", "score")  # the default's where a folder has none

# What `{{ verdict }}` says. A verdict that is not here stands as it is.
_VERDICTS = {
    "no_answer": "no final answer",
    "unparsed": "final answer cannot be read",
    "timeout": "final answer cannot be checked",
}
# What `{{ error_kind }}` says.
_KINDS = {
    "arithmetic": "a false calculation",
    "setup": "wrong quantities or operations",
    "no_answer": "no final answer",
    "truncated": "cut off before its end",
    "format": "a final answer that cannot be read",
}


class PromptSet:
    """The templates of a set.

    Args:
        templates: name of the file without `.txt` -> template; `problem`, `refine`, `student`, `example`, `history`, `score`.
        where: the folder, for messages.

    Attributes:
        digest: SHA-256 over all templates but `score`, recorded with each shard.
        score_digest: the same with `score`, recorded with scores.
    """

    def __init__(self, templates: dict[str, Template], *, where: str = "the prompt set") -> None:
        self._templates, self.where = templates, where
        self.digest = self._digest_of(set(templates) - {"score"})
        self.score_digest = self._digest_of(templates)

    def problem(self, problem: str, instruction: str = "") -> str:
        """What the teacher is asked for its first rationale."""
        return self._render("problem", problem=problem, instruction=instruction)

    def score(self, problem: str, rationale: str, instruction: str = "") -> str:
        """What stands before an answer of the student while the teacher scores it, beside the problem its own new rationale."""
        return self._render("score", problem=problem, rationale=rationale, instruction=instruction)

    def refine(
        self,
        problem: str,
        rationale: str,
        student_answer: str,
        verdict: str,
        *,
        truth: str = "",
        examples: Sequence[ShownExample] = (),
        history: Sequence[ShownExample] = (),
        score: str = "",
        error_kind: str = "",
        failed_step: str = "",
        instruction: str = "",
    ) -> str:
        """What the teacher is asked for a new rationale.

        An empty `student_answer` is the blind variant: nothing of the attempt, its verdict, score or diagnosis is shown. An
        empty `truth` keeps the ground truth out. `examples` are shown as other problems with their attempts, `history` as what
        was shown and tried of this one before.
        """
        about = {"score": score, "error_kind": _KINDS.get(error_kind, error_kind), "failed_step": failed_step}
        return self._render(
            "refine",
            problem=problem,
            rationale=rationale,
            student_answer=student_answer,
            verdict=_VERDICTS.get(verdict, verdict) if student_answer else "",
            truth=truth,
            examples="\n\n".join(self._shown("example", e, problem=e.problem) for e in examples),
            history="\n\n".join(self._shown("history", e, iteration=str(e.iteration)) for e in history),
            instruction=instruction,
            **(about if student_answer else {}),
        )

    def texts(self) -> dict[str, str]:
        """The templates word for word, by name."""
        return {name: template.text for name, template in sorted(self._templates.items())}

    def shows(self, name: str, placeholder: str) -> bool:
        """Whether a template has a placeholder."""
        return name in self._templates and placeholder in self._templates[name].names

    def _shown(self, name: str, row: ShownExample, **more: str) -> str:
        return self._render(
            name,
            rationale=row.rationale,
            student_answer=row.student_answer,
            verdict=_VERDICTS.get(row.verdict, row.verdict) if row.student_answer else "",
            score=row.score if row.student_answer else "",
            **more,
        )

    def student(self, problem: str, instruction: str = "") -> str:
        """What the student is asked in training and in evaluations."""
        return self._render("student", problem=problem, instruction=instruction)

    def require(self, *names: str) -> None:
        """Raises DataError where one of these templates is missing: a folder needs only those that its run uses."""
        for name in names:
            if name not in self._templates:
                raise DataError(
                    f"{self.where} has no {name}.txt",
                    hint=f"add {name}.txt to it; see undo_hpc/prompts/default",
                )

    def _digest_of(self, names: Iterable[str]) -> str:
        joined = "\x1e".join(f"{name}\x1f{self._templates[name].text}" for name in sorted(names))
        return hashlib.sha256(joined.encode()).hexdigest()

    def _render(self, name: str, **values: str) -> str:
        self.require(name)
        return self._templates[name].render(values)


def is_embedded(name: str) -> bool:
    """Whether it is the name of a set that comes with the project, and no folder of the user's."""
    return name.isidentifier() and (_HERE / name).is_dir()


def load_prompts(name_or_dir: str) -> PromptSet:
    """The prompt set of that name (`default`, `tiny`), or of that folder.

    A folder needs only the files that its run uses (`student.txt` alone for an evaluation); a missing `example.txt`,
    `history.txt` or `score.txt` is the default's.

    Raises:
        DataError: no such set, an empty folder, or a template that lacks a placeholder it cannot do without.
        ConfigError: a template with an unknown placeholder, or one that cannot be read or rendered.
    """
    folder = _HERE / name_or_dir if is_embedded(name_or_dir) else Path(name_or_dir)
    if not folder.is_dir():
        embedded = sorted(path.name for path in _HERE.iterdir() if (path / "problem.txt").is_file())
        raise DataError(
            f"there is no prompt set {name_or_dir!r}",
            hint=f"set `teacher.prompt` or `student.prompt` to one of {', '.join(embedded)}, or to a folder with problem.txt, refine.txt and student.txt",
        )
    files = {path.stem: path for path in sorted(folder.glob("*.txt")) if path.stem in _NEEDED}
    if not files.keys() - set(_OPTIONAL):
        raise DataError(
            f"{folder}: holds none of problem.txt, refine.txt, student.txt",
            hint="copy undo_hpc/prompts/default and change it",
        )
    for name in _OPTIONAL:
        files.setdefault(name, _HERE / "default" / f"{name}.txt")
    templates = {}
    for name, path in files.items():
        try:
            with undisturbed([path]):
                require_not_lent(path)
                require_no_stray_link(path, path.parent, "the prompts")
                with io.TextIOWrapper(
                    open_binary(path), "utf-8-sig"
                ) as file:  # the mark that some editors put first is no part of a prompt
                    text = file.read()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not UTF-8 text ({error})", hint="save it as UTF-8") from error
        except FileNotFoundError as error:
            raise DataError(
                f"{path}: is a link that leads nowhere", hint="put the file itself there"
            ) from error
        if "\0" in text:
            raise DataError(f"{path}: holds a zero byte", hint="save it as UTF-8")
        template = Template(text, where=str(path), known=KNOWN[name])
        if missing := _NEEDED[name] - template.names:
            raise DataError(
                f"{path}: lacks {{{{ {min(missing)} }}}}", hint="a prompt without it cannot be answered"
            )
        if template.old_syntax:
            _tell_old_syntax(path)
        templates[name] = template
    return PromptSet(templates, where=f"the prompt set {folder}")


@cache  # once a process
def _tell_old_syntax(path: Path) -> None:
    log.warning(
        "%s: {name} is still read, but is written {{ name }} now, and {#name} ... {/name} as {%% if name %%} ... {%% endif %%}",
        path,
    )
