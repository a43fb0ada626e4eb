"""The configuration at hand: every key with its value and meaning, a schema for editors, what differs from a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import add_set, nonempty

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.config.schema import RunConfig

EXAMPLE = """examples:
  undo-hpc config                                       every key, its default, what it means
  undo-hpc config --show train                          one section
  undo-hpc config my.yaml --show --changed              what a file sets, beside the defaults
  undo-hpc config checkpoints/tiny --show > again.yaml  a run's configuration as a file to begin with
  undo-hpc config my.yaml --diff checkpoints/mine       what a run was made with, where it differs
  undo-hpc config --schema > undo.schema.json           for completion in an editor (# yaml-language-server: $schema=...)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument(
        "config",
        nargs="?",
        type=nonempty,
        help="a preset, a YAML file or a run directory (default: the defaults)",
    )
    add_set(parser, "a value over it; repeatable")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--show",
        nargs="?",
        const="",
        metavar="KEY",
        help="print it as commented YAML that loads again (default)",
    )
    what.add_argument("--schema", action="store_true", help="print the JSON schema of all keys")
    what.add_argument(
        "--diff",
        type=nonempty,
        metavar="RUN",
        help="print the keys in which a run (a file, a preset) differs from it",
    )
    parser.add_argument(
        "--changed", action="store_true", help="with --show: only keys that differ from the defaults"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Prints what is asked for."""
    from undo_hpc.config.describe import commented_yaml, to_yaml
    from undo_hpc.config.differences import differing_keys, is_neutral
    from undo_hpc.config.schema import RunConfig
    from undo_hpc.observe.wrapped import say

    if arguments.schema:
        import json

        schema = RunConfig.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        print(json.dumps(schema, indent=1, ensure_ascii=False))
        return 0
    config = _read(arguments.config, arguments.sets)
    if arguments.diff is None:
        under = arguments.show or ""
        _require_key(config, under)
        print(commented_yaml(config, width=console.width, under=under, changed=arguments.changed), end="")
        return 0
    other = _read(arguments.diff, [])
    mine, theirs = arguments.config or "the defaults", arguments.diff
    found = list(differing_keys(config.model_dump(mode="json"), other.model_dump(mode="json")))
    for key, here, there in found:
        mark = "" if is_neutral(key) else "    (touches the results)"
        say(console, f"{key}: {to_yaml(here)} -> {to_yaml(there)}{mark}", hang=2)
    same = f"{mine} and {theirs} are the same configuration"
    say(console, f"{len(found)} keys differ: {mine} -> {theirs}" if found else same, style="dim")
    return 0


def _require_key(config: RunConfig, key: str) -> None:
    """Raises ConfigError with the nearest key where there is none of that name (below free names anything may stand)."""
    import difflib

    from pydantic import BaseModel

    from undo_hpc.errors import ConfigError

    place: object = config
    for name in key.split(".") if key else ():
        if not isinstance(place, BaseModel):
            return
        known = list(type(place).model_fields)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"valid keys here: {', '.join(known)}"
            raise ConfigError(f"there is no key '{key}'", hint=hint)
        place = getattr(place, name)


def _read(name: str | None, sets: list[str]) -> RunConfig:
    """A configuration by what names it. Raises ConfigError."""
    from undo_hpc.config.load import load_config, override
    from undo_hpc.config.schema import RunConfig
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.pipeline.run import open_run

    if name is None:
        return override(RunConfig(), sets)
    if Path(name).is_dir() and Layout(Path(name)).config.exists():
        return override(open_run(Path(name)).config, sets)
    return load_config(name, sets)
