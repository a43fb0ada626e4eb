"""`make bench`: runs every benchmark (or those named), prints a JSON line a measure, writes build/bench.json."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import pkgutil
import platform
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.bench.frame import UNTIL, Skipped, seconds_left
from undo_hpc.pipeline.run import git_revision

os.environ.setdefault("OMP_NUM_THREADS", "1")
_BY_VALUE = (
    "bench_gpu_training",
    "bench_gpu_kernels",
    "bench_gpu_engines",
)  # what is told first, should time run out
BY_NAME = {"bench_goodput"}  # takes half an hour, nearly all of it waiting: make bench-goodput


def main() -> int:
    """Runs the benchmarks; 1 where a goal is missed or a benchmark broke."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks to run, e.g. merge; all by default")
    parser.add_argument("--gpu", action="store_true", help="run the GPU benchmarks (bench_gpu_*) instead")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="with --gpu: the same code in a tiny shape on whatever is here; nothing is judged or written",
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="with --gpu: the time for all rows together (default: 10)"
    )
    arguments = parser.parse_args()
    if arguments.rehearse and not arguments.gpu:
        parser.error("--rehearse is for --gpu")
    package = importlib.import_module("tests.bench")
    found = [m.name for m in pkgutil.iter_modules(package.__path__) if m.name.startswith("bench_")]
    chosen = [n for n in found if n.startswith("bench_gpu_") == arguments.gpu]
    if not arguments.names:
        chosen = [n for n in chosen if n not in BY_NAME]
    if arguments.names:
        chosen = [
            n
            for n in chosen
            if {n.removeprefix("bench_"), n.removeprefix("bench_gpu_")} & set(arguments.names)
        ]
    if arguments.gpu:
        chosen.sort(key=_BY_VALUE.index)
        if not arguments.rehearse:
            os.environ.setdefault(UNTIL, str(time.time() + 60 * arguments.minutes))
    host = {
        "commit": git_revision(),
        "seed": os.environ.get("UNDO_BENCH_SEED", "0"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    out = Path("build") / ("bench-gpu.json" if arguments.gpu else "bench.json")
    out.parent.mkdir(exist_ok=True)
    print(json.dumps(host), flush=True)
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    for row in _rows(chosen, arguments.rehearse):
        row["after_s"] = round(time.monotonic() - began)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if not arguments.rehearse:  # after each row: a run that is cut short leaves what it measured
            out.write_text(json.dumps({"host": host, "measures": rows}, indent=1) + "\n")
    return 0 if all(row.get("holds", True) and "broke" not in row for row in rows) else 1


def _rows(names: list[str], rehearse: bool) -> Iterator[dict[str, Any]]:
    """The rows of these benchmarks, each in a process of its own: what one leaves behind (vLLM sets a rank's variables, torch its
    threads) is not the next one's. One that breaks is a row too, and the others go on."""
    fork = multiprocessing.get_context("fork")
    for name in names:
        if seconds_left() < 1:
            yield Skipped(name, "no time is left").to_dict()
            continue
        rows, to_us = fork.Pipe(duplex=False)
        process = fork.Process(target=_tell, args=(name, rehearse, to_us))
        process.start()
        to_us.close()
        whole = False
        with contextlib.suppress(EOFError):
            while (row := rows.recv()) is not None:
                yield row
            whole = True
        process.join()
        if not whole:
            yield Skipped(name, f"its process ended with code {process.exitcode}", broke=True).to_dict()


def _tell(name: str, rehearse: bool, out: Connection) -> None:
    """Sends the rows of a benchmark, and None behind the last.

    In a rehearsal `measures(rehearse=True)` is called, and its rows are marked and carry no verdict.
    """
    try:
        measures = importlib.import_module(f"tests.bench.{name}").measures
        for measure in measures(rehearse=True) if rehearse else measures():
            row = measure.to_dict()
            if rehearse:
                row = {key: value for key, value in row.items() if key not in ("goal", "holds")}
                row["rehearsal"] = True
            out.send(row)
    except Exception as error:  # noqa: BLE001 -- told in full, and counted
        traceback.print_exc()
        out.send(Skipped(name, f"{type(error).__name__}: {error}"[:400], broke=True).to_dict())
    out.send(None)


if __name__ == "__main__":
    raise SystemExit(main())
