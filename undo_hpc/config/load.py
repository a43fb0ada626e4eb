"""From YAML and `--set a.b=value` to a RunConfig; every mistake is named with its file, line and key."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from undo_hpc.config.differences import models_in
from undo_hpc.config.method import METHOD_PRESETS
from undo_hpc.config.renamed import ALIASES, HINTS, renamed, renamed_paths
from undo_hpc.config.schema import RunConfig
from undo_hpc.config.yaml_text import YamlText, parse_value, read_yaml
from undo_hpc.errors import ConfigError
from undo_hpc.system.credentials import credentials_of
from undo_hpc.system.data_files import data_file, expanded
from undo_hpc.system.ownership import require_not_for_everybody, require_not_planted

PRESETS = data_file("launchers/configs")
PROMPT_SETS = Path(__file__).resolve().parents[1] / "prompts"
M = TypeVar("M", bound=BaseModel)

__all__ = ["YamlText", "read_yaml"]  # beside what is defined here


def unknown_keys(
    model: type[BaseModel], data: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each key that the model does not know, with what to do about it: the nearest valid key and its meaning."""
    if not isinstance(data, Mapping):
        return
    for key, value in data.items():
        info = model.model_fields.get(str(key))
        if info is None:
            yield (*path, str(key)), _advice(model, str(key), path)
            continue
        for inner, free_keys in models_in(info.annotation):
            if free_keys and isinstance(value, Mapping):
                for name, item in value.items():
                    yield from unknown_keys(inner, item, (*path, str(key), str(name)))
            else:
                yield from unknown_keys(inner, value, (*path, str(key)))


def _advice(model: type[BaseModel], key: str, path: tuple[str, ...]) -> str:
    """What was meant by an unknown key: another program's word, the same key in another section, or the nearest key here."""
    words = ALIASES | HINTS
    elsewhere = words.get(key) or tuple(dotted for dotted in _ALL_KEYS if dotted.rpartition(".")[2] == key)
    here = [dotted for dotted in elsewhere if path and dotted.startswith(f"{'.'.join(path)}.")]
    near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.5)
    if elsewhere and model.__module__.startswith("undo_hpc.config") and (here or not near or key in words):
        return f"did you mean {' or '.join(_described(dotted) for dotted in (here or elsewhere)[:3])}?"
    if near:
        return f"did you mean '{near[0]}' ({model.model_fields[near[0]].description})?"
    return f"valid keys here: {', '.join(model.model_fields)}"


def _described(dotted: str) -> str:
    meaning = _meaning(RunConfig, dotted.split("."))
    return f"'{dotted}' ({meaning.partition(': ')[2]})" if meaning and dotted in _ALL_KEYS else f"'{dotted}'"


def all_keys(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """The dotted names of all keys that hold a value; of a mapping with free keys its own name."""
    for name, info in model.model_fields.items():
        inner = [section for section, free_keys in models_in(info.annotation) if not free_keys]
        if inner:
            yield from all_keys(inner[0], f"{path}{name}.")
        else:
            yield f"{path}{name}"


_ALL_KEYS = tuple(all_keys(RunConfig))


def validate_section(model: type[M], text: YamlText) -> M:
    """A model from YAML. Raises ConfigError that names every wrong key with its file, line and meaning."""
    _refuse_credentials(text)
    unknown = list(unknown_keys(model, text.data))
    if unknown:
        lines = [f"{text.where(path)}: unknown key '{'.'.join(path)}'" for path, _ in unknown]
        hints = [f"{'.'.join(path)}: {advice}" for path, advice in unknown]
        raise ConfigError("\n".join(lines), hint="\n     ".join(hints))
    try:
        return model.model_validate(text.data)
    except ValidationError as error:
        found: dict[tuple[str, ...], str] = {}
        for item in error.errors():
            path = tuple(map(str, item.get("ctx", {}).get("path") or ()))
            path = _key_of((*map(str, item["loc"]), *path))
            value = (
                "" if isinstance(item["input"], dict | list) or path == () else f" (it is {item['input']!r})"
            )
            message = item["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
            if item["type"] == "model_type":  # it would name a class of ours
                message = "is a section: give one of its keys"
            if item["type"] == "string_type" and isinstance(item["input"], int | float):
                value += "; in quotes it is a text"
            elif item["type"] in ("int_type", "float_type") and _is_number(item["input"]):
                value += "; without quotes it is a number"
            found[path] = f"{found[path]}, or {message}" if path in found else f"{message}{value}"
        keys = {path: f"'{'.'.join(path)}': " if path else "" for path in found}
        lines = [f"{text.where(path)}: {keys[path]}{message}" for path, message in found.items()]
        raise ConfigError("\n".join(lines), hint=_meaning(model, next(iter(found)))) from error


def _refuse_credentials(text: YamlText) -> None:
    """Raises ConfigError, without the value, for a secret: a configuration is copied into the run's files, and published with them."""
    if found := list(credentials_of(text.data)):
        places = [(text.where(path), ".".join(path), what) for path, what in found]
        raise ConfigError(
            "\n".join(
                f"{place.partition(' with --set ')[0]}: '{key}' holds {what}" for place, key, what in places
            ),
            hint="a configuration is copied into the run's files: put the secret into a file that only you can read (chmod 600), and name "
            "that in engine.openai.api_key_file or hub.token_file, or export OPENAI_API_KEY or HF_TOKEN",
        )


def _is_number(value: Any) -> bool:
    """Whether a text reads as a number."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return isinstance(value, str)


def _key_of(loc: tuple[str, ...]) -> tuple[str, ...]:
    """A place without what pydantic adds to it: which member of a union it tried, whether it was a mapping's key."""
    return tuple(part for part in loc if part not in ("int", "float", "str", "bool") and "[" not in part)


def _meaning(model: type[BaseModel], loc: Iterable[Any]) -> str:
    """The description of the key at a place, as far as the place can be followed."""
    text, current = "", model
    for part in loc:
        info = current.model_fields.get(str(part))
        if info is None:
            break
        text = f"{part}: {info.description}"
        inner = [m for m, _ in models_in(info.annotation)]
        if not inner:
            return text
        current = inner[0]
    return text if current is model else f"{text}; its keys: {', '.join(current.model_fields)}"


def preset_names() -> list[str]:
    """Names of the configurations that come with the project."""
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def find_config(name_or_file: str) -> Path:
    """The file of a preset's name or of a path. Raises ConfigError that lists the presets.

    A preset goes before a file of its bare name: whoever can write in the folder where a command is typed could change what it means.
    """
    path = Path(name_or_file)
    preset = PRESETS / f"{name_or_file}.yaml"
    is_preset = bool(name_or_file) and "/" not in name_or_file and preset.is_file()
    if path.suffix in (".yaml", ".yml") or (path.exists() and not is_preset):
        if path.is_dir():
            raise ConfigError(
                f"{path} is a folder, not a configuration file", hint="name the YAML file in it"
            )
        if not path.is_file():
            there = sorted(str(p) for p in path.parent.glob("*.y*ml"))[:20] if path.parent.is_dir() else []
            near = difflib.get_close_matches(str(path), there, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise ConfigError(
                f"no such configuration file: {path}", hint=f"{hint}presets: {', '.join(preset_names())}"
            )
        return path
    if name_or_file and preset.is_file():
        return preset
    near = difflib.get_close_matches(name_or_file, preset_names(), n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ConfigError(
        f"no preset or file named '{name_or_file}'", hint=f"{hint}presets: {', '.join(preset_names())}"
    )


def apply_sets(text: YamlText, sets: Iterable[str]) -> YamlText:
    """`a.b=value` over the file's values; a value is read as YAML, and a mapping goes over a section key by key.

    Raises ConfigError for a word without '=', a value that is not YAML, an old name beside its new one.
    """
    data = copy.deepcopy(text.data)
    lines = dict(text.lines)
    given: dict[tuple[str, ...], Any] = {}
    for item in sets:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {item}: expected KEY=VALUE", hint="for example --set train.epochs=2")
        try:
            parsed = parse_value(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {item}: the value cannot be read ({error})", hint="quote it") from error
        for path, leaf in _leaves(tuple(key.strip().split(".")), parsed):
            given.pop(path, None)
            given[path] = leaf
    _make_way_for_preset(data, given.get(("method", "preset")))
    for path, value in renamed_paths(given, "--set", data).items():
        target = data
        for part in path[:-1]:
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
            if not isinstance(target, dict):
                raise ConfigError(
                    f"--set {'.'.join(path)}: '{part}' is a value, not a section",
                    hint="name a key inside a section, such as train.epochs",
                )
        target[path[-1]] = value
        for length in range(1, len(path) + 1):
            lines.pop(path[:length], None)
    return YamlText(data, text.name, lines)


def _make_way_for_preset(data: dict[str, Any], preset: Any) -> None:
    """Removes from the file's values those that a preset given by `--set` is about: else it would change nothing."""
    method = data.get("method")
    if isinstance(method, dict) and isinstance(preset, str):
        for key in METHOD_PRESETS.get(preset, {}):
            method.pop(key, None)


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A value by its keys, as far as they are keys of sections; a mapping with free keys is one value."""
    model: type[BaseModel] | None = RunConfig
    for part in path:
        info = model.model_fields.get(part) if model else None
        inner = (
            [section for section, free_keys in models_in(info.annotation) if not free_keys] if info else []
        )
        model = inner[0] if inner else None
    if model and isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves((*path, str(key)), item)
    else:
        yield path, value


# Keys that hold a path; an entry of `*` stands for any key of a mapping.
_PATHS = (
    ("data", "train", "path"),
    ("data", "rationales", "path"),
    ("data", "rationales", "run"),
    ("evaluate", "overrides", "*", "path"),
    ("evaluate", "benchmarks"),
    ("cluster", "profile"),
    ("teacher", "prompt"),
    ("student", "prompt"),
    ("generate", "engine", "openai", "api_key_file"),
    ("hub", "token_file"),
    ("train", "deepspeed"),
    ("teacher", "model"),
    ("student", "model"),
    ("plugins",),
)
_FILES = ("path", "api_key_file", "token_file", "deepspeed")  # whose bare words are files, and never names


def _absolute(data: Any, base: Path, path: tuple[str, ...]) -> None:
    """Makes relative paths that exist below `base` absolute, in place; names of presets and Hub ids stay."""
    if not isinstance(data, dict):
        return
    keys = list(data) if path[0] == "*" else [path[0]] if path[0] in data else []
    for key in keys:
        if len(path) > 1:
            _absolute(data[key], base, path[1:])
            continue
        value = data[key]
        if isinstance(value, list):
            data[key] = [_resolved(item, base, key) for item in value]
        else:
            data[key] = _resolved(value, base, key)


def _resolved(value: Any, base: Path, key: str) -> Any:
    if not isinstance(value, str) or not value or "\0" in value:
        return value
    path = expanded(value)
    if path.is_absolute():
        return str(path)
    if key == "plugins":  # always folders, and tasks have another working directory
        if not (base / path).is_dir():
            return value
        require_not_planted(base, value, key)
        return str((base / path).resolve())
    is_word = _is_folder(base / path, key) or (key in _FILES and (base / path).is_file())
    is_path = (
        "/" in value
        or path.suffix
        or (not path.exists() and _is_folder(base / path, key))
        or (base / path / "config.json").is_file()
    )
    is_there = (base / path).exists() or ("*" in path.name and any((base / path).parent.glob(path.name)))
    if is_there and (is_path or is_word):
        require_not_planted(base, value, key)
    if not is_path or not is_there:
        return value
    return str((base / path).resolve())


def _is_folder(place: Path, key: str) -> bool:
    """Whether a bare word means a folder beside the file: it may be a name (of a benchmark, a prompt set, a model) instead."""
    return place.is_dir() and (
        key in ("path", "run")
        or (key == "prompt" and any(place.glob("*.txt")) and not (PROMPT_SETS / place.name).is_dir())
    )


def load_config(name_or_file: str, sets: Iterable[str] = ()) -> RunConfig:
    """The configuration of a run from a preset's name or a file, with `--set` values over it.

    Relative paths in the file are meant from the file's folder where they exist there, those of `--set` (and all others)
    from the working directory; the run records them as absolute.
    """
    path = find_config(name_or_file)
    require_not_for_everybody(path)
    text = renamed(read_yaml(path))
    resolve_paths(text.data, path.resolve().parent)
    return _finish(text, sets)


def resolve_paths(data: dict[str, Any], base: Path) -> None:
    """Makes relative paths of a configuration absolute, in place, where they exist below `base`; names of presets and Hub ids stay."""
    for keys in _PATHS:
        _absolute(data, base, keys)


def override(config: RunConfig, sets: Iterable[str]) -> RunConfig:
    """A configuration with `--set` values over it."""
    return _finish(
        YamlText(config.model_dump(mode="json", exclude_unset=True), "the run's configuration", {}), sets
    )


def from_sets(sets: Iterable[str]) -> RunConfig:
    """A configuration from `--set` values alone, over the defaults."""
    return _finish(YamlText({}, "the arguments", {}), sets)


def _finish(text: YamlText, sets: Iterable[str]) -> RunConfig:
    sets = list(sets)
    if sets:
        text = apply_sets(text, sets)
        text = YamlText(
            text.data, f"{text.name} with --set {' '.join(sets)}" if len(sets) < 4 else text.name, text.lines
        )
    resolve_paths(text.data, Path.cwd())
    return validate_section(RunConfig, text)
