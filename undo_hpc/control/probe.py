"""A short sweep of an engine's settings on a run's own prompts: each setting in a process of its own, so that a crash costs that setting only.

`python -m undo_hpc.control.probe FOLDER` measures one setting: it reads FOLDER/spec.json and writes FOLDER/result.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import EngineConfig, RunConfig, TeacherConfig
from undo_hpc.engines import Request, load_engine
from undo_hpc.errors import UndoError
from undo_hpc.method.targets import first_target
from undo_hpc.prompts import load_prompts
from undo_hpc.records import Problem
from undo_hpc.stages.attempts import SampleRequest, request_of
from undo_hpc.stages.targets import prompt_of
from undo_hpc.storage.atomic import read_json, write_json
from undo_hpc.system.invocation import python_module
from undo_hpc.system.own_places import code_caches
from undo_hpc.system.ownership import leave_folder_for_everybody
from undo_hpc.system.parent_death import DIE_WITH_PARENT, die_with_parent_if_asked

SAME = 1.03  # a setting must be faster by this to be preferred: less is noise
Values = Mapping[str, Any]
Axes = Sequence[tuple[str, Sequence[Any]]]


@dataclass(frozen=True)
class Measured:
    """One setting.

    Attributes:
        values: keys below generate.engine that differ from the configuration; none for the configuration itself.
        tokens_per_s: new tokens a second, without loading; 0 where it failed.
        load_s: seconds until the engine was ready.
        gpus: devices that the process saw.
        failed: why there is no speed.
    """

    values: Values = field(default_factory=dict)
    tokens_per_s: float = 0.0
    load_s: float = 0.0
    gpus: int = 0
    failed: str = ""


def default_axes(engine: str, gpus: int, requests: int) -> Axes:
    """What is tried of an engine, most important key first. More sequences than there are requests would change nothing."""
    if engine == "transformers":
        return [("transformers.max_batch", [n for n in (8, 16, 32, 64, 128, 256) if n <= requests])]
    axes: list[tuple[str, Sequence[Any]]] = [
        ("vllm.tensor_parallel_size", [n for n in (1, 2, 4, 8) if n <= gpus]),
        ("vllm.max_num_seqs", [n for n in (64, 128, 256, 512, 1024) if n <= requests]),
        ("vllm.max_num_batched_tokens", [8192, 16384, 32768, 65536]),
        ("vllm.extra.kv_cache_dtype", ["fp8"] if gpus else []),  # vLLM's CPU build has no such cache
    ]
    return axes


def sweep(
    measure: Callable[[Values], Measured],
    axes: Callable[[Measured], Axes],
    is_now: Callable[[str, Any], bool],
) -> Iterator[Measured]:
    """The configuration itself, then key after key; each key is tried on top of the fastest setting so far.

    Args:
        axes: what is tried, from what the configuration itself has measured (its devices).
        is_now: whether a key has that value in the configuration.
    """
    best = measure({})
    yield best
    for key, tried in axes(best):
        base = best
        for value in tried:
            if not is_now(key, value):
                found = measure({**base.values, key: value})
                best = faster(best, found)
                yield found


def faster(one: Measured, other: Measured) -> Measured:
    """The second where it is faster by more than noise, else the first."""
    return other if other.tokens_per_s > one.tokens_per_s * SAME else one


def teacher_requests(config: RunConfig, problems: Sequence[Problem]) -> list[Request]:
    """What generate asks of iteration 0: its first attempt at each problem, made by the same functions."""
    prompts, sampling = load_prompts(config.teacher.prompt), config.generate.sampling
    requests = []
    for problem in problems:
        target = first_target(problem.to_dict(), config.method)
        text = prompt_of(target, prompts, config.teacher.instruction)
        ask = SampleRequest(problem, 0, text, target.style, sampling.temperature)
        requests.append(request_of(f"{problem.problem_id}/0", ask, config.seed, 0, "teacher", sampling))
    return requests


def measure_apart(
    engine: EngineConfig, model: TeacherConfig, requests: Sequence[Request], values: Values, limit_s: float
) -> Measured:
    """Measures one setting in a process of its own, which is ended with all of its children after `limit_s` seconds."""
    with tempfile.TemporaryDirectory(prefix="undo-probe-") as name:
        folder = Path(name)
        spec = {"engine": engine.model_dump(mode="json"), "model": model.model_dump(mode="json")}
        write_json(folder / "spec.json", spec | {"requests": [asdict(request) for request in requests]})
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                python_module("undo_hpc.control.probe", str(folder)),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {DIE_WITH_PARENT: "KILL"},
            )  # fmt: skip
            late = ""
            try:
                process.wait(limit_s)
            except subprocess.TimeoutExpired:
                late = f"not ready and measured within {limit_s / 60:g} minutes"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what the engine has left too
                process.wait()
        result = read_json(folder / "result.json") if (folder / "result.json").exists() else {}
        if not result.get("tokens_per_s") and not result.get("failed"):
            result["failed"] = late or _why(
                process.returncode, (folder / "log").read_text(encoding="utf-8", errors="replace")
            )
    return Measured(values=values, **result)


def _why(code: int, log: str) -> str:
    """Why a process ended without a result: its signal, or its last line."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", most likely out of memory" if name == "SIGKILL" else "")
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "it said nothing")
    return f"exit code {code}: {last}"


def main(folder: Path) -> None:
    """Measures the setting of FOLDER/spec.json; a failure is a result, too."""
    die_with_parent_if_asked()
    os.environ.update(code_caches())
    leave_folder_for_everybody(folder)
    from undo_hpc.engines.vllm_settings import gpus

    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {"gpus": gpus()}
    write_json(folder / "result.json", found)  # known even where the engine takes this process with it
    try:
        found |= _measure(spec)
    except UndoError as error:
        found["failed"] = error.message
    except Exception as error:  # noqa: BLE001  # an engine may raise anything, such as CUDA's out of memory
        found["failed"] = f"{type(error).__name__}: {error}"
    write_json(folder / "result.json", found)


def _measure(spec: dict[str, Any]) -> dict[str, Any]:
    requests = [Request(**{**item, "stop": tuple(item["stop"])}) for item in spec["requests"]]
    began = time.monotonic()
    engine = load_engine(
        EngineConfig.model_validate(spec["engine"]),
        TeacherConfig.model_validate(spec["model"]),
        prompts=[request.prompt for request in requests],
        max_tokens=requests[0].max_tokens,
    )
    try:
        list(engine.generate([replace(requests[0], max_tokens=min(4, requests[0].max_tokens))]))  # warms up
        ready = time.monotonic()
        answers = list(engine.generate(requests))
        seconds = time.monotonic() - ready
    finally:
        engine.close()
    errors = [answer.error for answer in answers if answer.finish_reason == "error"]
    if errors:
        return {"failed": f"{len(errors)} of {len(answers)} requests failed: {errors[0]}"}
    tokens = sum(answer.completion_tokens for answer in answers)
    return {"tokens_per_s": tokens / max(seconds, 1e-9), "load_s": ready - began}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
