"""The student: tokenizer and weights loaded, attention chosen, adapters and kernels put on where asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from collections.abc import Iterator
from typing import Any

import torch

from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError, DataError, loading
from undo_hpc.models.own_files import own_files
from undo_hpc.system.logs import adopt
from undo_hpc.training import attention, kernels
from undo_hpc.training.spec import TrainSpec

log = logging.getLogger(__name__)


def load_tokenizer(spec: TrainSpec) -> Any:
    """The tokenizer of the first weights. Raises DataError where it cannot be loaded."""
    from transformers import AutoTokenizer

    adopt("transformers")
    hint = "is the model directory complete (tokenizer.json, tokenizer_config.json)?"
    with (
        own_files(spec.model, spec.revision),
        loading(f"the tokenizer of {spec.model} cannot be loaded", hint=hint),
    ):
        loaded = AutoTokenizer.from_pretrained(
            spec.model, revision=spec.revision or None, trust_remote_code=spec.trust_remote_code
        )
    return loaded


def choose_attention(config: TrainConfig, device: torch.device) -> str:
    """The attention in use: what was asked for, or the best at hand. Raises ConfigError where the one asked for cannot run here."""
    name, how = pick_attention(config, capability=attention.capability_of(device), flash=flash_missing())
    log.info(f"attention: {name} ({how}); packing {'on' if config.packing else 'off'}")
    return name


def flash_missing() -> str:
    """Why FlashAttention 2 cannot be used, its own kernels' demands aside; empty where it can."""
    if importlib.util.find_spec("flash_attn") is None:
        return "flash-attn is not installed"
    try:
        from flash_attn import flash_attn_varlen_func  # noqa: F401  # built for another torch it is found, and does not load
        from transformers.utils import is_flash_attn_2_available
    except ImportError as error:
        return f"flash-attn is installed, but cannot be loaded ({str(error).splitlines()[0]})"
    return (
        ""
        if is_flash_attn_2_available()
        else "transformers does not take the flash-attn that is installed (another one than 2.3.3 or newer)"
    )


def pick_attention(config: TrainConfig, *, capability: tuple[int, int] | None, flash: str) -> tuple[str, str]:
    """The attention's name and what it does, as a function of the settings, the GPU and the packages alone.

    Args:
        capability: compute capability of the GPU; None where there is none.
        flash: why FlashAttention 2 is missing; empty where it is there.

    Raises ConfigError where the one asked for cannot run.
    """
    kernel = attention.kernel_missing(config.precision, capability)
    name: str = config.attention
    if name == "auto":
        name = (
            attention.NAME if config.packing else "sdpa"
        )  # FlashAttention's kernel is torch's own varlen kernel, with more around it
    if name == "flash_attention_2" and (kernel or flash):
        hint = (
            "pip install flash-attn on the cluster, or set train.attention to auto"
            if not kernel
            else "set train.attention to auto"
        )
        raise ConfigError(f"train.attention is flash_attention_2, but {kernel or flash}", hint=hint)
    one_by_one = "documents of a row attended to one by one"
    if capability is not None:
        one_by_one += (
            f", in buckets of similar length: {kernel}" if kernel else ", torch's varlen flash kernel"
        )
    return name, {
        "varlen": one_by_one,
        "sdpa": "torch",
        "eager": "plain, slow",
        "flash_attention_2": "FlashAttention 2, varlen",
    }[name]


class AttentionMissing(DataError):
    """The model's code has no such attention."""


class _Zero3:
    """What transformers asks of a DeepSpeed configuration. (Its own class for this needs accelerate.)"""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.config = settings

    def is_zero3(self) -> bool:
        return True


@contextlib.contextmanager
def _partitioned_init(settings: dict[str, Any] | None) -> Iterator[None]:
    """Inside, transformers makes models whose weights are shared out among the ranks as they are made (deepspeed.zero.Init).

    Rank 0 alone reads each weight from its file; no rank ever holds the whole model. Without settings, nothing is different.
    """
    if settings is None:
        yield
        return
    from transformers.integrations import deepspeed

    ours = _Zero3(settings)  # transformers keeps a weak reference
    deepspeed.set_hf_deepspeed_config(ours)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        deepspeed.unset_hf_deepspeed_config()


def size(weight: torch.nn.Parameter) -> int:
    """Elements of a weight, also where this rank holds only its share."""
    return int(getattr(weight, "ds_numel", weight.numel()))


def dims(weight: torch.nn.Parameter) -> int:
    """Dimensions of a weight, also where this rank holds only its share."""
    return len(getattr(weight, "ds_shape", weight.shape))


def load_student(
    spec: TrainSpec, config: TrainConfig, implementation: str, *, zero3_settings: dict[str, Any] | None = None
) -> Any:
    """The model with its first weights, in the training precision: on the CPU, or shared out among the ranks.

    Args:
        zero3_settings: DeepSpeed's settings for ZeRO 3; all ranks take part then.

    Raises DataError where the directory is broken, ConfigError where an option needs a package that is missing.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    attention.register()
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    hint = "is the directory complete (config.json, *.safetensors), and does this transformers know its type?"
    try:
        with (
            own_files(spec.model, spec.revision),
            loading(f"the model {spec.model} cannot be loaded", hint=hint),
            _partitioned_init(zero3_settings),
        ):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                spec.model,
                revision=spec.revision or None,
                trust_remote_code=spec.trust_remote_code,
                dtype=dtype,
                attn_implementation=implementation,
                output_loading_info=True,
            )
    except DataError as error:
        why = str(error.__cause__)
        # Architectures with attention classes of their own (Falcon, GPT-J), or with sinks, which torch's attention has not (gpt-oss).
        if why == repr(implementation) or "does not support an attention implementation" in why:
            raise AttentionMissing(
                f"the model {spec.model} cannot be run with the attention {implementation!r}",
                hint="set train.attention to eager"
                + (" and train.packing to false, where that is refused, too" if config.packing else ""),
            ) from error
        if isinstance(error.__cause__, SafetensorError):
            raise DataError(
                f"the weights of {spec.model} are damaged: {why}", hint="copy or download the model again"
            ) from error
        raise
    model, told = loaded
    if absent := sorted(told["missing_keys"]):
        raise DataError(
            f"the model {spec.model} lacks {len(absent)} of its weights ({absent[0]} is the first)",
            hint="they would begin at random: copy or download the model again",
        )
    if zero3_settings is not None:
        mine = sum(p.ds_tensor.numel() for p in model.parameters())
        log.info(
            f"ZeRO 3: this rank holds {mine:,} of {sum(size(p) for p in model.parameters()):,} weights; no rank loaded them all"
        )
    model.config.use_cache = False
    if torch.cuda.is_available() or config.liger:
        kernels.faster(model, config)
    if config.lora.enabled:
        model = _with_adapters(model, config, spec.seed)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if config.lora.enabled:
            model.enable_input_require_grads()
    model.train()
    return model


def load_with_attention(
    spec: TrainSpec, config: TrainConfig, attention_name: str, *, zero3_settings: dict[str, Any] | None = None
) -> tuple[Any, str]:
    """The model and the attention that it has: eager where its code lacks the chosen one, and the choice was ours (`auto`)."""
    try:
        return load_student(spec, config, attention_name, zero3_settings=zero3_settings), attention_name
    except AttentionMissing as error:
        if config.attention != "auto":
            raise
        log.info(f"attention: eager, since {error.message}")
    return load_student(spec, config, "eager", zero3_settings=zero3_settings), "eager"


def base_model(model: Any) -> Any:
    """The transformers model itself, without LoRA's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _with_adapters(model: Any, config: TrainConfig, seed: int) -> Any:
    if importlib.util.find_spec("peft") is None:
        raise ConfigError(
            "train.lora.enabled is on, but peft is not installed", hint="pip install 'undo-hpc[lora]'"
        )
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    lora = config.lora
    adapted = get_peft_model(
        model,
        LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            task_type="CAUSAL_LM",
            target_modules=lora.target_modules or "all-linear",
        ),
    )
    num_trainable = sum(size(p) for p in adapted.parameters() if p.requires_grad)
    log.info(
        f"lora: rank {lora.r}, {num_trainable:,} of {sum(size(p) for p in adapted.parameters()):,} weights learn; merged at export"
    )
    return adapted
