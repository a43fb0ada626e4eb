"""From what a configuration calls a model to a folder or an id on the Hub, and what its settings say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from undo_hpc.config.parts import asks
from undo_hpc.config.schema import ModelConfig, RunConfig
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.models.files import missing_parts
from undo_hpc.models.own_files import require_own_files
from undo_hpc.system.data_files import expanded, json_object

_HUB_NAME = r"[A-Za-z0-9_]([\w.-]*\w)?"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


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


def _checked(directory: Path) -> str:
    require_own_files(str(directory))
    missing = missing_parts(directory)
    if missing:
        raise DataError(
            f"{directory}: is not a complete model; it lacks {'; '.join(missing)}",
            hint="finish the download, or save the model and its tokenizer there with save_pretrained",
        )
    return str(directory.resolve())


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
    known = isinstance(context, int) and isinstance(scaling, dict) and "factor" not in scaling
    return context if known else None
