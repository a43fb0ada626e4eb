"""A process that has imported all that a worker imports, and forks a worker for each line it reads: many kills, one import.

The fork comes before the engine, a lock or a thread exists, so each child is a worker like any other. As a program:
`python -m tests.stages.stem ENGINE`; a line in is JSON ({"arguments": [...], "log": path, "told": path, "die": where}), lines
out are the child's process id and, when it has ended, its exit code.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from tests.conftest import REPO

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPO)}


class Stem:
    """The process, as seen by a test. One worker at a time."""

    def __init__(self, engine: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stages.stem", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            cwd=REPO,
        )

    def start(self, root: Path, *, die: str = "") -> int:
        """Starts generation's only task in a run directory; returns its process id.

        Args:
            die: a moment at which the worker kills itself: `group`, `published`, `validated` (see `_die_at`).
        """
        arguments = [str(root), "generate", "--iteration", "0", "--index", "0"]
        self._say({"arguments": arguments, "log": f"{root}.log", "told": f"{root}.told", "die": die})
        return int(self._hear())

    def wait(self) -> int:
        """The exit code of the worker; -9 where it was killed."""
        return int(self._hear())

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def _say(self, what: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the stem has died"
        return line


def _load(engine: str) -> None:
    import undo_hpc.stages.generate
    import undo_hpc.worker

    if engine == "openai":
        import undo_hpc.engines.openai_engine
    elif engine == "vllm":
        from undo_hpc.config.schema import VllmEngineConfig
        from undo_hpc.engines.vllm_settings import prepare_environment

        prepare_environment(VllmEngineConfig())
        import transformers.models.qwen2.modeling_qwen2
        import vllm.model_executor.layers.quantization.online.base
        import vllm.v1.engine.llm_engine
        import vllm.v1.worker.cpu_worker  # noqa: F401
        from vllm import LLM, SamplingParams  # noqa: F401
    else:
        import transformers.models.qwen2.modeling_qwen2  # noqa: F401

        import undo_hpc.engines.transformers_engine  # noqa: F401


def _work(asked: dict[str, Any]) -> NoReturn:
    """The child: a worker that notes each completion as its engine hands it over."""
    from undo_hpc import worker
    from undo_hpc.stages import generate

    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["UNDO_DIE_WITH_PARENT"] = "TERM"
    load = generate.load_engine
    generate.load_engine = lambda *a, **k: _Told(load(*a, **k), asked["told"])  # type: ignore[assignment]
    _die_at(asked["die"])
    code = 70
    try:
        code = worker.main(asked["arguments"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Told:
    """An engine that writes down whom it has answered."""

    def __init__(self, engine: Any, path: str) -> None:
        self._engine, self._fd = engine, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def generate(self, requests: Any, **more: Any) -> Iterator[Any]:
        for completion in self._engine.generate(requests, **more):
            os.write(self._fd, f"{completion.id}\n".encode())
            yield completion

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _die_at(where: str) -> None:
    """Kills this process when half of its second group is written, the final shard stands, or its manifest stands."""
    from undo_hpc.stages import attempts, context
    from undo_hpc.storage.shards import ShardWriter

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if where == "group":
        flush, seen = ShardWriter.flush, []

        def torn(self: ShardWriter) -> None:
            if self._pending:
                seen.append(1)
            if len(seen) == 2:
                data = b"".join(self._pending)
                self._file.write(data[: 2 * len(data) // 3])
                die()
            flush(self)

        ShardWriter.flush = torn  # type: ignore[method-assign]
    elif where == "published":
        context.write_manifest = die  # type: ignore[assignment]
    elif where == "validated":
        attempts.AttemptStore.finish = die  # type: ignore[method-assign]


def main(engine: str) -> None:
    """Reads, forks, waits."""
    _load(engine)
    gc.collect()
    gc.freeze()  # a child's collector need not go through all that was imported: half of vLLM's start
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _work(asked)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
