"""From what a configuration calls a model to files that can be loaded: checked before a GPU is asked for."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from undo_hpc.chat.template import RenderError, rendered
from undo_hpc.config.parts import asks
from undo_hpc.config.schema import ModelConfig, RunConfig
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.system.data_files import expanded, json_object
from undo_hpc.system.ownership import require_no_stray_link, require_not_lent

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")  # fmt: skip
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_HUB_NAME = r"[A-Za-z0-9_]([\w.-]*\w)?"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# By these transformers opens any file. (A vocab_file in the first, as it was once written, counts for less than the model's own.)
_ELSEWHERE = {
    "tokenizer_config.json": re.compile("vocab|merges|init_inputs|gguf_file|fast_tokenizer_files"),
    "special_tokens_map.json": re.compile(".*(?:vocab|merges|spm|file|path).*"),
}
_OTHER_MODELS = ("speculators_config", "text_model_id", "audio_model_id", "attribute_map")
_LFS_HEAD = b"version https://git-lfs"


def resolve_model(ref: str) -> str:
    """Where a model lies.

    `tiny:NAME` is a model of the embedded tiny world; an existing local directory becomes its absolute path, after a
    check that it is complete; anything else is taken for an id on the Hub and returned as it is.

    Args:
        ref: the `model` key of the configuration.

    Raises:
        ConfigError: `ref` is empty.
        DataError: a path that does not exist, or a directory that lacks something; the message says what.
    """
    if not ref:
        raise ConfigError(
            "no model is named", hint="set `teacher.model` and `student.model` to a directory or a Hub id"
        )
    if ref.startswith("tiny:"):
        from undo_hpc.tiny import models_dir

        directory = Path(models_dir()) / ref.removeprefix("tiny:")
        if not directory.is_dir():
            names = sorted(f"tiny:{path.name}" for path in directory.parent.glob("*") if path.is_dir())
            raise DataError(f"the tiny world has no model {ref!r}", hint=f"there are: {', '.join(names)}")
        return _checked(directory)
    path = expanded(ref)
    if path.is_dir():
        return _checked(path)
    if path.exists():
        raise DataError(
            f"{path}: is a file, not a model directory",
            hint="name the directory that holds config.json in `teacher.model` or `student.model`",
        )
    if path.is_absolute() or ref.startswith((".", "~")) or ref.count("/") > 1 or ref.endswith("/"):
        raise DataError(
            f"{ref}: no such model directory",
            hint="check the path in `teacher.model` or `student.model`; an id on the Hub reads like 'owner/name'",
        )
    return ref


def require_repository(key: str, name: str) -> None:
    """Raises ConfigError for what is no name of a repository on the Hub, where one is given."""
    if name and not re.fullmatch(rf"({_HUB_NAME}/)?{_HUB_NAME}", name):
        raise ConfigError(
            f"{key}: {name!r} is no name of a repository on the Hub",
            hint="such a name reads like 'owner/name'",
        )


def hub_id(name: str) -> bool:
    """Whether a model's name is an id on the Hub (owner/name): neither a folder of this machine, nor tiny:..., nor a run's name."""
    return bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def public_name(model: str) -> str:
    """A model as strangers may read it: an id as it is, a local folder by its last name."""
    return model if hub_id(model) or model.startswith("tiny:") else Path(model).name


def loaded_models(config: RunConfig) -> dict[str, ModelConfig]:
    """The models that tasks of a run load, by role: no teacher where a server of others answers or
    rationales are given, and neither teacher nor student where a part alone does not ask it."""
    served = config.generate.engine.name == "openai" and config.generate.engine.openai.base_url
    if config.method.signal != "text":  # its tokenizer is needed even where a server scores
        served = ""
    found: dict[str, ModelConfig] = {"student": config.student} if asks(config, "student") else {}
    return found if served or not asks(config, "teacher") else {"teacher": config.teacher, **found}


def text_settings(model: ModelConfig) -> dict[str, Any]:
    """What a model's config.json says of its text part, here or in the Hub's cache; empty where nobody here can tell."""
    try:
        path = Path(resolve_model(model.model)) / "config.json"
        if not path.is_file():
            from huggingface_hub import try_to_load_from_cache

            path = Path(
                str(try_to_load_from_cache(model.model, "config.json", revision=model.revision or None))
            )
        settings = json_object(path)
    except (DataError, ConfigError, ValueError):  # ValueError: no name of the Hub; `check_hub_model` says so
        return {}
    inner = settings.get("text_config", settings)
    return dict(inner) if isinstance(inner, dict) else {}


def context_of(model: ModelConfig) -> int | None:
    """Most tokens that a model reads, by its config.json; None where nobody here can tell."""
    settings = text_settings(model)
    scaling = settings.get("rope_scaling") or settings.get("rope_parameters") or {}
    context = settings.get("max_position_embeddings")
    return context if isinstance(context, int) and "factor" not in scaling else None


def check_hub_model(name: str, revision: str = "") -> None:
    """Asks the Hub for a model's config.json, unless it lies in the cache already.

    A Hub that cannot be reached (a node without a network, HF_HUB_OFFLINE) is no reason to refuse.

    Raises:
        DataError: the Hub says that there is no such model or revision, or that it is gated and this token has no access.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        if isinstance(try_to_load_from_cache(name, "config.json", revision=revision or None), str):
            return
        get_hf_file_metadata(hf_hub_url(name, "config.json", revision=revision or None), timeout=20)
    except GatedRepoError as error:
        raise DataError(
            f"{name} is gated, and this token has no access to it",
            hint="ask for access on its page, then `hf auth login`",
        ) from error
    except RevisionNotFoundError as error:
        hint = "check the `revision` of the model"
        raise DataError(f"{name} has no revision {revision!r} on the Hub", hint=hint) from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"there is no model {name} on the Hub, or it is private",
            hint="check the name; a private one needs `hf auth login`",
        ) from error
    except EntryNotFoundError as error:
        raise DataError(
            f"{name} on the Hub has no config.json",
            hint="name a model in transformers' format (not GGUF, not an adapter)",
        ) from error
    except HFValidationError as error:
        raise DataError(
            f"{name} is neither a folder nor an id on the Hub", hint="an id reads like 'owner/name'"
        ) from error
    except HfHubHTTPError:
        return  # it answers, but not now
    except Exception as error:
        if not unreachable(error):
            raise


def unreachable(error: Exception) -> bool:
    """Whether the error says that the Hub cannot be reached; the HTTP client beneath huggingface_hub has changed its name."""
    transport = any(
        base.__name__ == "HTTPError" and base.__module__.startswith("httpx") for base in type(error).__mro__
    )
    return transport or isinstance(error, ConnectionError | TimeoutError)


def missing_parts(directory: Path) -> list[str]:
    """What a local model directory lacks to be loaded, in words; empty where it is complete."""
    found = []
    if not (directory / "config.json").is_file():
        found.append("config.json")
    if not any((directory / name).is_file() for name in _TOKENIZER_FILES):
        found.append("tokenizer files (tokenizer.json)")
    weights = [directory / name for name in _WEIGHT_FILES if (directory / name).is_file()][:1]
    index = next((directory / name for name in _INDEX_FILES if (directory / name).is_file()), None)
    if not weights and index is not None:
        try:
            names = sorted(set(map(str, json_object(index)["weight_map"].values())))
        except (DataError, KeyError, AttributeError) as error:
            return [*found, f"a readable {index.name} ({error.args[0]})"]
        if outside := [name for name in names if name.startswith("/") or ".." in Path(name).parts]:
            return [*found, f"weight files of its own ({index.name} names {outside[0]})"]
        if absent := [name for name in names if not (directory / name).is_file()]:
            found.append(
                f"{len(absent)} of {len(names)} weight files named in {index.name} ({absent[0]} is the first)"
            )
        weights = [directory / name for name in names if name not in absent]
    elif not weights:
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
    paths = sorted({*directory.glob("*.safetensors"), *directory.glob("pytorch_model*.bin")})
    for path in paths:
        try:
            if path.suffix == ".safetensors":
                held |= _safetensors_names(path)
            elif path.open("rb").read(2) == b"PK" and not zipfile.is_zipfile(path):
                raise ValueError("the file is cut short")
        except ValueError as error:
            found.append(f"{path.name}: {error}")
    index = directory / _INDEX_FILES[0]
    if index.is_file() and not found and not (directory / _WEIGHT_FILES[0]).is_file():
        absent = sorted(json_object(index)["weight_map"].keys() - held)
        if absent:
            found.append(f"{index.name}: {len(absent)} tensors are in no file ({absent[0]} is the first)")
    return found


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
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
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
    )
    paths = [directory / name for name in names if (directory / name).is_file()]
    paths += [path for pattern in ("*.safetensors", "pytorch_model*.bin") for path in directory.glob(pattern)]
    return {path.name: _sampled(path) for path in sorted(set(paths))}


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


def _checked(directory: Path) -> str:
    require_own_files(str(directory))
    missing = missing_parts(directory)
    if missing:
        raise DataError(
            f"{directory}: is not a complete model; it lacks {'; '.join(missing)}",
            hint="finish the download, or save the model and its tokenizer there with save_pretrained",
        )
    return str(directory.resolve())


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


def check_tokenizer(
    tokenizer: Any, *, name: str = "", system_prompt: str = "", template_kwargs: dict[str, Any] | None = None
) -> None:
    """Makes sure that a tokenizer can render what we will ask it to: a chat with (or without) a system prompt.

    Raises:
        DataError: no chat template, one that refuses the system prompt, or one that drops the user's text.
    """
    name = name or str(getattr(tokenizer, "name_or_path", "")) or "the model"
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(
            f"{name}: its tokenizer has no chat template",
            hint="take an instruct model, or put a chat_template.jinja into a local copy of the model",
        )
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    chat = [*system, {"role": "user", "content": "7 + 8"}]
    try:
        text = rendered(
            lambda: tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=True, **(template_kwargs or {})
            )
        )
    except RenderError as error:
        hint = "leave system_prompt empty" if system_prompt else "fix its chat_template.jinja in a local copy"
        raise DataError(f"{name}: its chat template cannot be rendered: {error}", hint=hint) from error
    if "7 + 8" not in text:
        raise DataError(
            f"{name}: its chat template drops the user's text",
            hint="fix its chat_template.jinja in a local copy",
        )
