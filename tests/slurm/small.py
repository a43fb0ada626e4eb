"""The tiny preset made small enough for a test: its world, teacher and student, forty-eight problems; every stage is the real one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPO
from tests.slurmlab import Lab
from tests.slurmlab.processes import wait_until

PROFILE: dict[str, Any] = {
    "defaults": {"partition": "low", "cpus_per_task": 1, "memory_gb": 0.5, "minutes": 60},
    "gpu_syntax": "none",
    "signal_lead_s": 20,
    "visible_within_s": 0,
    "restart_delay_s": 8,  # ending a job may take seconds on a busy test machine
    "array_parallelism": 2,
}


def base_config() -> dict[str, Any]:
    """Few rows and few tokens; wrong rationales are kept, so that the number of rows is no luck."""
    engine = {"transformers": {"batch_invariant": True, "max_batch": 8, "batch_tokens": 1024, "threads": 1}}
    return {
        "name": "small",
        "seed": 3,
        "iterations": 1,
        "data": {
            "train": {"tiny": "train", "sample": 48},
            "diagnosis": 0,
            "validation": 6,
            "contamination": "off",
        },
        "teacher": {"model": "tiny:teacher", "dtype": "float32", "prompt": "tiny"},
        "student": {"model": "tiny:student", "dtype": "float32", "prompt": "tiny"},
        "method": {"errors_from": "both", "regenerate": "all", "wrong_rationales": "keep"},
        "generate": {
            "shards": 2,
            "samples": 1,
            "max_attempts": 1,
            "sampling": {"temperature": 0.7, "max_new_tokens": 64},
            "engine": engine,
            "quality": {"drop_truncated": False, "drop_leaks": False, "max_repeated_lines": 1.0},
        },
        "train": {
            "epochs": 12,
            "tokens_per_batch": 512,
            "micro_batch_tokens": 512,
            "max_length": 512,
            "learning_rate": 1e-3,
            "precision": "fp32",
            "zero_stage": 0,
            "attention": "varlen",
            "preflight": False,
            "threads": 1,
            "checkpoint": {"every_steps": 10},
        },
        "evaluate": {
            "benchmarks": [],
            "problems_per_task": 1000,
            "baseline": False,
            "train_predictions": True,
            "sampling": {"temperature": 0.0, "max_new_tokens": 48},
            "engine": engine,
        },
        "storage": {"flush_rows": 4, "flush_seconds": 1.0},
        "stop": {"enabled": False},
        "display": {"progress": "plain", "report": False},
    }


@dataclass
class Campaign:
    """A configuration, a profile and a run directory.

    Attributes:
        folder: holds all of them.
    """

    folder: Path
    config: dict[str, Any]
    profile: dict[str, Any]

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def write(self) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config))
        (self.folder / "profile.yaml").write_text(yaml.safe_dump(self.profile))

    def command(self, *more: str) -> list[str]:
        """The launcher, as a user types it."""
        self.write()
        return [
            sys.executable,
            str(REPO / "launchers" / "run_iteration.py"),
            "--config",
            str(self.folder / "config.yaml"),
            "--run-dir",
            str(self.run_dir),
            *more,
        ]

    def launch(
        self, *more: str, check: bool = True, without_profile: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Runs the launcher against the cluster that SLURM_CONF names.

        Args:
            without_profile: as a person does who resumes a run, and whose profile has been deleted since.
        """
        profile = self.folder / "profile.yaml"
        command = self.command(*([] if without_profile else ["--profile", str(profile)]), *more)
        if without_profile:
            profile.unlink()
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, cwd=self.folder, env=environment()
        )
        if check and done.returncode:
            raise AssertionError(f"launcher: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def run_locally(self) -> None:
        """The same campaign on this machine, undisturbed."""
        done = subprocess.run(
            self.command("--cluster", "local", "--set", "cluster.max_processes=2"),
            capture_output=True,
            text=True,
            timeout=600,
            cwd=self.folder,
            env=environment(),
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def ended(self) -> bool:
        """Whether the last iteration is complete."""
        return (self.run_dir / f"iter_{self.config['iterations'] - 1:03d}" / "advance.manifest.json").exists()

    def wait_ended(self, seconds: float = 1000) -> None:
        """Waits for the last iteration; fails early, with the logs, where nothing is queued any more."""
        deadline = time.monotonic() + seconds
        empty = 0
        while not self.ended:
            queue = subprocess.run(
                ["squeue", "-h", "--me"], capture_output=True, text=True, timeout=60
            ).stdout
            empty = 0 if queue.strip() else empty + 1
            if empty > 3 or time.monotonic() > deadline:
                raise AssertionError(f"the run has not ended; queue:\n{queue}\n{self.logs()}")
            time.sleep(0.5)

    def logs(self, tail: int = 25) -> str:
        """The ends of all logs."""
        texts = []
        for path in sorted(self.run_dir.glob("iter_*/logs/*.log")):
            texts.append(
                f"== {path.relative_to(self.run_dir)}\n"
                + "\n".join(path.read_text(errors="replace").splitlines()[-tail:])
            )
        return "\n".join(texts)

    def events(self, stage: str, iteration: int = 0) -> list[dict[str, Any]]:
        """All events of a stage's tasks."""
        found = []
        for path in sorted((self.run_dir / f"iter_{iteration:03d}" / "events").glob(f"{stage}-*.jsonl")):
            found += [json.loads(line) for line in path.read_text().splitlines()]
        return found

    def results(self) -> dict[str, str]:
        """Digests of what must not depend on what happened: the distilled sets, the weights, the answers."""
        digests = {}
        for pattern in (
            "iter_*/distilled/*.parquet",
            "iter_*/student/*.safetensors",
            "iter_*/generate/shard-*.jsonl",
            "iter_*/sample/*/shard-*.jsonl",
            "iter_*/score/*.bin",
            "iter_*/feedback.jsonl",
        ):
            for path in sorted(self.run_dir.glob(pattern)):
                digests[path.relative_to(self.run_dir).as_posix()] = hashlib.sha256(
                    path.read_bytes()
                ).hexdigest()
        return digests


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def make_campaign(folder: Path, **changes: Any) -> Campaign:
    """A campaign in a folder of its own; `changes` are dotted keys with `__`, e.g. train__epochs=2."""
    folder.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(folder, base_config(), json.loads(json.dumps(PROFILE)))
    for key, value in changes.items():
        target = campaign.config
        *path, last = key.split("__")
        for part in path:
            target = target.setdefault(part, {})
        target[last] = value
    return campaign


def continued(done: Path, folder: Path, **changes: Any) -> Campaign:
    """A copy of a finished campaign that has still to train, evaluate and advance in its first iteration."""
    campaign = make_campaign(folder, **changes)
    shutil.copytree(done / "run", campaign.run_dir)
    for path in campaign.run_dir.glob("iter_00[1-9]"):
        shutil.rmtree(path)
    at = campaign.run_dir / "iter_000"
    for name in ("train", "student", "evaluate", "events", "progress", "leases", "logs"):
        shutil.rmtree(at / name, ignore_errors=True)
    for name in ("train.manifest.json", "advance.manifest.json", "metrics.json", "feedback.jsonl"):
        (at / name).unlink(missing_ok=True)
    (campaign.run_dir / "decision.json").unlink(missing_ok=True)
    return campaign


def has_output(campaign: Campaign, stage: str, iteration: int = 0) -> bool:
    """Whether a stage is in the middle of its work: something durable is there, and the stage is not complete."""
    at = campaign.run_dir / f"iter_{iteration:03d}"
    if stage == "train":
        return any(path.is_file() for path in (at / "train" / "checkpoints").rglob("*"))
    return any(path.stat().st_size > 0 for path in (at / stage).rglob("*.parts/*") if path.is_file())


def limit_submissions(lab: Lab, most: int) -> None:
    """Sets MaxSubmitJobs of this user, in a cluster with accounting."""
    user = os.environ.get("USER") or "root"
    lab.run("sacctmgr", "-i", "modify", "user", user, "set", f"MaxSubmitJobs={most}")
    wait_until(
        lambda: f"MaxSubmitJobs={most}(" in lab.run("scontrol", "show", "assoc_mgr", "flags=assoc"),
        30,
        "the limit to be known",
    )
