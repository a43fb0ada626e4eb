"""What an engine of the user's yields is checked before it is stored: what it should be is told, as wrong input."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from undo_hpc.engines import Completion, OwnEngine, Request
from undo_hpc.engines.base import TellsWhatIsUnderWay
from undo_hpc.engines.scoring import Scorer
from undo_hpc.errors import ConfigError

REQUESTS = [Request(str(k), "2 + 2", 0, 0.0, 9) for k in range(3)]
GOOD = Completion("1", "4", "stop", 1, 1, "d")


class Fake:
    """Yields what it is told; has more than an engine must have."""

    extra = 7

    def __init__(self, *yields: Any) -> None:
        self._yields = yields

    def describe(self) -> dict[str, Any]:
        return {"engine": "fake"}

    def generate(self, requests: Any, *, should_stop: Any = None) -> Iterator[Any] | None:
        return iter(self._yields) if self._yields else None

    def close(self) -> None:
        return None


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("a text", "yields 'a text'"),
        (Completion("1", None, "stop", 1, 1, "d"), "yields Completion"),  # type: ignore[arg-type]
        (Completion("9", "4", "stop", 1, 1, "d"), "yields a completion of no request"),
        (Completion("1", "5", "stop", 1, 1, "d"), "yields a completion of no request, or a second one"),
    ],
)
def test_what_is_no_answer_is_refused(found: Any, said: str) -> None:
    answers = OwnEngine("pkg:Fake", Fake(GOOD, found)).generate(REQUESTS)
    assert next(answers) == GOOD
    with pytest.raises(ConfigError, match=f"engine.name: pkg:Fake {said}") as error:
        next(answers)
    assert "with the id of their request" in error.value.hint


def test_all_else_is_the_engine_itself() -> None:
    engine = OwnEngine("pkg:Fake", Fake())
    assert list(engine.generate(REQUESTS)) == [], "that answers are missing is told by the stage"
    assert engine.describe() == {"engine": "fake"} and engine.extra == 7 and not hasattr(engine, "score")


def test_what_it_can_do_beside_is_seen_by_every_python() -> None:
    """From 3.12 on isinstance looks at a class and an object's own attributes alone: a scorer was refused as none."""

    class Scores(Fake):
        score = under_way = Fake.close

    for made, can in (Scores(), True), (Fake(), False):
        engine = OwnEngine("pkg:Fake", made)
        for protocol, method in (Scorer, "score"), (TellsWhatIsUnderWay, "under_way"):
            assert isinstance(engine, protocol) == can
            assert (inspect.getattr_static(engine, method, None) is not None) == can
