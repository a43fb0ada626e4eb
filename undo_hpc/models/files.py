"""What lies in a model's folder: whether it is whole and undamaged, and what tells it from another."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from undo_hpc.errors import DataError
from undo_hpc.system.data_files import json_object

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")  # fmt: skip
_WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")  # fmt: skip
_INDEX_FILES = _WEIGHT_FILES[1::2]
_LATER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
)  # no part of a fingerprint until 0.2
_LFS_HEAD = b"version https://git-lfs"


def missing_parts(directory: Path) -> list[str]:
    """What a local model directory lacks to be loaded, in words; empty where it is complete."""
    found = []
    if not (directory / "config.json").is_file():
        found.append("config.json")
    if not any((directory / name).is_file() for name in _TOKENIZER_FILES):
        found.append("tokenizer files (tokenizer.json)")
    weights, index = [], _first(directory)
    if index is not None and index.name not in _INDEX_FILES:
        weights = [index]
    elif index is not None:
        try:
            names = sorted(set(map(str, json_object(index)["weight_map"].values())))
        except (DataError, KeyError, AttributeError) as error:
            return [*found, f"a readable {index.name} ({error.args[0]})"]
        # nor where `require_own_files` does not look for links
        if outside := [name for name in names if len(Path(name).parts) > 2 or name.startswith(("/", "."))]:
            return [*found, f"weight files of its own ({index.name} names {outside[0]})"]
        if absent := [name for name in names if not (directory / name).is_file()]:
            found.append(
                f"{len(absent)} of {len(names)} weight files named in {index.name} ({absent[0]} is the first)"
            )
        weights = [directory / name for name in names if name not in absent]
    else:
        found.append("weights (model.safetensors)")
    for path in weights:
        with path.open("rb") as file:
            head = file.read(len(_LFS_HEAD))
        if not head:
            found.append(f"the content of {path.name} (the file is empty)")
        elif head == _LFS_HEAD:
            found.append(f"the content of {path.name} (it is a Git LFS pointer: run `git lfs pull`)")
    return found


def damaged_files(directory: Path) -> list[str]:
    """What is wrong inside the files of a local model, in words: settings or a tokenizer that are no JSON object, weights that are cut
    short, and an index that promises more than its files hold. Of weights it reads headers only, whatever their size.

    A safetensors file is 8 bytes (the header's length), a JSON header with the place of each tensor, and the tensors
    (https://huggingface.co/docs/safetensors); torch's .bin files are zip archives, whose directory stands at the end.
    """
    found, held = [], set[str]()
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"):
        try:
            if (directory / name).exists():
                json_object(directory / name)
        except DataError as error:
            found.append(error.message)
    for path in _weights(directory):
        try:
            if path.suffix == ".safetensors":
                held |= _safetensors_names(path)
            elif path.open("rb").read(2) == b"PK" and not zipfile.is_zipfile(path):
                raise ValueError("the file is cut short")
        except ValueError as error:
            found.append(f"{path.name}: {error}")
    index = directory / _INDEX_FILES[0]
    if _first(directory) == index and not found:
        names = json_object(index).get("weight_map")
        absent = sorted(names.keys() - held) if isinstance(names, dict) else []
        if not isinstance(names, dict) or not names:
            found.append(f"{index.name} names no weights (weight_map)")
        elif absent:
            found.append(f"{index.name}: {len(absent)} tensors are in no file ({absent[0]} is the first)")
    return found


def _weights(directory: Path) -> list[Path]:
    """The weights that are loaded: one file, or those that an index names. What lies beside them (Mistral's consolidated.safetensors as a
    pointer, macOS's ._ files) is nobody's matter."""
    first = _first(directory)
    if first is None or first.name not in _INDEX_FILES:
        return [first] if first else []
    with contextlib.suppress(DataError, AttributeError):
        names = dict.fromkeys(map(str, json_object(first).get("weight_map", {}).values()))
        return [path for name in names if "\0" not in name and (path := directory / name).is_file()]
    return []


def _first(directory: Path) -> Path | None:
    """The file of weights, or their index, that transformers takes of those that are there."""
    return next((path for name in _WEIGHT_FILES if (path := directory / name).is_file()), None)


def _safetensors_names(path: Path) -> set[str]:
    """The tensors of a safetensors file. Raises ValueError where its header or its length is wrong."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"the file is cut short, or no safetensors file ({size:,} bytes)")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            needed = (
                8 + length + max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
            )
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError("its header is damaged, or it is no safetensors file") from error
    if size < needed:
        raise ValueError(f"the file is cut short: {size:,} of {needed:,} bytes")
    if size > needed:
        raise ValueError(f"the file has {size - needed:,} bytes more than its header says")
    return set(header)


def fingerprint(directory: Path) -> dict[str, str]:
    """What tells a local model from another: file name -> size and a digest, for weights, configuration and tokenizer.

    Small files are digested whole. Of weights 16 pieces of 64 KiB are, spread from beginning to end: training changes all of
    them, and a login node should not read hundreds of GiB. Times of change count for nothing: a copy is the same model.
    """
    names = (
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        *_TOKENIZER_FILES,
        *_INDEX_FILES,
        *_LATER_FILES,
    )
    paths = [directory / name for name in names if (directory / name).is_file()]
    # `[!.]`: no ._ files, which macOS makes beside others, and a copy brings or does not
    paths += [
        path for pattern in ("[!.]*.safetensors", "pytorch_model*.bin") for path in directory.glob(pattern)
    ]
    found = dict.fromkeys(_LATER_FILES, "") | {path.name: _sampled(path) for path in paths}
    return dict(sorted(found.items()))


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names by which two fingerprints differ. Of a file that an older version did not look at nothing is known."""
    unknown = {name for name in _LATER_FILES if name not in before or name not in now}
    names = {name for name in before.keys() | now.keys() if not name.startswith("._")}  # counted until 0.2
    return sorted(name for name in names - unknown if before.get(name) != now.get(name))


def _sampled(path: Path, pieces: int = 16, piece: int = 2**16) -> str:
    size, digest = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        if path.suffix not in (".safetensors", ".bin") or size <= pieces * piece:
            digest.update(file.read())
        else:
            for at in range(pieces):
                file.seek((size - piece) * at // (pieces - 1))
                digest.update(file.read(piece))
    return f"{size}:{digest.hexdigest()[:32]}"
