"""DeepSpeed's settings: ours from the run's configuration, the user's merged over them, and what may not be overridden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from undo_hpc.config.train import TrainConfig
from undo_hpc.config.yaml_text import parse_value
from undo_hpc.errors import ConfigError

# What the loop itself decides. A user's value would silently fight it, so it is refused with the key to use instead.
_OURS = {
    "train_batch_size": "train.tokens_per_batch",
    "train_micro_batch_size_per_gpu": "train.micro_batch_tokens",
    "gradient_accumulation_steps": "train.tokens_per_batch and train.micro_batch_tokens",
    "optimizer": "train.learning_rate, betas, eps",
    "scheduler": "train.schedule",
    "gradient_clipping": "train.max_grad_norm",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "zero_optimization.stage": "train.zero_stage",
    "checkpoint.load_universal": "nothing: it is chosen by itself",
}


def zero_stage(config: TrainConfig) -> int:
    """The ZeRO stage in use: bf16 weights need an fp32 master copy, which DeepSpeed keeps from stage 1 on."""
    return max(config.zero_stage, 1) if config.precision == "bf16" else config.zero_stage


def in_use(config: TrainConfig, *, gpu: bool) -> list[str]:
    """What runs otherwise than the words of the configuration suggest, a line each, with the reason."""
    lines = []
    if zero_stage(config) != config.zero_stage:
        lines.append(
            f"ZeRO: stage {config.zero_stage} was asked for, stage {zero_stage(config)} runs: bf16 weights need an fp32 master copy, "
            "which DeepSpeed keeps (and shares out among the ranks) from stage 1 on; the update is the same"
        )
    if config.offload != "none" and not gpu:
        lines.append(
            f"offload: {config.offload} was asked for, but there is no GPU: everything lies in host memory anyway"
        )
    elif config.offload != "none":
        what = (
            "optimiser state and update"
            if config.offload == "optimizer"
            else "optimiser state, update and parameters"
        )
        lines.append(f"offload: {what} on the host's CPU (torch's own fused AdamW: nothing is compiled)")
    return lines


def own_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that follow from the run's configuration."""
    stage = zero_stage(config)
    zero: dict[str, Any] = {"stage": stage, "contiguous_gradients": True, "overlap_comm": True}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if config.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if config.offload == "all":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "steps_per_print": 10**12,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.precision == "bf16"},
        "timers": {
            "throughput": {"enabled": False}
        },  # it has the host wait for the GPU at every forward pass; the loop measures itself
        # In fp32 without ZeRO the loop clips, since DeepSpeed would keep the norm to itself.
        "gradient_clipping": 0.0 if stage == 0 else config.max_grad_norm,
    }
    if config.precision == "bf16":
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings


def read_settings(source: dict[str, Any] | str) -> dict[str, Any]:
    """The user's settings: as they are, or from a JSON or YAML file. Raises ConfigError where it cannot be read."""
    if not isinstance(source, str):
        return source
    if not source:
        return {}
    path = Path(source)
    hint = "train.deepspeed takes a mapping, or a JSON or YAML file with one"
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else parse_value(text)
    except FileNotFoundError as error:
        raise ConfigError(f"train.deepspeed: {path} does not exist", hint=hint) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"train.deepspeed: {path} cannot be read: {error}", hint=hint) from error
    if not isinstance(data, dict):
        raise ConfigError(f"train.deepspeed: {path} holds no mapping", hint=hint)
    return data


def merge(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Theirs over ours, section by section."""
    merged = dict(ours)
    for key, value in theirs.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def deepspeed_settings(config: TrainConfig) -> dict[str, Any]:
    """All settings for deepspeed.initialize.

    Raises ConfigError for a key that the loop decides itself, and for one that DeepSpeed does not know.
    """
    theirs = read_settings(config.deepspeed)
    for dotted, instead in _OURS.items():
        section: Any = theirs
        *parents, last = dotted.split(".")
        for parent in parents:
            section = section.get(parent, {}) if isinstance(section, dict) else {}
        if isinstance(section, dict) and last in section:
            raise ConfigError(
                f"train.deepspeed: {dotted} is decided by {instead}",
                hint=f"remove {dotted} from train.deepspeed",
            )
    merged = merge(own_settings(config), theirs)
    _validate(merged)
    for key in ("offload_optimizer", "offload_param"):
        if (merged["zero_optimization"].get(key) or {}).get("device") == "nvme":
            raise ConfigError(
                f"train.deepspeed: zero_optimization.{key} on nvme needs DeepSpeed's async_io, which is compiled at the first start, "
                "and what lies there is in no checkpoint",
                hint="set train.offload to optimizer or all: host memory needs neither",
            )
    return merged


def _validate(settings: dict[str, Any]) -> None:
    from deepspeed.runtime import constants
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from pydantic import ValidationError

    try:
        DeepSpeedZeroConfig(**settings["zero_optimization"])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"train.deepspeed: zero_optimization.{key}: {first['msg']}",
            hint="see DeepSpeed's configuration page",
        ) from error
    known = {
        value for name, value in vars(constants).items() if name.isupper() and isinstance(value, str)
    } | set(own_settings(TrainConfig()))
    known |= {
        "checkpoint",
        "data_types",
        "flops_profiler",
        "comms_logger",
        "activation_checkpointing",
        "aio",
        "wall_clock_breakdown",
    }
    for key in settings:
        if key not in known:
            import difflib

            near = difflib.get_close_matches(key, known, 1)
            raise ConfigError(
                f"train.deepspeed: unknown key {key!r}",
                hint=f"did you mean {near[0]!r}?" if near else "see DeepSpeed's configuration page",
            )
