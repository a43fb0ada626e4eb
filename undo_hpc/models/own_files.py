"""A model is loaded from its own files alone, whatever its settings and links name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from undo_hpc.errors import DataError
from undo_hpc.system.data_files import json_object
from undo_hpc.system.ownership import require_no_stray_link, require_not_lent

# By these transformers opens any file. (A vocab_file in the first, as it was once written, counts for less than the model's own.)
_ELSEWHERE = {
    "tokenizer_config.json": re.compile("vocab|merges|init_inputs|gguf_file|fast_tokenizer_files"),
    "special_tokens_map.json": re.compile(".*(?:vocab|merges|spm|file|path).*"),
}
_OTHER_MODELS = ("speculators_config", "text_model_id", "audio_model_id", "attribute_map")


def require_own_files(path: str, revision: str = "") -> None:
    """Refuses a model by whose settings transformers loads what is none of its files. Called behind loading, too: what lies in the
    Hub's cache is what was loaded then, and another user's folder may have changed meanwhile. Raises DataError, ConfigError.

    An adapter_config.json (for vLLM a config.json, too, by any name that its attribute_map gives) names what is loaded in its place, any folder;
    settings of a tokenizer may name the file of a vocabulary, any file (a key of ours, /proc/self/environ), whose lines the student would hold.
    """
    folder = Path(path)
    # of folders in it transformers reads one, additional_chat_templates, and those that an index of weights names
    for file in filter(Path.exists, (*sorted(folder.glob("*")), *sorted(folder.glob("[!.]*/*")))):
        require_not_lent(file)
        if not file.is_file() and not file.is_dir():  # whoever opens a pipe waits for ever
            hint = "remove it, or copy the model again"
            raise DataError(f"{file} is a pipe or a device, and no file of a model", hint=hint)
        if file.suffix not in (".safetensors", ".bin"):  # whose words are no text
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
            f"{path}: is a part of another model, or helps one to guess: vLLM loads the one that {others[0]} in config.json names",
            hint="name that model; this one may stand in engine.vllm.extra",
        )
    for name, keys in _ELSEWHERE.items():
        settings = json_object(found) if (found := _file_of(path, name, revision)) else {}
        if named := [key for key in settings if keys.fullmatch(key) and _names_a_file(key, settings[key])]:
            raise DataError(
                f"{path}: its {name} sets {named[0]}, by which a file outside of the model would be read, and shown in the student",
                hint=f"ask who made the model; or remove {named[0]} in a local copy",
            )


def _names_a_file(key: str, value: Any) -> bool:
    of_several = {"init_inputs": bool(value), "fast_tokenizer_files": "/" in str(value)}
    return of_several.get(key, isinstance(value, str))


def _file_of(path: str, name: str, revision: str) -> Path | None:
    """A file of a model here, or as loading it from the Hub has laid it into the cache; None where there is none."""
    if Path(path).is_dir():
        return file if (file := Path(path) / name).is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(path, name, revision=revision or None)
    return Path(found) if isinstance(found, str) else None
