"""What a training is asked to do: one JSON file that every rank reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from undo_hpc.chat.training_text import Policy
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.events import EventLog

RECORD = "training.json"  # in the student's folder: what it was trained with, and on how many rows


@dataclass(frozen=True)
class TrainSpec:
    """A training, whole: settings, model, data, places. Round-trips through JSON.

    Attributes:
        train: a dump of TrainConfig.
        seed: the seed of the order of examples, of LoRA's first weights and of dropout.
        model: local directory or Hub id of the student's first weights, already resolved.
        origin: what those weights are called, wherever they lie (a run may be moved, and each launch may bring its own copy of the
            code with the embedded models); a checkpoint of another origin is refused. Empty: as `model`.
        data: parquet files with the columns of records.Example.
        data_digest: digest of the data; a checkpoint made on other data is refused.
        prompt: name of the prompt set, or its folder.
        reasoning: what becomes of a rationale's reasoning: keep, strip, or drop the row.
        date: the day that a chat template with a date prints, YYYY-MM-DD; empty for today.
        work_dir: place of checkpoints/, metrics.jsonl, preflight.json and progress.json.
        out_dir: the student's Hugging Face directory; appears whole or not at all.
        card: name, iteration, parent, teacher, data for the model card.
        time_limit_s: seconds from the start of the process after which it will be killed; None for no limit.
        events, events_pid: the task's event log, and the process that started it there; empty for none.
        run_id: the run a checkpoint belongs to; one of another run is refused.
        scores: indices of the teacher's scores (storage/scores.py); none where text alone is learned.
        distill: how they are learned: a dump of DistillConfig, with the signal.
    """

    train: dict[str, Any]
    seed: int
    model: str
    data: list[str]
    work_dir: str
    out_dir: str
    run_id: str
    origin: str = ""
    revision: str = ""
    trust_remote_code: bool = False
    dtype: str = "auto"
    data_digest: str = ""
    prompt: str = "default"
    instruction: str = ""
    system_prompt: str = ""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    reasoning: Policy = "keep"
    date: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    time_limit_s: float | None = None
    events: str = ""
    events_pid: int = 0
    scores: list[str] = field(default_factory=list)
    distill: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> TrainConfig:
        """The settings, checked. Raises ConfigError naming the wrong key."""
        try:
            return TrainConfig(**self.train)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(["train", *(str(part) for part in first["loc"])])
            raise ConfigError(
                f"training spec: {key}: {first['msg'].removeprefix('Value error, ')}",
                hint="the spec is written by the train stage; fix the run's configuration and start again",
            ) from error

    def tell_ready(self) -> None:
        """Records that loading is over: the hours before count as loading, not as training."""
        if self.events:
            EventLog(Path(self.events)).append("ready", pid=self.events_pid)

    def save(self, path: Path) -> None:
        """Writes the spec durably."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a spec. Raises ConfigError where the file is missing, torn, or lacks a key."""
        hint = "the spec is written by the train stage; run that again"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: no such training spec", hint=hint) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid JSON: {error}", hint=hint) from error
        known = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or (unknown := set(data) - known):
            raise ConfigError(
                f"{path}: unknown keys: {', '.join(sorted(unknown)) if isinstance(data, dict) else data}",
                hint=hint,
            )
        try:
            spec = cls(**data)
        except TypeError as error:
            raise ConfigError(f"{path}: {error}", hint=hint) from error
        _ = spec.config
        return spec
