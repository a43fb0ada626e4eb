"""Splits and configurations as files and folders are named after them. Pure: names in, names out."""

from __future__ import annotations

import re
from pathlib import PurePath

# The words of `datasets` (huggingface.co/docs/datasets/repository_structure), with the split that each means.
SPLIT_WORDS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
_ENDING = re.compile(r"\.[^.]+?(\.(gz|zst|bz2))?$")
_HASH = re.compile(r"-[0-9a-f]{16}$")  # older versions of push_to_hub put one behind the number of the part
_PART = re.compile(r"[-_.]?\d+([-_.]of[-_.]\d+)?$")


def canonical(split: str) -> str:
    """A split's usual name: `dev` and `val` are `validation`."""
    return SPLIT_WORDS.get(split.lower(), split.lower())


def base_name(path: PurePath) -> str:
    """A data file's name without its endings and the number of its part: `train` of train-00000-of-00002.parquet."""
    stem = _HASH.sub("", _ENDING.sub("", path.name))
    return _PART.sub("", stem) or stem


def is_numbered_part(path: PurePath) -> bool:
    """Whether a file is named as the Hub names parts: train-00000-of-00002.parquet."""
    found = _PART.search(_HASH.sub("", _ENDING.sub("", path.name)))
    return bool(found and found[1])


def split_of(path: PurePath) -> str:
    """The split that a file belongs to by its name or its folders (relative to the data folder); empty where they name none.

    A file or folder that is named exactly after a split counts most (train.jsonl, train/a.jsonl), then the last such word in
    the file's name (aptitude_test_train.jsonl is of train), then the last one in a folder's.
    """
    name, folders = base_name(path).lower(), [part.lower() for part in reversed(path.parts[:-1])]
    exact = next((word for word in (name, *folders) if word in SPLIT_WORDS), "")
    if not exact:
        words = (word for part in (name, *folders) for word in reversed(re.split(r"[^a-z]+", part)))
        exact = next((word for word in words if word in SPLIT_WORDS), "")
    return SPLIT_WORDS.get(exact, "")
