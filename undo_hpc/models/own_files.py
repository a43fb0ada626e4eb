"""A model is loaded from its own files alone, whatever its settings and links name."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undo_hpc.errors import DataError
from undo_hpc.system.data_files import json_object
from undo_hpc.system.lent import folders_below, require_no_stray_link, require_not_lent, undisturbed

# By these transformers opens any file. (A vocab_file in the first, as it was once written, counts for less than the model's own.)
_ELSEWHERE = {
    "tokenizer_config.json": re.compile("vocab|merges|init_inputs|gguf_file|fast_tokenizer_files"),
    "special_tokens_map.json": re.compile(".*(?:vocab|merges|spm|file|path).*"),
}
_OTHER_MODELS = (
    "speculators_config",
    "text_model_id",
    "audio_model_id",
    "attribute_map",
    "transformers_weights",
)
# Whatever reads them by whatever key, in what version: no value in these is a file of ours. Where the model was once is said of it, and not read.
_SETTINGS = (
    "config.json", "generation_config.json", "tokenizer_config.json", "*processor_config.json", "quant*_config.json", "params.json",
    "special_tokens_map.json", "*.index.json",
)  # fmt: skip
_SAID = {
    "_name_or_path", "name_or_path", "model_name_or_path", "base_model", "base_model_name_or_path", "tokenizer", "tokenizer_file",
    "special_tokens_map_file", "vocab_file", "base_model_config", "merged_from", "init_from", "resume_from_checkpoint", "trained_on",
    "dataset", "added_tokens_decoder",
}  # fmt: skip
_KERNELS = ("attn_implementation", "experts_implementation")
_NEVER_LOADED = (".md", ".png", ".jpg", ".jpeg", ".svg", ".pdf", ".log")


@contextlib.contextmanager
def own_files(path: str, revision: str = "") -> Iterator[None]:
    """For the loading of a model: `require_own_files` before and behind it (what lies in the Hub's cache is what was loaded then), and nothing
    that another user put there in between. Raises DataError, ConfigError, StorageError."""
    local = Path(path) if Path(path).is_dir() else None
    # In the Hub's cache files come and go as they are fetched.
    with undisturbed([*_all_files(local), *_indexed(local), *folders_below(local)] if local else ()):
        require_own_files(path, revision)
        yield
        require_own_files(path, revision)


def _all_files(folder: Path) -> list[Path]:
    # of folders in it transformers reads one, additional_chat_templates, and those that an index of weights names
    # (what cannot be looked at cannot be read either)
    return [
        each
        for each in (*sorted(folder.glob("*")), *sorted(folder.glob("[!.]*/*")))
        if os.access(each, os.F_OK)
    ]


def require_own_files(path: str, revision: str = "") -> None:
    """Refuses a model by whose settings transformers loads what is none of its files. Raises DataError, ConfigError.

    An adapter_config.json (for vLLM a config.json, too, by any name that its attribute_map gives) names what is loaded in its place, any folder;
    settings of a tokenizer may name the file of a vocabulary, any file (a key of ours, /proc/self/environ), whose lines the student would hold.
    """
    folder = _folder_of(path, revision)
    for file in _indexed(folder):  # anywhere, by any name
        require_not_lent(file)
        require_no_stray_link(file, folder)
    for file in _all_files(folder):
        require_not_lent(file)
        if not file.is_file() and not file.is_dir():  # whoever opens a pipe waits for ever
            hint = "remove it, or copy the model again"
            raise DataError(f"{file} is a pipe or a device, and no file of a model", hint=hint)
        if _is_loaded(file, folder):
            require_no_stray_link(file, folder)
    if _file_of(path, "adapter_config.json", revision):
        raise DataError(
            f"{path}: is a LoRA adapter, not a model, or holds one: transformers loads the base that adapter_config.json names, and no "
            "weights that lie there",
            hint="merge it into its base model and save that; remove adapter_config.json where the weights beside it are meant",
        )
    found = _file_of(path, "config.json", revision)
    try:
        others = [key for key in _OTHER_MODELS if json_object(found).get(key)] if found else []
    except DataError:  # told where it is read
        others = []
    if others:
        raise DataError(
            f"{path}: is a part of another model, or helps one to guess: the one that {others[0]} in config.json names would be loaded",
            hint="name that model; this one may stand in engine.vllm.extra",
        )
    if code := _code_of_the_hub(found):
        raise DataError(
            f"{path}: its config.json names code on the Hub, {code[:100]!r}, by which its attention would be computed",
            hint="take that value out in a local copy; train.attention and engine.transformers.attn choose the attention",
        )
    for name, keys in _ELSEWHERE.items():
        settings = json_object(found) if (found := _file_of(path, name, revision)) else {}
        if named := [key for key in settings if keys.fullmatch(key) and _names_a_file(key, settings[key])]:
            raise DataError(
                f"{path}: its {name} sets {named[0]}, by which a file outside of the model would be read, and shown in the student",
                hint=f"ask who made the model; or remove {named[0]} in a local copy",
            )
    _require_no_file_of_ours(path, folder)


def _is_loaded(file: Path, folder: Path) -> bool:
    """Whether a library may read it by its name: settings, vocabularies of all endings, templates and weights, not a README.md, or another
    checkpoint that a link leads to."""
    name = file.relative_to(folder)
    here = len(name.parts) == 1 or name.parts[0] == "additional_chat_templates"
    return file.is_file() and file.suffix not in _NEVER_LOADED and here


def _indexed(folder: Path) -> list[Path]:
    """The files that are there of those that indices of weights name (as `a//b`, too). Names that lead out of the folder are told with those
    of other settings."""
    found = dict[Path, None]()
    for index in folder.glob("*.index.json"):
        with contextlib.suppress(DataError, AttributeError):  # told where it is read
            names = dict.fromkeys(map(str, json_object(index).get("weight_map", {}).values()))
            found |= dict.fromkeys(folder / n for n in names if "\0" not in n and ".." not in Path(n).parts)
    return [file for file in found if file.is_relative_to(folder) and file.is_file()]


def _code_of_the_hub(config: Path | None) -> str:
    """A kernel that config.json names: transformers imports it where the package `kernels` is installed, offline without asking who made
    it (transformers/integrations/hub_kernels.py). Empty where there is none."""
    with contextlib.suppress(DataError):  # told where it is read
        for keys, text in _texts(json_object(config)) if config else ():
            if "/" in text and any(
                key.endswith(_KERNELS) for key in keys[-2:]
            ):  # one for each part of a model, too
                return text
    return ""


def _require_no_file_of_ours(path: str, folder: Path) -> None:
    """Refuses settings and indices of weights with a value that is a file or a model outside of the folder, seen from there or from here."""
    # Without it some tokenizers (Gemma's) are made of the file that they name.
    said = _SAID if (folder / "tokenizer.json").is_file() else _SAID - {"vocab_file", "tokenizer_file"}
    for file in sorted({each for pattern in _SETTINGS for each in folder.glob(pattern) if each.is_file()}):
        try:
            values = [text for keys, text in _texts(json_object(file)) if not said & set(keys)]
        except DataError:  # told where it is read
            continue
        for value in dict.fromkeys(values):
            for place in _places(value, folder):
                if place.is_file() or (place / "config.json").is_file():
                    raise DataError(
                        f"{path}: its {file.name} names {value[:200]!r}, a file outside of the model, which may be read in place of its own",
                        hint="ask who made the model; or take that value out in a local copy",
                    )


def _texts(value: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """All texts in JSON values, with the keys that lead to each."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while waiting:
        keys, at = waiting.pop()
        if isinstance(at, dict):
            waiting += [((*keys, key), each) for key, each in at.items()]
        elif isinstance(at, list):
            waiting += [(keys, each) for each in at]
        elif isinstance(at, str):
            yield keys, at


def _places(value: str, folder: Path) -> Iterator[Path]:
    """Where a value leads outside of a folder, as libraries may read it."""
    name = value.removeprefix("file://")
    if "/" not in name or len(name) > 4096 or "\0" in name:
        return
    for base in (folder, Path.cwd()):
        with contextlib.suppress(OSError, RuntimeError):  # no such user's home; links that go round
            place = base / Path(name).expanduser()
            # `..` behind a link leads above the end of that link
            by_name = ".." not in Path(name).parts and place.is_relative_to(folder)
            if place.exists() and not (by_name or place.resolve().is_relative_to(folder.resolve())):
                yield place


def _names_a_file(key: str, value: Any) -> bool:
    of_several = {"init_inputs": bool(value), "fast_tokenizer_files": "/" in str(value)}
    return of_several.get(key, isinstance(value, str))


def _folder_of(path: str, revision: str) -> Path:
    """The folder of a model, in the Hub's cache too, where others may have laid their links; none where it is still to be fetched."""
    found = None if Path(path).is_dir() else _file_of(path, "config.json", revision)
    return found.parent if found else Path(path)


def _file_of(path: str, name: str, revision: str) -> Path | None:
    """A file of a model here, or as loading it from the Hub has laid it into the cache; None where there is none."""
    if Path(path).is_dir():
        return file if (file := Path(path) / name).is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with contextlib.suppress(HFValidationError):  # no id: whoever loads it says that there is no such folder
        if isinstance(found := try_to_load_from_cache(path, name, revision=revision or None), str):
            return Path(found)
    return None
