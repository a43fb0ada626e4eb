"""A run of any size as the stages leave it, for `bench_scale`: synthetic rows of real sizes, written as text, so that building costs little.

A problem has about 230 characters and a worked solution of 400, a rationale 900 to 1,500 with an equation a line, a student's answer as
many; 40 % of the teacher's attempts and 50 % of the student's answers are wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.config.schema import RunConfig
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import Run, create_or_open
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.manifest import Manifest, Output, write_manifest

PER_SHARD, SAMPLES = 1_000, 8
LINE = "She has {a} and buys {b} more, so that there are {a} + {b} = {c} of them in all by the evening.\n"
FILLER = "we add what was bought to what was there and divide the sum by the number of the children who came "


def problem_row(k: int) -> dict[str, Any]:
    """A row of the user's data."""
    text = f"Problem {k}: {(FILLER * 3)[k % 40 : 190 + k % 60]} {k * 7919 % 100_003}?"
    solution = LINE.format(a=k % 97, b=k % 89, c=k % 97 + k % 89) * 4 + f"#### {k % 97 + k % 89}"
    return {"problem": text, "answer": str(k % 97 + k % 89), "solution": solution}


def write_source(path: Path, count: int) -> None:
    """The user's data: a JSONL file."""
    with path.open("w") as file:
        for k in range(count):
            file.write(json.dumps(problem_row(k)) + "\n")


def text_of(k: int, number: int, *, right: bool) -> str:
    """A rationale or an answer."""
    a, b = k % 97, k % 89
    lines = 9 + (k * 7 + number) % 6
    return (
        LINE.format(a=a, b=b, c=a + b) * lines + f"The answer is \\boxed{{{a + b if right else a + b + 1}}}"
    )


def _rows(
    problems: list[tuple[str, int]], samples: int, wrong_in_ten: int, *, flags: bool, kinds: bool
) -> Iterator[bytes]:
    """The rows of a shard, as its writer leaves them."""
    for who, k in problems:
        told = False
        for number in range(samples):
            right = (k * 3 + number) % 10 >= wrong_in_ten
            answer = k % 97 + k % 89 + (not right)
            row: dict[str, Any] = {
                "problem_id": who, "idx": k, "attempt": number, "style": "plain", "text": text_of(k, number, right=right),
                "verdict": "correct" if right else "wrong", "answer": str(answer), "method": "number", "finish_reason": "stop",
                "prompt_tokens": 90, "completion_tokens": 330, "seed": k, "temperature": 0.7, "prompt_sha": "0" * 16, "error": "",
                "flags": [] if right or not flags else ["wrong"], "top_p": 1.0, "top_k": 0, "max_tokens": 1024, "stop": [],
                "chat_sha": "0" * 16, "raw_finish_reason": "", "reasoning": "", "sent": {},
            }  # fmt: skip
            if kinds and not right and not told:
                row["error_kind"] = "setup"
            told = told or not right
            yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _publish(
    run: Run, iteration: int, stage: str, index: int, shards: dict[Path, list[bytes]], inputs: dict[str, str]
) -> None:
    outputs = {}
    total = right = 0
    for path, rows in shards.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"".join(rows)
        path.write_bytes(data)
        outputs[run.layout.relative(path)] = Output(hashlib.sha256(data).hexdigest(), len(data), len(rows))
        total += len(rows)
        right += sum(b'"verdict":"correct"' in row for row in rows)
    counts = {
        "rows": total, "correct": right, "wrong": total - right, "truncated": 0, "errors": 0, "problems": total, "solved": right,
        "prompt_tokens": 90 * total, "completion_tokens": 330 * total, "new_tokens": 330 * total, "seconds": 90.0,
    }  # fmt: skip
    plan = run.plan(iteration)
    assert plan is not None
    task = next(s for s in build_graph(run.config, run.layout, plan) if s.name == stage).tasks[index]
    manifest = Manifest(
        stage, iteration, index, {"config": run.config_digest} | task.inputs | inputs, outputs, counts,
        {"engine": {"engine": "vllm", "model": "teacher"}, "checker": "2.1"}, {}, 1.0, 91.0,
    )  # fmt: skip
    write_manifest(run.layout.root / task.manifest, manifest)
    at = run.layout.iteration(iteration)
    log = at.events(stage, index)
    log.parent.mkdir(exist_ok=True)
    start = {"time": 1.0, "kind": "start", "host": "n", "pid": 1, "gpus": 1, "cpus": 8}
    end = {
        "time": 91.0,
        "kind": "end",
        "host": "n",
        "pid": 1,
        "status": "complete",
        "code": 0,
        "seconds": 90.0,
    }
    log.write_text(json.dumps(start) + "\n" + json.dumps(end) + "\n")


def config_of(source: Path, count: int) -> RunConfig:
    """Few settings that matter here: shards of PER_SHARD problems, a train set that the student answers too."""
    return RunConfig.model_validate(
        {
            "name": "scale", "iterations": 3,
            "data": {"train": {"path": str(source)}, "validation": max(100, count // 200), "diagnosis": max(100, count // 200)},
            "generate": {"shards": max(1, count // PER_SHARD), "samples": SAMPLES, "max_attempts": SAMPLES},
            "evaluate": {"benchmarks": [], "baseline": False, "train_predictions": True},
            "teacher": {"model": "tiny:teacher"}, "student": {"model": "tiny:student"},
            "method": {"errors_from": "train"}, "hub": {"dataset_repo": "me/data", "private": True},
        }
    )  # fmt: skip


def make_run(root: Path, source: Path, count: int) -> Run:
    """A new run directory, nothing prepared yet."""
    return create_or_open(config_of(source, count), root, command=["bench"])


def problems_of(run: Run, name: str, start: int = 0, stop: int | None = None) -> list[tuple[str, int]]:
    """(problem_id, idx) of a split."""
    return [(p.problem_id, p.idx) for p in run.problems(name, start, stop)]


def generated(run: Run, iteration: int) -> None:
    """All shards of generate, complete."""
    plan, at = run.plan(iteration), run.layout.iteration(iteration)
    assert plan is not None
    everything = problems_of(run, "train")
    begin = 0
    for index, file in enumerate(plan.targets):
        mine, begin = everything[begin : begin + file["rows"]], begin + file["rows"]
        rows = list(_rows(mine, SAMPLES, 4, flags=True, kinds=False))
        _publish(run, iteration, "generate", index, {at.shard("generate", index): rows}, {})


def trained(run: Run, iteration: int) -> None:
    """A student of a few bytes."""
    at = run.layout.iteration(iteration)
    at.student.mkdir(parents=True, exist_ok=True)
    (at.student / "config.json").write_text("{}")
    (at.student / "model.safetensors").write_bytes(b"x" * 1000)
    outputs = {
        run.layout.relative(path): Output("0" * 64, path.stat().st_size)
        for path in (at.student / "config.json", at.student / "model.safetensors")
    }
    write_manifest(
        at.stage_manifest("train"),
        Manifest("train", iteration, 0, {"config": run.config_digest}, outputs, {"rows": 1, "loss": 0.1}),
    )


def evaluated(run: Run, iteration: int) -> None:
    """All answers of the student, complete; each wrong one with its kind of error, as a task of `evaluate` leaves it."""
    plan, at = run.plan(iteration), run.layout.iteration(iteration)
    assert plan is not None
    for index, parts in enumerate(plan.evaluate):
        shards = {}
        for part in parts:
            mine = problems_of(run, part.problem_set, part.start, part.stop)
            rows = list(_rows(mine, 1, 5 - iteration, flags=False, kinds=True))
            shards[at.shard("evaluate", part.shard, part.problem_set)] = rows
        _publish(run, iteration, "evaluate", index, shards, {})


def touch_metrics(run: Run, iteration: int) -> None:
    """The next iteration's metrics, copied: the report reads them."""
    data = json.loads(run.layout.iteration(iteration - 1).metrics.read_text())
    write_json(run.layout.iteration(iteration).metrics, data | {"iteration": iteration})
