"""Answers on their way to the disk: in groups, by size and by time, and whatever ends the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.checkers.harsh import Harsh
from tests.stages.build import context, make_problems, make_run
from undo_hpc.config.schema import QualityConfig, SamplingConfig
from undo_hpc.engines import Completion, Request
from undo_hpc.engines.base import digest
from undo_hpc.errors import EngineError
from undo_hpc.observe.progress import describe
from undo_hpc.stages.attempts import AttemptStore, make_requests, open_checker
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.progress import ProgressFile, read_progress

PROBLEMS = make_problems(20)


class Slow:
    """Answers three requests at once and then nothing more; `between` is what happens meanwhile."""

    def __init__(self, between: Callable[[], None]) -> None:
        self._between = between

    def describe(self) -> dict[str, Any]:
        return {
            "engine": "slow",
            "template_sha": "t",
            "system_prompt": "",
            "chat_template_kwargs": {"thinking": False},
        }

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool]
    ) -> Iterator[Completion]:
        for number, request in enumerate(requests):
            if number == 3:
                while not should_stop():
                    self._between()
            yield Completion(request.id, "so \\boxed{1}", "stop", 5, 7, digest(request.prompt))

    def close(self) -> None:
        return None


def asked(tmp_path: Path, engine: Slow, **config: Any) -> tuple[Path, Callable[[], None]]:
    """The folder of a shard's rows, and what asks the engine for them."""
    run = make_run(tmp_path / "run", PROBLEMS, 1, generate={"shards": 1}, storage=config)
    at = run.layout.iteration(0)
    shard = at.shard("generate", 0)
    sampling = SamplingConfig(temperature=0.6, top_p=0.9, top_k=20, max_new_tokens=99, stop=["END"])

    def ask() -> None:
        with Lease(at.lease("generate", 0), "this") as lease:
            ctx = context(run, "generate", lease)
            store = AttemptStore(ctx, shard, role="teacher", sampling=sampling, inputs={})
            with open_checker(ctx) as checker:
                requests = make_requests(PROBLEMS, range(1), lambda p: p.problem, 0.6)
                store.answer(engine, checker, requests, len(requests))  # type: ignore[arg-type]

    return at.parts(shard), ask


def durable(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for path in folder.glob("*.jsonl") for line in path.read_bytes().splitlines()]


def test_a_long_answer_does_not_keep_the_others_from_the_disk(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    rounds = []

    def until_they_are_there() -> None:
        rounds.append(len(durable(folder)))
        if rounds[-1] == 3 or len(rounds) > 10**6:
            raise Killed

    folder, ask = asked(tmp_path, Slow(until_they_are_there), flush_rows=64, flush_seconds=0.05)
    with pytest.raises(Killed):
        ask()
    assert rounds[0] == 0 and rounds[-1] == 3


def test_an_engine_that_fails_loses_no_answer_and_rows_say_how_they_were_drawn(tmp_path: Path) -> None:
    def fail() -> None:
        raise EngineError("the GPU fell off the bus")

    folder, ask = asked(tmp_path, Slow(fail), flush_rows=64, flush_seconds=3600.0)
    with pytest.raises(EngineError, match="fell off"):
        ask()
    rows = durable(folder)
    assert len(rows) == 3
    assert {k: rows[0][k] for k in ("temperature", "top_p", "top_k", "max_tokens", "stop")} == {
        "temperature": 0.6, "top_p": 0.9, "top_k": 20, "max_tokens": 99, "stop": ["END"],
    }  # fmt: skip
    assert len(rows[0]["chat_sha"]) == 16 and rows[0]["seed"] != rows[1]["seed"]


def test_before_the_first_answer_a_start_tells_what_is_there_and_no_rate(tmp_path: Path) -> None:
    told: list[tuple[dict[str, Any], str]] = []

    class Eager(Slow):
        def generate(
            self, requests: Sequence[Request], *, should_stop: Callable[[], bool]
        ) -> Iterator[Completion]:
            progress = read_progress(folder.parents[1] / "progress" / "generate-00000.json")
            assert progress is not None
            told.append((progress, describe(progress, 100.0)))
            return super().generate(requests, should_stop=should_stop)

    def fail() -> None:
        raise EngineError("once")

    folder, ask = asked(tmp_path, Eager(fail))
    for _ in range(2):
        with pytest.raises(EngineError, match="once"):
            ask()
    assert [words for _, words in told] == ["0/20 rows", "3/20 rows, 0 % right"]


def test_answers_of_an_unfinished_shard_that_another_checker_judged_are_graded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program was updated while a task was half done: its manifest names one checker, so all its verdicts are of that one."""

    def fail() -> None:
        raise EngineError("once")

    folder, ask = asked(tmp_path, Slow(fail))
    with pytest.raises(EngineError, match="once"):
        ask()
    before = durable(folder)
    monkeypatch.setattr("undo_hpc.stages.checker.Checker", Harsh)
    monkeypatch.setattr("undo_hpc.stages.verdicts.CHECKER_VERSION", "another")
    for _ in range(2):
        with pytest.raises(EngineError, match="once"):
            ask()
    newest = [orjson.loads(line) for line in sorted(folder.iterdir())[1].read_bytes().splitlines()]
    assert [(row["problem_id"], row["text"]) for row in newest[:3]] == [
        (row["problem_id"], row["text"]) for row in before
    ]
    assert {(row["verdict"], row["method"]) for row in newest} == {("wrong", "harsh")}
    rows = durable(folder)
    assert len(rows) == 3 + 3 + 3 + 3, "graded again once; each start has three new answers"
    assert len({row["problem_id"] for row in rows}) == 9


@pytest.mark.parametrize("judged", [True, False])
def test_only_the_teacher_s_attempts_are_judged_as_something_to_learn_from(
    tmp_path: Path, judged: bool
) -> None:
    run = make_run(tmp_path / "run", PROBLEMS, 1)
    shard = run.layout.iteration(0).shard("generate", 0)
    with Lease(tmp_path / "l", "this") as lease:
        ctx = context(run, "generate", lease)
        quality = QualityConfig(min_chars=100) if judged else None
        store = AttemptStore(ctx, shard, role="x", sampling=SamplingConfig(), quality=quality, inputs={})
        with open_checker(ctx) as checker, pytest.raises(EngineError, match="by itself"):
            requests = make_requests(PROBLEMS, range(1), lambda p: p.problem, 0.6)
            store.answer(ThreeAnswers(), checker, requests, len(requests))  # type: ignore[arg-type]
        store.close()
    assert [row.flags for row in store.rows.values()] == [("wrong", "too_short") if judged else ()] * 3


def test_the_share_that_is_right_is_of_all_sets_of_a_task(tmp_path: Path) -> None:
    """A task of evaluate answers one set after another: at any moment rows and right ones are of the same answers."""
    run = make_run(tmp_path / "run", PROBLEMS, 1, storage={"flush_rows": 1})
    at = run.layout.iteration(0)
    told: list[dict[str, Any]] = []

    class Knowing(Slow):
        def generate(
            self, requests: Sequence[Request], *, should_stop: Callable[[], bool]
        ) -> Iterator[Completion]:
            for request in requests:
                right = truths[request.id.partition("/")[0]] if wanted(request.id) else "-1"
                yield Completion(request.id, f"\\boxed{{{right}}}", "stop", 5, 7, digest(request.prompt))
                told.append(read_progress(at.progress("generate", 0)) or {})

    truths = {p.problem_id: p.ground_truth for p in PROBLEMS}
    first = {p.problem_id for p in PROBLEMS[:16]}

    def wanted(name: str) -> bool:  # all of the first set, none of the second
        return name.partition("/")[0] in first

    with Lease(tmp_path / "l", "this") as lease:
        ctx = replace(
            context(run, "generate", lease), progress=ProgressFile(at.progress("generate", 0), every_s=0)
        )
        stores: list[AttemptStore] = []
        with open_checker(ctx) as checker:
            for number, mine in enumerate((PROBLEMS[:16], PROBLEMS[16:])):
                store = AttemptStore(
                    ctx, at.shard("generate", number), role="x", sampling=SamplingConfig(), inputs={}
                )
                requests = make_requests(mine, range(1), lambda p: p.problem, 0.0)
                store.answer(Knowing(lambda: None), checker, requests, len(PROBLEMS), before=stores)  # type: ignore[arg-type]
                stores.append(store)
    for store in stores:
        store.close()
    assert len(told) == 20 and all(p["correct"] == min(p["done"], 16) for p in told)
    last = read_progress(at.progress("generate", 0))
    assert last is not None and (last["done"], last["correct"]) == (20, 16)
    assert "80 % right" in describe(last, 10.0)


class ThreeAnswers(Slow):
    """Stops after three answers."""

    def __init__(self) -> None:
        super().__init__(lambda: None)

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool]
    ) -> Iterator[Completion]:
        return super().generate(requests[1:4], should_stop=should_stop)
