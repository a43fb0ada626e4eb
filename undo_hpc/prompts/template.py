"""The smallest template language that can hold mathematics: braces are plain text unless they name a known placeholder.

Syntax, a part of Mustache's with single braces:
    {problem}                        the value, put in once as it is: braces inside a value are never looked at again
    {#student_answer} ... {/student_answer}   kept where the value is not empty
    {^instruction} ... {/instruction}         kept where the value is empty
A section tag alone on its line takes the line with it. Sections may be nested. Anything else in braces (`\\boxed{}`,
`{2}`) is text. White space at both ends of the rendered prompt is removed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from undo_hpc.errors import DataError

NAMES = ("problem", "rationale", "student_answer", "verdict", "truth", "examples", "instruction")

_TAG = re.compile(
    r"(?P<alone>(?<![^\n])[ \t]*\{(?P<kind1>[#^/])(?P<name1>[a-z_]+)\}[ \t]*(?:\n|\Z))"  # a section tag alone on its line
    r"|\{(?P<kind2>[#^/])(?P<name2>[a-z_]+)\}"
    r"|\{(?P<value>[a-z_]+)\}"
)


@dataclass(frozen=True, slots=True)
class _Section:
    """A stretch of the template that is kept or left out."""

    name: str
    when_empty: bool
    parts: tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    """A placeholder."""

    name: str


_Part = str | _Value | _Section


class Template:
    """A parsed template; `render` fills it.

    Args:
        text: the template, in the syntax of this module.
        where: name of its file, for messages.

    Raises:
        DataError: an unknown section, one that is not closed, or a placeholder with a spelling mistake.
    """

    def __init__(self, text: str, *, where: str = "template") -> None:
        self.text = text
        self.names: set[str] = set()
        self._where = where
        self._parts = self._parse(text)

    def render(self, values: Mapping[str, str]) -> str:
        """The text with each placeholder replaced by its value, those that are not given by nothing."""
        return _render(self._parts, values).strip()

    def _parse(self, text: str) -> tuple[_Part, ...]:
        open_sections: list[tuple[str, bool, list[_Part]]] = [("", False, [])]
        position = 0
        for match in _TAG.finditer(text):
            parts = open_sections[-1][2]
            kind, name = match["kind1"] or match["kind2"], match["name1"] or match["name2"] or match["value"]
            if kind is None and name not in NAMES:
                self._refuse_misspelling(name, match.start())
                continue
            self._check_name(name, match.start())
            parts.append(text[position : match.start()])
            position = match.end()
            if kind is None:
                parts.append(_Value(name))
            elif kind in "#^":
                open_sections.append((name, kind == "^", []))
            else:
                opened, when_empty, inner = open_sections.pop()
                if opened != name:
                    wanted = f"expected {{/{opened}}} first" if opened else "it was never opened"
                    raise DataError(
                        f"{self._place(match.start())}: {{/{name}}} closes no section here: {wanted}",
                        hint="open a section with {#name} or {^name} and close it with {/name}",
                    )
                open_sections[-1][2].append(_Section(name, when_empty, tuple(inner)))
        if len(open_sections) > 1:
            name = open_sections[-1][0]
            raise DataError(
                f"{self._where}: the section {{#{name}}} is not closed", hint=f"put {{/{name}}} behind it"
            )
        open_sections[0][2].append(text[position:])
        return tuple(open_sections[0][2])

    def _check_name(self, name: str, position: int) -> None:
        if name not in NAMES:
            raise DataError(
                f"{self._place(position)}: no placeholder is called {name!r}",
                hint="there are: " + ", ".join(NAMES),
            )
        self.names.add(name)

    def _refuse_misspelling(self, name: str, position: int) -> None:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.8)
        if near:
            raise DataError(
                f"{self._place(position)}: no placeholder is called {{{name}}}",
                hint=f"did you mean {{{near[0]}}}?",
            )

    def _place(self, position: int) -> str:
        return f"{self._where}, line {self.text.count(chr(10), 0, position) + 1}"


def _render(parts: tuple[_Part, ...], values: Mapping[str, str]) -> str:
    out = []
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, _Value):
            out.append(values.get(part.name, ""))
        elif (not values.get(part.name, "").strip()) == part.when_empty:
            out.append(_render(part.parts, values))
    return "".join(out)
