"""`make bench`: runs every benchmark (or those named), prints a JSON line a measure, writes build/bench.json."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> int:
    """Runs the benchmarks; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks to run, e.g. merge; all by default")
    parser.add_argument("--gpu", action="store_true", help="run the GPU benchmarks (bench_gpu_*) instead")
    arguments = parser.parse_args()
    package = importlib.import_module("tests.bench")
    found = [m.name for m in pkgutil.iter_modules(package.__path__) if m.name.startswith("bench_")]
    chosen = [n for n in found if n.startswith("bench_gpu_") == arguments.gpu]
    if arguments.names:
        chosen = [n for n in chosen if n.removeprefix("bench_") in arguments.names]
    rows = []
    for name in chosen:
        for measure in importlib.import_module(f"tests.bench.{name}").measures():
            rows.append(measure.to_dict())
            print(json.dumps(rows[-1]), flush=True)
    out = Path("build") / ("bench-gpu.json" if arguments.gpu else "bench.json")
    out.parent.mkdir(exist_ok=True)
    host = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    out.write_text(json.dumps({"host": host, "measures": rows}, indent=1) + "\n")
    return 0 if all(row.get("holds", True) for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
