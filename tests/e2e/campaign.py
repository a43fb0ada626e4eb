"""A small campaign in the tiny world, run through the launcher as a user does."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import REPO

SMALL = (
    "name=small",
    "iterations=2",
    "data.train.sample=110",
    "data.validation=16",
    "data.diagnosis=16",
    "evaluate.limit=24",
    "generate.max_attempts=2",
    "storage.flush_rows=8",
    "train.epochs=3",
    "train.tokens_per_batch=384",
    "train.micro_batch_tokens=384",
    "train.checkpoint.every_steps=5",
    "evaluate.problems_per_task=80",
    "stop.enabled=false",
    "generate.engine.transformers.max_batch=16",
    "evaluate.engine.transformers.max_batch=16",
)


@dataclass
class Small:
    """A run directory and the `--set` values of its campaign."""

    run_dir: Path
    sets: tuple[str, ...] = SMALL
    more: tuple[str, ...] = field(default_factory=tuple)

    def command(self, *arguments: str) -> list[str]:
        """The launcher's command line."""
        sets = [word for item in (*self.sets, *self.more) for word in ("--set", item)]
        return [
            sys.executable,
            str(REPO / "launchers" / "run_iteration.py"),
            "--run-dir",
            str(self.run_dir),
            "--config",
            "tiny",
            *sets,
            *arguments,
        ]

    def launch(self, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Runs the launcher to its end."""
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment(),
            check=False,
            cwd=self.run_dir.parent,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts the launcher in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            cwd=self.run_dir.parent,
            start_new_session=True,
            preexec_fn=_hear_ctrl_c,
        )

    def results(self) -> dict[str, str]:
        """Digests of all that must not depend on what happened on the way."""
        patterns = (
            "iter_*/distilled/*",
            "iter_*/student/*.safetensors",
            "iter_*/generate/shard-*.jsonl",
            "iter_*/feedback.jsonl",
            "iter_*/evaluate/*/shard-*.jsonl",
            "splits/*.jsonl",
            "iter_*/metrics.json",
        )
        found = {}
        for pattern in patterns:
            for path in sorted(self.run_dir.glob(pattern)):
                if not path.name.endswith("manifest.json"):
                    found[path.relative_to(self.run_dir).as_posix()] = _digest(path)
        return found

    def workers(self) -> list[int]:
        """Process ids of this run's workers and training ranks."""
        return [
            pid
            for pid, command in _commands().items()
            if str(self.run_dir) in command
            and ("undo_hpc.worker" in command or "undo_hpc.training" in command)
        ]

    @staticmethod
    def warm_process(launcher: int) -> int | None:
        """Process id of the one that a launcher's workers are copies of."""
        for pid, command in _commands().items():
            if "undo_hpc.warm" in command and parent_of(pid) == launcher:
                return pid
        return None


def _commands() -> dict[int, str]:
    """The command lines of all processes."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
    return found


def parent_of(pid: int) -> int:
    """Process id of its parent; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0


def _hear_ctrl_c() -> None:
    """A shell that starts us in the background has SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if (
        path.name == "metrics.json"
    ):  # tokens per second and seconds differ from run to run, accuracies must not
        import json

        metrics = json.loads(data)
        data = json.dumps(
            {key: metrics[key] for key in ("sets", "baseline", "errors", "decision")}, sort_keys=True
        ).encode()
    return hashlib.sha256(data).hexdigest()


def environment() -> dict[str, str]:
    """One thread, no Hub."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Sends a signal to a process that may have gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
