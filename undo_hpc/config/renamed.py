"""Old names of keys and words of other programs, both accepted with a note that names ours; and words that are only answered."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

from undo_hpc.config.train import TrainConfig
from undo_hpc.config.yaml_text import YamlText
from undo_hpc.errors import ConfigError
from undo_hpc.system.data_files import expanded

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
# What people type who come from other programs, by the last part of the key. Accepted with a note that names the real keys, where all
# of them are meant: `max_new_tokens` at the top is the teacher's and the student's, `evaluate.max_new_tokens` the student's.
ALIASES: dict[str, tuple[str, ...]] = {
    "lr": ("train.learning_rate",),
    "learning_rate": ("train.learning_rate",),
    "epochs": ("train.epochs",),
    "num_epochs": ("train.epochs",),
    "num_train_epochs": ("train.epochs",),
    "batch_size": ("train.tokens_per_batch",),
    "max_seq_length": ("train.max_length",),
    "max_seq_len": ("train.max_length",),
    "report_to": ("train.trackers",),
    "save_steps": ("train.checkpoint.every_steps",),
    "max_tokens": ("generate.sampling.max_new_tokens", "evaluate.sampling.max_new_tokens"),
    "max_new_tokens": ("generate.sampling.max_new_tokens", "evaluate.sampling.max_new_tokens"),
    "temperature": ("generate.sampling.temperature", "evaluate.sampling.temperature"),
    "top_p": ("generate.sampling.top_p", "evaluate.sampling.top_p"),
    "n": ("generate.samples", "evaluate.samples"),
    "num_samples": ("generate.samples", "evaluate.samples"),
    "engine": ("generate.engine", "evaluate.engine"),
    "model": ("teacher.model", "student.model"),
    "model_name": ("teacher.model", "student.model"),
    "model_name_or_path": ("teacher.model", "student.model"),
    "teacher_model": ("teacher.model",),
    "student_model": ("student.model",),
    "prompt": ("teacher.prompt", "student.prompt"),
    "benchmarks": ("evaluate.benchmarks",),
    "dataset": ("data.train.hub",),
    "dataset_name": ("data.train.hub",),
    "max_samples": ("data.train.sample",),
    "tp": ("generate.engine.vllm.tensor_parallel_size",),
    "tensor_parallel_size": ("generate.engine.vllm.tensor_parallel_size",),
    "base_url": ("generate.engine.openai.base_url",),
}
# At the top these are the teacher's alone: a temperature of the evaluation would make every accuracy a noisy one.
_OF_THE_TEACHER = {"temperature", "top_p", "n", "num_samples"}
# Words without a counterpart of the same meaning: only a hint.
HINTS: dict[str, tuple[str, ...]] = {
    "per_device_train_batch_size": ("train.micro_batch_tokens",),
    "gradient_accumulation_steps": ("train.tokens_per_batch", "train.micro_batch_tokens"),
    "bf16": ("train.precision",),
    "fp16": ("train.precision",),
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
    _expand_aliases(data, lines, text)
    return YamlText(data, text.name, lines)


def _expand_aliases(data: dict[str, Any], lines: dict[tuple[str, ...], int], text: YamlText) -> None:
    """Moves what stands under another program's name to our keys, in place."""
    for path in _ALIAS_PLACES:
        section = _section(data, path[:-1])
        if section is None or path[-1] not in section:
            continue
        meant = _meant(path, section[path[-1]], _max_length(data))
        if meant is None:
            continue
        where = text.where(path)
        del section[path[-1]]
        for key, value in meant.items():
            target = _section(data, key[:-1], make=True)
            if target is None:
                raise _no_section(where, path, key)
            if key[-1] in target:
                raise _both(where, ".".join(path), ".".join(key), "another name")
            target[key[-1]] = value
            lines[key] = lines.get(path, 0) or text.lines.get(path, 0)
        _note_alias(where, path, meant)


def renamed_paths(
    given: Mapping[tuple[str, ...], Any], where: str, data: Mapping[str, Any] | None = None
) -> dict[tuple[str, ...], Any]:
    """The same for single keys, such as those of `--set`; `data` is what they are set over."""
    given = _without_aliases(given, where, dict(data or {}))
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


def _without_aliases(
    given: Mapping[tuple[str, ...], Any], where: str, data: dict[str, Any]
) -> dict[tuple[str, ...], Any]:
    result: dict[tuple[str, ...], Any] = {}
    length = given.get(("train", "max_length"), _max_length(data))
    for path, value in given.items():
        meant = _meant(path, value, length)
        if meant is None:
            result[path] = value
            continue
        for key in meant:
            if key in given:
                raise _both(where, ".".join(path), ".".join(key), "another name")
        _note_alias(where, path, meant)
        result |= meant
    return result


def _places() -> tuple[tuple[str, ...], ...]:
    """Where an alias may stand: at the top, and in the sections around the keys that it means."""
    found = dict.fromkeys(
        (*target.split(".")[:depth], word)
        for word, targets in ALIASES.items()
        for target in targets
        for depth in range(target.count(".") + 1)
    )
    return tuple(found)


_ALIAS_PLACES = _places()


def _meant(path: tuple[str, ...], value: Any, max_length: Any) -> dict[tuple[str, ...], Any] | None:
    """Our keys and their values for a key of another program; None where it is one of ours, or none that is accepted."""
    word, around = path[-1], path[:-1]
    if word == "engine" and isinstance(value, str) and around in ((), ("generate",), ("evaluate",)):
        return {(role, "engine", "name"): value for role in around or ("generate", "evaluate")}
    targets = [tuple(target.split(".")) for target in ALIASES.get(word, ())]
    targets = [target for target in targets if target[: len(around)] == around]
    ours = path in targets or ".".join(path) in RENAMED
    if not targets or ours or word == "engine" or value is None:
        return None
    if not around and word in _OF_THE_TEACHER:
        targets = targets[:1]
    if word == "dataset" and isinstance(value, str) and expanded(value).exists():
        targets = [("data", "train", "path")]
    if word == "batch_size" and isinstance(value, int) and isinstance(max_length, int):
        value *= max_length  # rows there, tokens here
    return dict.fromkeys(targets, value)


def _max_length(data: Mapping[str, Any]) -> Any:
    train = data.get("train")
    default = TrainConfig.model_fields["max_length"].default
    return train.get("max_length", default) if isinstance(train, Mapping) else default


def _note_alias(where: str, path: tuple[str, ...], meant: Mapping[tuple[str, ...], Any]) -> None:
    keys = " and ".join(f"{'.'.join(key)}: {value}" for key, value in meant.items())
    unit = " (tokens, not rows: the rows times train.max_length)" if path[-1] == "batch_size" else ""
    _note(f"{where}: '{'.'.join(path)}' is read as {keys}{unit}", ".".join(path))


def _no_section(where: str, path: tuple[str, ...], key: tuple[str, ...]) -> ConfigError:
    return ConfigError(
        f"{where}: '{'.'.join(path)}' stands for '{'.'.join(key)}', and '{key[0]}' is a value, not a section",
        hint=f"give '{'.'.join(key)}' itself",
    )


def _both(where: str, old: str, new: str, what: str = "the old name") -> ConfigError:
    return ConfigError(
        f"{where}: '{old}' is {what} of '{new}', and both are given", hint=f"keep '{new}' and remove '{old}'"
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
