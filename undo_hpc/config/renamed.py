"""Old names of keys, which are accepted with a note, and words of other programs, which are answered with ours."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

from undo_hpc.config.yaml_text import YamlText
from undo_hpc.errors import ConfigError

log = logging.getLogger(__name__)

RENAMED = {
    "generate.prompt": "teacher.prompt",
    "generate.instruction": "teacher.instruction",
    "evaluate.prompt": "student.prompt",
    "evaluate.instruction": "student.instruction",
    "generate.flush_rows": "storage.flush_rows",
    "generate.flush_seconds": "storage.flush_seconds",
    "generate.sampling.max_tokens": "generate.sampling.max_new_tokens",
    "generate.sampling.max_tokens_by_iteration": "generate.sampling.max_new_tokens_by_iteration",
    "evaluate.sampling.max_tokens": "evaluate.sampling.max_new_tokens",
    "evaluate.sampling.max_tokens_by_iteration": "evaluate.sampling.max_new_tokens_by_iteration",
    "method.validation_examples": "method.examples",
    "train.clip": "train.max_grad_norm",
    "train.sinks": "train.trackers",
}
# What people type who come from other programs, by the last part of the key. Only a hint: one word often has two meanings here.
ALIASES: dict[str, tuple[str, ...]] = {
    "lr": ("train.learning_rate",),
    "num_epochs": ("train.epochs",),
    "num_train_epochs": ("train.epochs",),
    "batch_size": ("train.tokens_per_batch", "train.micro_batch_tokens"),
    "per_device_train_batch_size": ("train.micro_batch_tokens",),
    "gradient_accumulation_steps": ("train.tokens_per_batch", "train.micro_batch_tokens"),
    "max_seq_length": ("train.max_length",),
    "max_seq_len": ("train.max_length",),
    "bf16": ("train.precision",),
    "fp16": ("train.precision",),
    "report_to": ("train.trackers",),
    "save_steps": ("train.checkpoint.every_steps",),
    "max_tokens": ("generate.sampling.max_new_tokens", "evaluate.sampling.max_new_tokens"),
    "max_new_tokens": ("generate.sampling.max_new_tokens", "evaluate.sampling.max_new_tokens"),
    "temperature": ("generate.sampling.temperature", "evaluate.sampling.temperature"),
    "top_p": ("generate.sampling.top_p", "evaluate.sampling.top_p"),
    "n": ("generate.samples", "evaluate.samples"),
    "num_samples": ("generate.samples", "evaluate.samples"),
    "model": ("teacher.model", "student.model"),
    "model_name_or_path": ("teacher.model", "student.model"),
    "teacher_model": ("teacher.model",),
    "student_model": ("student.model",),
    "prompt": ("teacher.prompt", "student.prompt"),
    "dataset": ("data.train.path", "data.train.hub"),
    "dataset_name": ("data.train.hub",),
    "max_samples": ("data.train.sample",),
    "tp": ("generate.engine.vllm.tensor_parallel_size",),
    "tensor_parallel_size": ("generate.engine.vllm.tensor_parallel_size",),
    "base_url": ("generate.engine.openai.base_url",),
    "time": ("cluster.resources.STAGE.minutes",),
    "partition": ("partition of the profile (cluster.profile)",),
}
_noted: set[str] = set()


def renamed(text: YamlText) -> YamlText:
    """The mapping with new names of keys. An old one is noted once in a process, in the log.

    Raises:
        ConfigError: both the old and the new name of a key are given.
    """
    data, lines = copy.deepcopy(text.data), dict(text.lines)
    for old, new in RENAMED.items():
        before, after = tuple(old.split(".")), tuple(new.split("."))
        section = _section(data, before[:-1])
        if section is None or before[-1] not in section:
            continue
        where = text.where(before)
        target = _section(data, after[:-1], make=True)
        if target is None:
            continue  # a value stands where the section should: validation says so
        if after[-1] in target:
            raise _both(where, old, new)
        target[after[-1]] = section.pop(before[-1])
        for keys, number in text.lines.items():
            if keys[: len(before)] == before:
                lines[after + keys[len(before) :]] = number
        _note(f"{where}: '{old}' is now '{new}'; the old name is still read", old)
    return YamlText(data, text.name, lines)


def renamed_paths(given: Mapping[tuple[str, ...], Any], where: str) -> dict[tuple[str, ...], Any]:
    """The same for single keys, such as those of `--set`."""
    result: dict[tuple[str, ...], Any] = {}
    for path, value in given.items():
        for length in range(len(path), 0, -1):
            old = ".".join(path[:length])
            if old not in RENAMED:
                continue
            new = RENAMED[old]
            path = (*new.split("."), *path[length:])
            if path in given:
                raise _both(where, old, new)
            _note(f"{where}: '{old}' is now '{new}'; the old name is still read", old)
            break
        result[path] = value
    return result


def _both(where: str, old: str, new: str) -> ConfigError:
    return ConfigError(
        f"{where}: '{old}' is the old name of '{new}', and both are given",
        hint=f"keep '{new}' and remove '{old}'",
    )


def _section(data: dict[str, Any], path: tuple[str, ...], *, make: bool = False) -> dict[str, Any] | None:
    """The mapping at a place, or None where there is none; `make` makes it where nothing stands."""
    for part in path:
        if make and data.get(part) is None:
            data[part] = {}
        inner = data.get(part)
        if not isinstance(inner, dict):
            return None
        data = inner
    return data


def _note(message: str, key: str) -> None:
    if key not in _noted:
        _noted.add(key)
        log.warning("%s", message)
