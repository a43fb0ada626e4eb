"""A user's own prompt folders: copied into the run at its start, and compared by what they say, not by where they lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import UndoError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.prompts import is_embedded, load_prompts
from undo_hpc.storage.atomic import make_folder, publish_dir, temporary_name, write_text

KEYS = ("teacher.prompt", "student.prompt")
_FROZEN = "frozen:"  # in config.resolved.json, before the name of a copy: a run may be moved
_DIGITS = 16
_COPY = re.compile(rf"-[0-9a-f]{{{_DIGITS}}}$")  # the end of a copy's name


def freeze(config: RunConfig, layout: Layout, before: RunConfig | None = None) -> RunConfig:
    """The configuration with each own prompt folder named by its copy in the run, which is made where it is missing or damaged.

    Args:
        before: of a run that exists: a copy that it names keeps its name.

    Raises:
        DataError, ConfigError: a folder that is no prompt set.
        StorageError: a file cannot be written.
    """
    for role, value in _own(config):
        prompts = load_prompts(value)
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", _COPY.sub("", Path(value).name)) or "own"
        folder = layout.own_prompts / f"{name}-{prompts.score_digest[:_DIGITS]}"
        if before and _named(getattr(before, role).prompt) == content(value):
            folder = Path(getattr(before, role).prompt)
        if content(str(folder)) != content(value):
            temporary = temporary_name(folder)
            make_folder(temporary)
            for template, text in prompts.texts().items():
                write_text(temporary / f"{template}.txt", text)
            publish_dir(temporary, folder)
        config = _with(config, role, str(folder))
    return config


def as_in(config: RunConfig, other: RunConfig) -> RunConfig:
    """The configuration with the folders of another where these say the same."""
    for role, value in _own(config):
        theirs: str = getattr(other, role).prompt
        if theirs != value and content(value) in (content(theirs), _named(theirs)):
            config = _with(config, role, theirs)
    return config


def content(value: str) -> str:
    """A prompt set as results know it: the name of an embedded one; of a folder the digest of its templates, or its path where it is gone."""
    if is_embedded(value):
        return value
    try:
        return f"{_FROZEN}{load_prompts(value).score_digest[:_DIGITS]}"
    except (UndoError, OSError):
        return value


def by_content(values: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values, prompt folders by what they say; also of a campaign, whose keys end so."""
    for key, value in values:
        yield key, content(value) if key.endswith(KEYS) and isinstance(value, str) else value


def to_stored(data: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """A configuration as its file holds it: copies of prompt folders by their names, so that the run may be moved."""

    def stored(value: str) -> str:
        return f"{_FROZEN}{Path(value).name}" if Path(value).parent == layout.own_prompts else value

    return _mapped(data, stored)


def from_stored(data: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """The configuration of a file, with the places of the copies."""

    def place(value: str) -> str:
        name = value.removeprefix(_FROZEN)
        return str(layout.own_prompts / Path(name).name) if name != value else value

    return _mapped(data, place)


def _mapped(data: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    result = dict(data)
    for role, _, key in (name.partition(".") for name in KEYS):
        section = data.get(role)
        if isinstance(section, dict) and isinstance(section.get(key), str):
            result[role] = section | {key: change(section[key])}
    return result


def _own(config: RunConfig) -> Iterator[tuple[str, str]]:
    for role in ("teacher", "student"):
        value: str = getattr(config, role).prompt
        if not is_embedded(value):
            yield role, value


def _named(value: str) -> str:
    """The content that the name of a copy says, whatever happened to the copy."""
    return f"{_FROZEN}{Path(value).name[-_DIGITS:]}" if _COPY.search(value) else ""


def _with(config: RunConfig, role: str, prompt: str) -> RunConfig:
    section = getattr(config, role).model_copy(update={"prompt": prompt})
    return config.model_copy(update={role: section})
