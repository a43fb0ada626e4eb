"""Each value that the configuration lists is one that a run can start with."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from undo_hpc.config.load import load_config
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.checks import CHECKS, Attention, NotChecked, Notice, Subject
from undo_hpc.errors import ConfigError

# What some values need beside them.
BESIDE = {
    "method.signal=on_policy": "method.start_from=previous",
    "method.select=shortest": "generate.samples=2 method.keep=1",
    "method.select=likeliest": "generate.samples=2 method.keep=1",
    "train.packing=false": "train.attention=auto",
    "train.offload=optimizer": "train.zero_stage=1",
    "train.offload=all": "train.zero_stage=3",
    "evaluate.train_predictions=false": "method.errors_from=diagnosis",
    "hub.push_at_end=true": "hub.dataset_repo=me/mine",
    "generate.engine.name=openai": "generate.engine.openai.base_url=http://host:1/v1",
}


def values(kind: Any) -> list[Any]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return [value for part in get_args(kind) for value in values(part)]
    return [True, False] if kind is bool else []


def options(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """key=value for each value of each key that takes one of a few."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from options(field.annotation, f"{above}{name}.")
        for value in values(field.annotation):
            yield f"{above}{name}={str(value).lower() if isinstance(value, bool) else value}"


BY_NAME = ("generate.engine.name=transformers", "generate.engine.name=openai", "grading.checker=exact",
           "grading.checker=code", "grading.checker=command: /bin/true")  # fmt: skip


@pytest.mark.parametrize("option", [*options(RunConfig), *BY_NAME])
def test_a_run_can_start_with_it(option: str, tmp_path: Path) -> None:
    key, _, value = option.partition("=")
    sets = [
        f"{key}='{value}'" if not value.lstrip("-").isdigit() and value not in ("true", "false") else option
    ]
    try:
        config = load_config("tiny", [*sets, *BESIDE.get(option, "").split()])
    except ConfigError as error:
        pytest.fail(str(error))
    subject = Subject(config, tmp_path / "run")
    for check in CHECKS:
        if "launch" not in check.when or check.by_prepare or check.what == "student":  # they read the data
            continue
        try:
            check.run(subject)
        except (Attention, NotChecked, Notice):
            continue
