"""Reading YAML: the line of each key, and no value that means another than it looks like."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from undo_hpc.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of YAML 1.2: 1e-5 is a number, 1:30 and 2026-11-29 are texts. (yes, no, on and off stay truth values.)"""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")  # 010 is eight in YAML 1.1, ten in YAML 1.2
_INT = re.compile(r"[-+]?(0|[0-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+)$")
_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"
)
_HALVES = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    if _LEADING_ZERO.fullmatch(text):
        raise yaml.YAMLError(_zero(text))
    if len(text) > _MOST_DIGITS:  # Python writes none of more than 4,300, in a message either
        raise yaml.YAMLError(f"a number of {len(text):,} digits: quote it where it is a text")
    return int(text, 0)


_MOST_DIGITS = 1000


def _zero(text: str) -> str:
    return f"{text} begins with a zero, which some programs read as an octal number: write {int(text)}, or quote it where it is a text"


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(
        str(loader.construct_scalar(node))
        .replace("_", "")
        .replace(".inf", "inf")
        .replace(".nan", "nan")
        .lower()
    )


def _str(loader: _Loader, node: yaml.ScalarNode) -> str:
    """A text; JSON writes a character beyond 16 bits as two halves, which YAML would leave as two."""
    return _HALVES.sub(
        lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"),
        str(loader.construct_scalar(node)),
    )


_Loader.add_constructor("tag:yaml.org,2002:str", _str)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


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


_MOST_VALUES = 100_000  # of a file, aliases written out
_DEEPEST = 50


def parse_value(text: str) -> Any:
    """One value as YAML, e.g. of `--set`. Raises yaml.YAMLError."""
    return _parse(text)[1]


def _parse(text: str, look: Callable[[yaml.Node], None] = lambda node: None) -> tuple[yaml.Node | None, Any]:
    """The nodes and the value of a YAML text. Raises yaml.YAMLError, whatever is wrong with it.

    Args:
        look: sees the nodes before values are made of them.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        _measure(node, set(), {})
        look(node)
        return node, loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # of a tag such as `!!int x`
        raise yaml.YAMLError(f"a value cannot be read ({error})") from error
    finally:
        loader.dispose()


def _measure(node: yaml.Node, around: set[int], known: dict[int, int]) -> int:
    """Values in a node, with aliases written out: a few lines of aliases can stand for more than any memory holds.

    Raises yaml.YAMLError for too many, for an alias inside of what it names, and for deep nesting.
    """
    if id(node) in known:
        return known[id(node)]
    line = node.start_mark.line + 1
    if id(node) in around:
        raise yaml.YAMLError(f"line {line}: an alias stands inside of what it names")
    if len(around) > _DEEPEST:
        raise yaml.YAMLError(f"line {line}: it is nested more than {_DEEPEST} levels deep")
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        inner = node.value
    elif isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    around.add(id(node))
    count = 1 + sum(_measure(part, around, known) for part in inner)
    around.discard(id(node))
    if count > _MOST_VALUES:
        raise yaml.YAMLError(f"line {line}: it stands for more than {_MOST_VALUES:,} values")
    known[id(node)] = count
    return count


def read_yaml(path: Path) -> YamlText:
    """Reads a YAML mapping. Raises ConfigError where the file is missing, not YAML, or not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8: {error.reason} at byte {error.start}",
            hint=f"save it as UTF-8, for example: iconv -f latin1 -t utf-8 {path.name} (or -f utf-16)",
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="check the path") from error

    def look(node: yaml.Node) -> None:
        lines: dict[tuple[str, ...], int] = {}
        for keys, number in _lines(node, ()):  # before `<<` is merged, over which a key may stand again
            if keys in lines:  # YAML would silently take the last one
                raise ConfigError(
                    f"{path}, line {number}: key '{'.'.join(keys)}' stands twice (first on line {lines[keys]})",
                    hint="keep one of the two; the keys of a section stand together",
                )
            lines[keys] = number
        for keys, line, digits in _scalars(node, ()):
            if _LEADING_ZERO.fullmatch(digits):
                raise ConfigError(
                    f"{path}, line {line}: '{'.'.join(keys)}': {_zero(digits)}",
                    hint="numbers are written without leading zeros",
                )

    try:
        node, data = _parse(text, look)
    except yaml.YAMLError as error:
        what = str(error).replace('in "<unicode string>", ', "in ")
        raise ConfigError(f"{path} is not valid YAML: {what}", hint="fix the line that is named") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: the file must hold keys and values",
            hint="one `key: value` a line, with a blank behind the colon",
        )
    return YamlText(data, str(path), dict(_lines(node, ())))


def _scalars(node: yaml.Node | None, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int, str]]:
    """(keys, line, text) of each whole number."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _scalars(value, path)
    elif isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int":
        yield path, node.start_mark.line + 1, node.value


def _lines(node: yaml.Node | None, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            yield inner, key.start_mark.line + 1
            yield from _lines(value, inner)
