"""A set of prompt templates: loaded once, rendered for each request, with a digest that the run records."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from undo_hpc.errors import DataError
from undo_hpc.prompts.template import NAMES, Template
from undo_hpc.records import Feedback, ShownExample

log = logging.getLogger(__name__)
_HERE = Path(__file__).resolve().parent
_NEEDED = {
    "problem": {"problem"},
    "refine": {"problem", "rationale"},
    "student": {"problem"},
    "example": set(),
}
# The placeholders of each template.
KNOWN = {
    "problem": ("problem", "instruction"),
    "refine": NAMES,
    "student": ("problem", "instruction"),
    "example": ("problem", "rationale", "student_answer", "verdict"),
}

# What `{{ verdict }}` says. A verdict that is not here stands as it is.
_VERDICTS = {
    "no_answer": "no final answer",
    "unparsed": "final answer cannot be read",
    "timeout": "final answer cannot be checked",
}


class PromptSet:
    """The templates of a set.

    Args:
        templates: name of the file without `.txt` -> template; `problem`, `refine`, `student`, `example`.
        where: the folder, for messages.

    Attributes:
        digest: SHA-256 over all templates, recorded with each shard.
    """

    def __init__(self, templates: dict[str, Template], *, where: str = "the prompt set") -> None:
        self._templates, self.where = templates, where
        joined = "\x1e".join(f"{name}\x1f{templates[name].text}" for name in sorted(templates))
        self.digest = hashlib.sha256(joined.encode()).hexdigest()

    def problem(self, problem: str, instruction: str = "") -> str:
        """What the teacher is asked for its first rationale."""
        return self._render("problem", problem=problem, instruction=instruction)

    def refine(
        self,
        problem: str,
        rationale: str,
        student_answer: str,
        verdict: str,
        *,
        truth: str = "",
        examples: Sequence[ShownExample | Feedback] = (),
        instruction: str = "",
    ) -> str:
        """What the teacher is asked for a new rationale.

        An empty `student_answer` is the blind variant: nothing of the attempt nor of its verdict is shown. An empty
        `truth` keeps the ground truth out. `examples` are shown as other problems with their attempts.
        """
        shown = "\n\n".join(
            self._render(
                "example",
                problem=e.problem,
                rationale=e.rationale,
                student_answer=e.student_answer,
                verdict=_VERDICTS.get(e.verdict, e.verdict) if e.student_answer else "",
            )
            for e in examples
        )
        return self._render(
            "refine",
            problem=problem,
            rationale=rationale,
            student_answer=student_answer,
            verdict=_VERDICTS.get(verdict, verdict) if student_answer else "",
            truth=truth,
            examples=shown,
            instruction=instruction,
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

    def _render(self, name: str, **values: str) -> str:
        self.require(name)
        return self._templates[name].render(values)


def load_prompts(name_or_dir: str) -> PromptSet:
    """The prompt set of that name (`default`, `tiny`), or of that folder.

    A folder needs only the files that its run uses (`student.txt` alone for an evaluation); a missing `example.txt` is
    the default's.

    Raises:
        DataError: no such set, an empty folder, or a template that lacks a placeholder it cannot do without.
        ConfigError: a template with an unknown placeholder, or one that cannot be read or rendered.
    """
    folder = (
        _HERE / name_or_dir
        if name_or_dir.isidentifier() and (_HERE / name_or_dir).is_dir()
        else Path(name_or_dir)
    )
    if not folder.is_dir():
        embedded = sorted(path.name for path in _HERE.iterdir() if (path / "problem.txt").is_file())
        raise DataError(
            f"there is no prompt set {name_or_dir!r}",
            hint=f"take one of {', '.join(embedded)}, or a folder with problem.txt, refine.txt and student.txt",
        )
    files = {path.stem: path for path in sorted(folder.glob("*.txt")) if path.stem in _NEEDED}
    if not files.keys() - {"example"}:
        raise DataError(
            f"{folder}: holds none of problem.txt, refine.txt, student.txt",
            hint="copy undo_hpc/prompts/default and change it",
        )
    files.setdefault("example", _HERE / "default" / "example.txt")
    templates = {}
    for name, path in files.items():
        try:
            template = Template(path.read_text(encoding="utf-8"), where=str(path), known=KNOWN[name])
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not UTF-8 text ({error})", hint="save it as UTF-8") from error
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
