"""The values of an arm: what its file says, with those that change by seed, or of which validation chooses one."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undo_hpc.config.load import resolve_paths
from undo_hpc.errors import ConfigError

BY_SEED, BEST_OF, MATCH = "by_seed", "best_of", "match"


class Values:
    """The values of an arm over those of all arms.

    Beside plain values there are `{by_seed: [...]}`, in turn over the seeds; `{best_of: [...]}`, each a run of its own, of which
    validation chooses; `train.tokens: {match: ARM}`, as many as that arm's compared student was trained on; and `seed: {add: N}`, for
    the same arm under other seeds.

    Args:
        common: of all arms; dotted keys or sections.
        own: of the arm, over them.

    Attributes:
        match: the arm whose tokens it takes; empty for none.
        names: the arm's, or with `best_of` ARM/KEY-VALUE for each value; folders below the campaign's.

    Raises:
        ConfigError: values that contradict each other, or are no such mapping.
    """

    def __init__(self, common: dict[str, Any], own: dict[str, Any], path: Path, arm: str) -> None:
        self._path = path
        self._layers = [self._nested(common), self._nested(own)]
        self.seed_shift = self._shift()
        chosen = [leaf for layer in self._layers for leaf in _marked(layer, BEST_OF)]
        if len(chosen) > 1:
            keys = " and ".join(key for key, _ in chosen)
            raise ConfigError(
                f"{path}, arm {arm}: best_of stands at {keys}", hint="choose among values of one key"
            )
        matches = [leaf for layer in self._layers for leaf in _marked(layer, MATCH)]
        if len(matches) > 1 or any(key != "train.tokens" for key, _ in matches):
            raise ConfigError(
                f"{path}, arm {arm}: {matches[0][0]} cannot be matched",
                hint="train.tokens: {match: ARM} trains on as many tokens as that arm does",
            )
        self.match = str(matches[0][1]) if matches else ""
        self.names: tuple[str, ...] = (arm,)
        for key, values in chosen:
            if not isinstance(values, list):
                continue  # told below
            last = key.rpartition(".")[2]
            self.names = tuple(f"{arm}/{last}-{re.sub(r'[^A-Za-z0-9._-]', '-', str(v))}" for v in values)
        for key, values in [leaf for layer in self._layers for leaf in _marked(layer, BY_SEED)] + chosen:
            if (
                not isinstance(values, list)
                or not values
                or (chosen and len(set(self.names)) < len(self.names))
            ):
                raise ConfigError(
                    f"{path}, arm {arm}: {key} needs a list of values, each once", hint="[first, second]"
                )

    def sets(self, position: int, choice: int) -> Iterator[str]:
        """The values as `--set` takes them, for the seed at a position and the candidate of that number."""
        for layer in self._layers:
            values = _resolved(layer, position, choice)
            resolve_paths(values, self._path.resolve().parent)
            for key, value in values.items():
                yield f"{key}={json.dumps(value)}"

    def _nested(self, values: dict[str, Any]) -> dict[str, Any]:
        """Dotted keys as sections. A key that is given in both ways would silently have the value that stands later."""
        nested: dict[str, Any] = {}
        for key, value in values.items():
            self._put(nested, str(key), str(key).split("."), value)
        return nested

    def _put(self, target: dict[str, Any], key: str, way: list[str], value: Any) -> None:
        part, *further = way
        if further:
            inner = [(key, further, value)]
        elif isinstance(value, dict) and isinstance(target.get(part), dict):
            inner = [(f"{key}.{name}", [str(name)], item) for name, item in value.items()]
        elif part in target:
            raise ConfigError(
                f"{self._path}: '{key}' is given twice, as a dotted key and in a section",
                hint="give one of both",
            )
        else:
            target[part] = copy.deepcopy(value)
            return
        section = target.setdefault(part, {})
        if not isinstance(section, dict):
            raise ConfigError(
                f"{self._path}: '{key}': '{part}' is given as a value, too", hint="give one of both"
            )
        for item in inner:
            self._put(section, *item)

    def _shift(self) -> int:
        found = 0
        for layer in self._layers:
            seed = layer.pop("seed", {"add": 0})
            plain = isinstance(seed, dict) and list(seed) == ["add"] and isinstance(seed["add"], int)
            if not plain or "name" in layer or seed["add"] < 0:
                raise ConfigError(
                    f"{self._path}: an arm sets its seed or name",
                    hint="seeds stand under `seeds`, names are the arms'; `seed: {add: 100}` is the same arm under other seeds",
                )
            found += seed["add"]
        return found


def _marked(values: dict[str, Any], mark: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, list) of each `{mark: list}`."""
    for key, value in values.items():
        if isinstance(value, dict):
            if list(value) == [mark]:
                yield f"{path}{key}", value[mark]
            else:
                yield from _marked(value, mark, f"{path}{key}.")


def _resolved(value: Any, position: int, choice: int) -> Any:
    if not isinstance(value, dict):
        return value
    if list(value) == [BY_SEED]:
        return value[BY_SEED][position % len(value[BY_SEED])]
    if list(value) == [BEST_OF]:
        return value[BEST_OF][choice]
    if list(value) == [MATCH]:
        return 0  # known when that arm has ended
    return {key: _resolved(item, position, choice) for key, item in value.items()}
