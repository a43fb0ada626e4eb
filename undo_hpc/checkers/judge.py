"""A language model's word on answers that the checker could not decide; it never overrides a decision. Its share is counted and shown."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from undo_hpc.config.schema import EngineConfig, JudgeConfig, ModelConfig
from undo_hpc.engines import Engine, Request, load_engine
from undo_hpc.errors import EngineError
from undo_hpc.grading import GradeItem
from undo_hpc.grading.reasoning import visible
from undo_hpc.records import JUDGED, NOT_JUDGED, Grade

log = logging.getLogger(__name__)
_MOST_CHARS = 3000  # of an answer's end that is shown
_QUESTION = """Below are the right final answer to a mathematics problem and a student's solution. Is the student's final answer the same
value as the right one, in whatever form it is written? Look at the final answer only. Reply with one word: yes or no.

Right final answer:
{gold}

End of the student's solution:
{answer}"""


class Judge:
    """A checker, and a model behind it for its undecided verdicts.

    Args:
        inner: the checker that decides.
    """

    def __init__(self, inner: Any, config: JudgeConfig) -> None:
        self._inner, self._config = inner, config
        self._engine: Engine | None = load_engine(
            EngineConfig(name="openai", openai=config.openai), ModelConfig(model=config.model)
        )

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[Grade]:
        """A grade for each item. Where the server fails, verdicts stay undecided, and their method says so."""
        asked = list(items)
        grades = list(self._inner.grade_many(asked))
        open_ones = [k for k, grade in enumerate(grades) if grade.verdict in self._config.verdicts]
        said = self._ask({k: asked[k] for k in open_ones})
        for number in open_ones:
            if number not in said:
                grades[number] = replace(grades[number], method=NOT_JUDGED)
            elif (right := said[number]) is not None:
                verdict = "correct" if right else "wrong"
                grades[number] = replace(grades[number], verdict=verdict, method=JUDGED)
        yield from grades

    def _ask(self, items: dict[int, GradeItem]) -> dict[int, bool | None]:
        """What the model says of each item that it answers: yes, no, or None for other words."""
        said: dict[int, bool | None] = {}
        if not items or self._engine is None:
            return said
        requests = [
            Request(str(k), _QUESTION.format(gold=item.gold, answer=visible(item.prediction)[-_MOST_CHARS:]), 0, 0.0, self._config.max_new_tokens)
            for k, item in items.items()
        ]  # fmt: skip
        try:
            for done in self._engine.generate(requests):
                word = done.text.strip().strip("*\"'.").lower()[:3]
                if done.finish_reason != "error":
                    said[int(done.id)] = word == "yes" if word in ("yes", "no", "no.", "no,", "no ") else None
        except EngineError as error:
            log.warning("the judge cannot be asked (%s): undecided verdicts stay undecided", error.message)
            self._engine = None
        return said

    def close(self) -> None:
        """Ends the engine, and what the checker holds."""
        if self._engine is not None:
            self._engine.close()
