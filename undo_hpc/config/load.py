"""From YAML and `--set a.b=value` to a RunConfig; every mistake is named with its file, line and key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError
from undo_hpc.system.data_files import data_file

PRESETS = data_file("launchers/configs")
PROMPT_SETS = Path(__file__).resolve().parents[1] / "prompts"
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class YamlText:
    """A YAML mapping with the line on which each key stands, for messages."""

    data: dict[str, Any]
    name: str
    lines: Mapping[tuple[str, ...], int]

    def where(self, path: tuple[str, ...]) -> str:
        """'file, line n' for a key (or the nearest enclosing one that stands in the file)."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.name}, line {self.lines[path[:length]]}"
        return self.name


def read_yaml(path: Path) -> YamlText:
    """Reads a YAML mapping. Raises ConfigError where the file is missing, not YAML, or not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="check the path") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}", hint="mend the line that is named") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: the file must hold keys and values", hint="see launchers/configs/tiny.yaml"
        )
    lines: dict[tuple[str, ...], int] = {}
    for keys, number in _lines(node, ()):
        if keys in lines:  # YAML would silently take the last one
            raise ConfigError(
                f"{path}, line {number}: key '{'.'.join(keys)}' stands twice (first on line {lines[keys]})",
                hint="keep one of the two; the keys of a section stand together",
            )
        lines[keys] = number
    return YamlText(data, str(path), lines)


def _lines(node: yaml.Node | None, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            yield inner, key.start_mark.line + 1
            yield from _lines(value, inner)


def _models(annotation: Any) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models inside an annotation; True where they are values of a mapping with free keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, False
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _models(part)
    elif get_origin(annotation) is dict:
        for model, _ in _models(get_args(annotation)[1]):
            yield model, True


def unknown_keys(
    model: type[BaseModel], data: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each key that the model does not know, with what to do about it: the nearest valid key and its meaning."""
    if not isinstance(data, Mapping):
        return
    for key, value in data.items():
        info = model.model_fields.get(str(key))
        if info is None:
            near = difflib.get_close_matches(str(key), model.model_fields, n=1, cutoff=0.5)
            advice = f"valid keys here: {', '.join(model.model_fields)}"
            if near:
                advice = f"did you mean '{near[0]}' ({model.model_fields[near[0]].description})?"
            yield (*path, str(key)), advice
            continue
        for inner, free_keys in _models(info.annotation):
            if free_keys and isinstance(value, Mapping):
                for name, item in value.items():
                    yield from unknown_keys(inner, item, (*path, str(key), str(name)))
            else:
                yield from unknown_keys(inner, value, (*path, str(key)))


def validate_section(model: type[M], text: YamlText) -> M:
    """A model from YAML. Raises ConfigError that names every wrong key with its file, line and meaning."""
    unknown = list(unknown_keys(model, text.data))
    if unknown:
        lines = [f"{text.where(path)}: unknown key '{'.'.join(path)}'" for path, _ in unknown]
        hints = [f"{'.'.join(path)}: {advice}" for path, advice in unknown]
        raise ConfigError("\n".join(lines), hint="\n     ".join(hints))
    try:
        return model.model_validate(text.data)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            path = tuple(str(part) for part in item["loc"])
            value = "" if isinstance(item["input"], dict | list) else f" (it is {item['input']!r})"
            key = f"'{'.'.join(path)}': " if path else ""
            lines.append(f"{text.where(path)}: {key}{item['msg'].removeprefix('Value error, ')}{value}")
        raise ConfigError("\n".join(lines), hint=_meaning(model, error.errors()[0]["loc"])) from error


def _meaning(model: type[BaseModel], loc: Iterable[Any]) -> str:
    """The description of the key at a place, as far as the place can be followed."""
    text, current = "", model
    for part in loc:
        info = current.model_fields.get(str(part))
        if info is None:
            break
        text = f"{part}: {info.description}"
        inner = [m for m, _ in _models(info.annotation)]
        if not inner:
            break
        current = inner[0]
    return text


def preset_names() -> list[str]:
    """Names of the configurations that come with the project."""
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def find_config(name_or_file: str) -> Path:
    """The file of a preset's name or of a path. Raises ConfigError that lists the presets."""
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml") or path.exists():
        if not path.is_file():
            there = sorted(str(p) for p in path.parent.glob("*.y*ml"))[:20] if path.parent.is_dir() else []
            near = difflib.get_close_matches(str(path), there, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise ConfigError(
                f"no such configuration file: {path}", hint=f"{hint}presets: {', '.join(preset_names())}"
            )
        return path
    preset = PRESETS / f"{name_or_file}.yaml"
    if preset.is_file():
        return preset
    near = difflib.get_close_matches(name_or_file, preset_names(), n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ConfigError(
        f"no preset or file named '{name_or_file}'", hint=f"{hint}presets: {', '.join(preset_names())}"
    )


def apply_sets(text: YamlText, sets: Iterable[str]) -> YamlText:
    """`a.b=value` over the file's values; a value is read as YAML. Raises ConfigError for a word without '='."""
    data = yaml.safe_load(yaml.safe_dump(text.data))
    lines = dict(text.lines)
    for item in sets:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {item}: expected KEY=VALUE", hint="for example --set train.epochs=2")
        path = tuple(key.strip().split("."))
        target = data
        for part in path[:-1]:
            if not isinstance(target.setdefault(part, {}), dict):
                raise ConfigError(
                    f"--set {item}: '{part}' is a value, not a section",
                    hint="name a key inside a section, such as train.epochs",
                )
            target = target[part]
        try:
            target[path[-1]] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {item}: the value is not valid YAML ({error})", hint="quote it"
            ) from error
        for length in range(1, len(path) + 1):
            lines.pop(path[:length], None)
    return YamlText(data, text.name, lines)


# Keys that hold a path; an entry of `*` stands for any key of a mapping.
_PATHS = (
    ("data", "train", "path"),
    ("evaluate", "overrides", "*", "path"),
    ("evaluate", "benchmarks"),
    ("cluster", "profile"),
    ("generate", "prompt"),
    ("evaluate", "prompt"),
    ("generate", "engine", "openai", "api_key_file"),
    ("hub", "token_file"),
    ("train", "deepspeed"),
    ("teacher", "model"),
    ("student", "model"),
)


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
    path = Path(value).expanduser()
    if path.is_absolute():
        return str(path)
    is_path = (
        "/" in value
        or path.suffix
        or (not path.exists() and _is_folder(base / path, key))
        or (base / path / "config.json").is_file()
    )
    is_there = (base / path).exists() or ("*" in path.name and any((base / path).parent.glob(path.name)))
    return str((base / path).resolve()) if is_path and is_there else value


def _is_folder(place: Path, key: str) -> bool:
    """Whether a bare word means a folder beside the file: it may be a name (of a benchmark, a prompt set, a model) instead."""
    return place.is_dir() and (
        key == "path"
        or (key == "prompt" and any(place.glob("*.txt")) and not (PROMPT_SETS / place.name).is_dir())
    )


def load_config(name_or_file: str, sets: Iterable[str] = ()) -> RunConfig:
    """The configuration of a run from a preset's name or a file, with `--set` values over it.

    Relative paths in the file are meant from the file's folder where they exist there, those of `--set` (and all others)
    from the working directory; the run records them as absolute.
    """
    path = find_config(name_or_file)
    text = read_yaml(path)
    for keys in _PATHS:
        _absolute(text.data, path.resolve().parent, keys)
    return _finish(text, sets)


def override(config: RunConfig, sets: Iterable[str]) -> RunConfig:
    """A configuration with `--set` values over it."""
    return _finish(
        YamlText(config.model_dump(mode="json", exclude_unset=True), "the run's configuration", {}), sets
    )


def _finish(text: YamlText, sets: Iterable[str]) -> RunConfig:
    sets = list(sets)
    if sets:
        text = apply_sets(text, sets)
        text = YamlText(
            text.data, f"{text.name} with --set {' '.join(sets)}" if len(sets) < 4 else text.name, text.lines
        )
    for keys in _PATHS:
        _absolute(text.data, Path.cwd(), keys)
    return validate_section(RunConfig, text)


def differing_keys(
    old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any, Any]]:
    """(key, old value, new value) for each leaf that differs."""
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from differing_keys(a, b, (*path, key))
        elif a != b:
            yield ".".join((*path, key)), a, b


def is_neutral(key: str) -> bool:
    """Whether a dotted key may change in an existing run, because it does not touch the results."""
    current: type[BaseModel] = RunConfig
    for part in key.split("."):
        info = current.model_fields.get(part)
        if info is None:
            return False
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("runtime"):
            return True
        inner = [m for m, _ in _models(info.annotation)]
        if not inner:
            return False
        current = inner[0]
    return False
