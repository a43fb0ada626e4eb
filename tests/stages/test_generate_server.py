"""generate with a server: what its rows record, and that a server's fault is never a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.loopback import Server, answer
from tests.stages.build import context, make_problems, make_run
from undo_hpc.engines import openai_engine
from undo_hpc.errors import EngineError
from undo_hpc.records import Attempt
from undo_hpc.stages.generate import run_stage
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.storage.shards import read_rows

PROBLEMS = make_problems(14)


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a server with these replies."""
    monkeypatch.setattr(openai_engine, "_backoff_s", lambda waits: 0.005)
    made: list[Server] = []

    def start(reply: Any) -> Server:
        made.append(Server(reply))
        return made[-1]

    yield start
    for one in made:
        one.close()


def solved(body: dict[str, Any]) -> str:
    """The right answer to a problem of `make_problems`; the control question's answer else."""
    prompt = body["messages"][-1]["content"]
    return next((f"\\boxed{{{p.ground_truth}}}" for p in PROBLEMS if p.problem in prompt), "2")


def generate(home: Path, url: str, **engine: Any) -> tuple[list[Attempt], dict[str, Any]]:
    """Runs the stage (again); the rows and the manifest's counts and details."""
    settings = {"name": "openai", "openai": {"base_url": url, "max_retries": 2}} | engine
    run = make_run(
        home,
        PROBLEMS,
        1,
        generate={"shards": 1, "engine": settings, "max_attempts": 2},
        storage={"flush_rows": 3},
        teacher={"model": "m"},
    )
    at = run.layout.iteration(0)
    with Lease(home / "lease", "generate") as lease:
        run_stage(context(run, "generate", lease))
    shard = at.shard("generate", 0)
    manifest = read_manifest(at.manifest_of(shard))
    assert manifest is not None
    return [Attempt.from_dict(row) for row in read_rows(shard)], {
        "counts": manifest.counts,
        "details": manifest.details,
    }


@pytest.mark.parametrize(
    "reply",
    [
        (400, {"error": {"message": "no such mode"}}),
        (200, {"error": {"code": 503, "message": "no such mode"}}),
        (500, b"no such mode"),
    ],
)
def test_nothing_is_recorded_while_the_server_has_answered_nothing(
    replies: Any, tmp_path: Path, reply: Any
) -> None:
    works = [False]
    there = replies(lambda _, body: (200, answer(solved(body))) if works[0] else reply)
    with pytest.raises(EngineError, match="no such mode"):
        generate(tmp_path, there.url)
    asked = len(there.bodies)
    works[0] = True
    rows, _ = generate(tmp_path, there.url)
    assert len(there.bodies) - asked == len(rows) == 14, "the same command asks again"
    assert {row.verdict for row in rows} == {"correct"}


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_one_refused_prompt_is_a_failure_of_its_own(replies: Any, tmp_path: Path, status: int) -> None:
    def reply(_: int, body: dict[str, Any]) -> Any:
        if PROBLEMS[5].problem in str(body):
            return status, {"error": {"code": status, "message": "input was flagged"}}
        return 200, answer(solved(body))

    rows, made = generate(tmp_path, replies(reply).url)
    assert {row.idx for row in rows if row.error} == {5} and made["counts"]["errors"] == 2
    assert all("flagged" in row.error for row in rows if row.error) and "flagged" in made["details"]["error"]


@pytest.mark.parametrize(
    ("setting", "text", "recorded"), [("keep", "<think>\nHm.\n</think>\n\n", "kept"), ("drop", "", "dropped")]
)
def test_reasoning_is_kept_or_dropped_and_counted(
    replies: Any, tmp_path: Path, setting: str, text: str, recorded: str
) -> None:
    def reply(_: int, body: dict[str, Any]) -> Any:
        made = answer(solved(body), "eos")
        made["choices"][0]["message"]["reasoning_content"] = "Hm."
        return 200, made

    rows, made = generate(tmp_path, replies(reply).url, reasoning=setting)
    assert {row.verdict for row in rows} == {"correct"} and {row.reasoning for row in rows} == {recorded}
    assert [row.text for row in rows] == [f"{text}\\boxed{{{p.ground_truth}}}" for p in PROBLEMS]
    assert {row.raw_finish_reason for row in rows} == {"eos"}
    assert made["counts"]["reasoning_kept" if setting == "keep" else "reasoning_dropped"] == 14


def test_rows_and_manifest_tell_what_was_really_sent(replies: Any, tmp_path: Path) -> None:
    def reply(_: int, body: dict[str, Any]) -> Any:
        if body.get("max_tokens", 0) > 500:
            return 400, {"error": {"message": "the valid range of max_tokens is [1, 500]"}}
        if "seed" in body:
            return 422, {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "seed"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            }
        return 200, answer(solved(body))

    there = replies(reply)
    rows, made = generate(tmp_path, there.url)
    assert len(rows) == 14 and len(there.bodies) == 16, "each refusal is met once"
    assert {row.max_tokens for row in rows} == {500}
    assert all(row.sent == {"temperature": 0.7, "top_p": 0.95, "max_tokens": 500} for row in rows)
    assert made["details"]["engine"]["parameters"] == {"not_sent": ["seed"], "at_most": {"max_tokens": 500}}


def test_parameters_are_left_out_and_added_by_configuration(replies: Any, tmp_path: Path) -> None:
    there = replies(lambda _, body: (200, answer(solved(body))))
    settings = {
        "base_url": there.url,
        "omit": ["seed", "top_p"],
        "extra_body": {"reasoning_effort": "high", "top_k": 5},
    }
    rows, _ = generate(tmp_path, there.url, openai=settings)
    sent = {"temperature": 0.7, "max_tokens": 2048, "reasoning_effort": "high", "top_k": 5}
    assert all({k: body[k] for k in body.keys() - {"model", "messages"}} == sent for body in there.bodies)
    assert all(row.sent == sent for row in rows)
