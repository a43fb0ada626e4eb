"""Which files of a folder are meant: those of the configuration and the split, as they are named or as the folder's README says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from undo_hpc.config.yaml_text import parse_value
from undo_hpc.data.rows import SUFFIXES, is_data
from undo_hpc.data.split_names import SPLIT_WORDS, base_name, canonical, is_numbered_part, split_of
from undo_hpc.errors import DataError
from undo_hpc.storage.opening import read_bytes
from undo_hpc.system.ownership import require_no_planted_files

_ABOUT_DATA = (
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
)  # what `datasets` lays beside the rows
_KINDS = f"known kinds: {', '.join(SUFFIXES)}"


def data_files(path: Path, split: str, *, split_is_asked: bool, config: str = "") -> list[list[Path]]:
    """The data files of a file, a pattern or a folder, in the order of their names; several lists are choices, the likeliest first.

    Where the names of a folder's files tell splits apart (train.jsonl, data/test-00000-of-00001.parquet), only those of
    `split` count, so that a test file beside a train file is never trained on; files that name no split are the second choice. A
    lone other split is taken where the user did not ask for one and nothing else is there.

    Args:
        path: what the user gave.
        split: the split that is wanted.
        split_is_asked: whether the user set it.
        config: `hub_config`: which of several configurations (README.md, or folders) is meant.

    Raises:
        DataError: nothing is there, or nothing of that split or configuration, or several configurations and none is chosen.
        ConfigError: another user may have added one of several files.
    """
    if not path.exists() and any(sign in str(path) for sign in "*?["):
        return [_matching(path)]
    if not path.exists():
        near = sorted(p.name for p in path.parent.iterdir() if is_data(p)) if path.parent.is_dir() else []
        beside = f"; data files in {path.parent}: {', '.join(near[:8])}" if near else ""
        variable = "; variables such as $HOME are not replaced (~ is)" if "$" in str(path) else ""
        raise DataError(f"no such file or folder: {path}", hint=f"check the path{beside}{variable}")
    if path.is_file():
        return [[path]]
    if not path.is_dir():
        raise DataError(
            f"{path} is neither a file nor a folder",
            hint="a pipe cannot be read twice: write it to a file first",
        )
    files = files_inside(path)
    if not files:
        raise DataError(f"the folder {path} holds no data file", hint=_KINDS)
    require_no_planted_files(path, files)
    configs = _readme_configs(path)
    if configs:
        return [_of_config(path, files, configs, config, split, split_is_asked)]
    files = _of_folder(path, files, config, split)
    return _of_split(path, files, split, split_is_asked)


def _matching(path: Path) -> list[Path]:
    parts = path.parts
    first = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
    try:
        found = Path(*parts[:first]).glob(str(Path(*parts[first:])))
        # As in a shell: `*` gives no hidden names, such as those that macOS puts beside files.
        files = sorted(
            p for p in found if p.is_file() and is_data(p) and (path.name[0] == "." or p.name[0] != ".")
        )
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} is no pattern of files: {error}", hint="for example data/*.parquet"
        ) from error
    if not files:
        raise DataError(f"no data file matches {path}", hint=f"check the pattern; {_KINDS}")
    require_no_planted_files(Path(*parts[:first]), files)
    return files


def files_inside(path: Path) -> list[Path]:
    """All data files of a folder and of the folders in it, in the order of their names; hidden ones are not looked at."""
    visible = (p for p in path.rglob("*") if not any(map(_hidden, p.relative_to(path).parts)))
    return sorted(p for p in visible if is_data(p) and not p.is_dir() and p.name not in _ABOUT_DATA)


def _hidden(name: str) -> bool:
    """Hidden names, and folders of programs: what Spark has not finished, what macOS packs beside the files."""
    return name.startswith(".") or name in ("_temporary", "__MACOSX")


def _of_split(path: Path, files: list[Path], split: str, split_is_asked: bool) -> list[list[Path]]:
    relative = {file: file.relative_to(path) for file in files}
    by_name = [file for file in files if base_name(relative[file]).lower() == split.lower()]
    if by_name and split.lower() not in SPLIT_WORDS:  # a split with a name of its own, such as train_sft
        return [by_name]
    named = {file: name for file in files if (name := split_of(relative[file]))}
    unnamed = [file for file in files if file not in named]
    of_split = [file for file in files if named.get(file) == canonical(split)]
    if of_split or not named:
        return [choice for choice in (of_split, unnamed) if choice]
    present = sorted(set(named.values()))
    if not split_is_asked and unnamed:
        return [unnamed, *([list(named)] if len(present) == 1 else [])]
    if split_is_asked or len(present) > 1:
        raise DataError(
            f"the folder {path} has no file of the split '{split}'; it has {', '.join(present)}",
            hint="set `split` to one of these, or give the file itself as `path`",
        )
    return [list(named)]


def _of_folder(path: Path, files: list[Path], config: str, split: str) -> list[Path]:
    """The files of one configuration of a folder without a README that tells them: those in the folder of its name."""
    if config:
        chosen = [file for file in files if config in file.relative_to(path).parts[:-1]]
        if chosen or config in path.resolve().parts:
            return chosen or files
    copies = _cloned_configs(path, files, split)
    if len(copies) > 1:
        raise _choose(path, config, copies)
    if config:
        raise DataError(
            f"the folder {path} has no configuration '{config}': no folder of that name, and no README that tells it",
            hint="remove `hub_config`, or give the files themselves as `path`",
        )
    return files


def _cloned_configs(path: Path, files: Iterable[Path], split: str) -> list[str]:
    """Folders that each hold parts of the same split as the Hub stores them: main/train-00000-of-00001.parquet, socratic/train-..."""
    found: set[str] = set()
    for file in files:
        relative = file.relative_to(path)
        of_split = canonical(base_name(relative)) == canonical(split)
        if of_split and is_numbered_part(relative) and len(relative.parts) > 1:
            found.add(relative.parent.name)
    return sorted(found)


def _choose(path: Path, config: str, names: Iterable[str]) -> DataError:
    what = f"no configuration '{config}'; it has" if config else "several configurations:"
    return DataError(
        f"the folder {path} has {what} {', '.join(names)}",
        hint=f"set `hub_config` to one of these, or give a pattern as `path` for several: {path}/*/train*",
    )


def _readme_configs(path: Path) -> dict[str, Mapping[str, Any]]:
    """The `configs` of a data set's card by name (huggingface.co/docs/hub/datasets-manual-configuration); empty where there are none."""
    try:
        text = (read_bytes(path / "README.md") or b"").decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    parts = text.split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        head = parse_value(parts[1])
    except yaml.YAMLError:
        return {}
    listed = head.get("configs") if isinstance(head, dict) else None
    usable = (
        [c for c in listed if isinstance(c, dict) and (c.get("data_files") or c.get("data_dir"))]
        if isinstance(listed, list)
        else []
    )
    return {str(c.get("config_name", "default")): c for c in usable}


def _of_config(
    path: Path,
    files: list[Path],
    configs: Mapping[str, Mapping[str, Any]],
    config: str,
    split: str,
    split_is_asked: bool,
) -> list[Path]:
    """The files that the README names for a configuration and a split."""
    default = next((name for name, c in configs.items() if c.get("default") is True), "")
    name = (
        config
        or default
        or ("default" if "default" in configs else next(iter(configs)) if len(configs) == 1 else "")
    )
    if name not in configs:
        raise _choose(path, config, configs)
    spec = configs[name]
    folder = str(spec.get("data_dir") or ".")
    by_split = {
        key: _globbed(files, path, folder, patterns)
        for key, patterns in _patterns(spec.get("data_files") or "**").items()
    }
    present = [key for key, found in by_split.items() if found and key]
    if not present:
        found = by_split.get("", [])
        if not found:
            raise DataError(
                f"the README of {path} names files for '{name}' that are not there",
                hint="complete the copy, or give the files as `path`",
            )
        return _of_split(path, found, split, split_is_asked)[0]
    wanted = next((key for key in present if key == split), None) or next(
        (key for key in present if canonical(key) == canonical(split)), None
    )
    if wanted is None and (split_is_asked or len(present) > 1):
        raise DataError(
            f"configuration '{name}' of {path} has no split '{split}'; it has {', '.join(present)}",
            hint="set `split` to one of these",
        )
    return by_split[wanted or present[0]]


def _patterns(data_files: Any) -> dict[str, list[str]]:
    """File patterns by split; under the empty name where they are given for all splits together."""
    if isinstance(data_files, dict):
        return {str(key): _list(value) for key, value in data_files.items()}
    found: dict[str, list[str]] = {}
    for item in data_files if isinstance(data_files, list) else [data_files]:
        key, value = (str(item.get("split", "")), item.get("path")) if isinstance(item, dict) else ("", item)
        found.setdefault(key, []).extend(_list(value))
    return found


def _list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _globbed(files: list[Path], path: Path, folder: str, patterns: list[str]) -> list[Path]:
    wanted: set[Path] = set()
    for pattern in patterns:
        with suppress(
            ValueError, NotImplementedError, OSError
        ):  # no pattern, or an address: such a file is not here
            wanted.update((path / folder).glob(f"{pattern}/*" if pattern.endswith("**") else pattern))
    return [file for file in files if file in wanted]
