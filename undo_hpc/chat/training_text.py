"""From a rationale to the text that a student learns behind its prompt, whatever its chat template does to reasoning.

The prompt is what the student will see at evaluation. What follows is checked by reading it back: split again, it must give the
same reasoning and the same answer, and end with the template's end of turn. The template's own rendering is taken where it passes;
where it cuts, wraps or refuses the reasoning, the turn is put together here; where that fails too, the row is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from undo_hpc.chat.reasoning import (
    HARMONY_ANSWER,
    HARMONY_REASONING,
    MARKS,
    Parts,
    form_of,
    join,
    opened_by,
    split,
    turned_off_by,
)
from undo_hpc.chat.template import Message, Render, RenderError

Policy = Literal["keep", "strip", "drop"]
_PROBE = "Two."


class NotLearned(Exception):
    """A row that cannot be learned from; the text is the reason, the same for all rows of its kind."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt and what the student learns to write behind it; `composed` where the template could not render it."""

    prompt: str
    target: str
    composed: bool = False


class TurnWriter:
    """Writes training texts for one student.

    Args:
        render: the student's chat template.
        source: the template's text, for the form of its reasoning.
        eos_token: closes a turn where the template closes none.
        policy: what becomes of reasoning: kept, stripped off, or the row dropped.
        system_prompt: put before each problem; empty for none.
        cover: see `PlainText`; by default contents stay as they are.

    Attributes:
        closing: what the template writes behind an answer.
        opened: what the prompt ends with where it opens a block of reasoning; else empty.
        turned_off: whether the prompt tells the student not to reason.

    Raises:
        RenderError: the template cannot render a prompt.
    """

    def __init__(
        self,
        render: Render,
        *,
        source: str,
        eos_token: str,
        policy: Policy = "keep",
        system_prompt: str = "",
        cover: Callable[[str], str] = str,
    ) -> None:
        self._render, self._policy, self._system, self._cover = render, policy, system_prompt, cover
        chat = self.chat("1+1?")
        prompt = render(chat, True)
        self.opened, self.turned_off = opened_by(prompt), turned_off_by(prompt)
        self._form = form_of(source)
        self._lead, self.closing = "", eos_token
        try:
            whole = render([*chat, {"role": "assistant", "content": _PROBE}], False)
        except RenderError:
            return  # turns are composed, and end with the tokenizer's end of text
        before, found, closing = whole.rpartition(_PROBE)
        if found:
            self.closing = closing
            if before.startswith(prompt):
                self._lead = before.removeprefix(prompt)

    def chat(self, problem: str) -> list[Message]:
        """The messages before the answer."""
        system: list[Message] = [{"role": "system", "content": self._system}] if self._system else []
        return [*system, {"role": "user", "content": problem}]

    def write(self, problem: str, rationale: str) -> Turn:
        """The training text of one row. `problem` is the whole user turn. Raises NotLearned with the reason."""
        parts = self._chosen(split(rationale))
        parts = Parts(self._cover(parts.reasoning), self._cover(parts.answer))
        chat = self.chat(self._cover(problem))
        try:
            prompt = self._render(chat, True)
        except RenderError as error:
            raise NotLearned(f"the chat template refuses its problem ({error})") from error
        for message in self._messages(parts):
            try:
                whole = self._render([*chat, message], False)
            except RenderError:
                continue
            target = whole.removeprefix(prompt)
            if whole.startswith(prompt) and self._reads_back(target, parts):
                return Turn(prompt, target)
        target = self._composed(parts)
        if not self._reads_back(target, parts):
            raise NotLearned("its text has marks of the chat template in it")
        return Turn(prompt, target, composed=True)

    def _chosen(self, parts: Parts) -> Parts:
        """What is to be learned, by the policy."""
        if parts.flaw:
            raise NotLearned(parts.flaw)
        if not parts.answer.strip():
            raise NotLearned("no answer behind its reasoning")
        if not parts.reasoning:
            return parts
        if self._policy == "drop":
            raise NotLearned("it has reasoning, and student.reasoning is drop")
        if self._policy == "strip":
            return Parts("", parts.answer)
        if self.turned_off:
            raise NotLearned("it has reasoning, and the student's prompt turns thinking off")
        return parts

    def _messages(self, parts: Parts) -> Iterator[Message]:
        """The answer's message in the ways that templates take reasoning: by a key of its own, or in the content."""
        if parts.reasoning:
            keys = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), parts.reasoning)
            yield {"role": "assistant", "content": parts.answer, **keys}
            if self._form[0] == HARMONY_REASONING:
                return
        yield {"role": "assistant", "content": join(parts.reasoning, parts.answer, self._form)}

    def _composed(self, parts: Parts) -> str:
        """The turn without the template: in the form of its reasoning, behind what the prompt opened, with its end."""
        opening, closing = self._form
        if opening == HARMONY_REASONING:
            body = (
                f"{opening}{parts.reasoning}{closing}" if parts.reasoning or self.opened else HARMONY_ANSWER
            )
            return body.removeprefix(self.opened) + parts.answer + self.closing
        if self.opened:
            closing = next(pair[1] for pair in MARKS if pair[0] == self.opened.strip())
            return f"{parts.reasoning}\n{closing}\n\n{parts.answer}{self.closing}"
        lead = "" if parts.reasoning and any(opening in self._lead for opening, _ in MARKS) else self._lead
        return lead + join(parts.reasoning, parts.answer, self._form) + self.closing

    def _reads_back(self, target: str, parts: Parts) -> bool:
        """Whether a reader of the turn finds the same reasoning and answer in it, and its end."""
        if not target.endswith(self.closing):
            return False
        found = split(self.opened + target.removesuffix(self.closing))
        return (
            not found.flaw and _same(found.reasoning, parts.reasoning) and _same(found.answer, parts.answer)
        )


def _same(one: str, other: str) -> bool:
    """Equal but for white space, which templates trim and add."""
    return "".join(one.split()) == "".join(other.split())


def close_turn(tail: list[int], end_token: int | None, *, from_template: bool) -> list[int] | None:
    """The answer's tokens up to its end token; None where the answer itself holds one.

    Args:
        tail: tokens behind the prompt.
        from_template: whether the template writes the end token; else it is put behind the answer.
    """
    ends = [at for at, token in enumerate(tail) if token == end_token]
    if not from_template:
        return None if ends or end_token is None else [*tail, end_token]
    return tail[: ends[0] + 1] if len(ends) == 1 else None


def sample_turns(writer: TurnWriter) -> dict[str, Any]:
    """What becomes of two typical rows, one with reasoning: a Turn, or the reason (str) why it is not learned."""
    samples = {
        "answer": "2+3=5, so \\boxed{5}.",
        "reasoning": "<think>\nTwo and three.\n\nThat is five.\n</think>\n\n2+3=5, so \\boxed{5}.",
    }
    found: dict[str, Any] = {}
    for name, rationale in samples.items():
        try:
            found[name] = writer.write("What is 2+3?", rationale)
        except NotLearned as error:
            found[name] = str(error)
    return found
