"""Before torch and DeepSpeed are imported: no compilation at the first start, few words."""

from __future__ import annotations

import logging
import os
import warnings


def quiet_deepspeed() -> None:
    """Imports DeepSpeed with its hidden builds off.

    `deepspeed_shm_comm` would be compiled by init_distributed on CPUs (minutes, and fatal without ninja). The switch is an
    internal table of DeepSpeed, so the version is pinned and a test starts a training without a compiler.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("DS_BUILD_OPS", "0")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # The same bits again on the same GPU: a resumed training ends where an undisturbed one does.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("FLASH_ATTENTION_DETERMINISTIC", "1")
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed searches, and warns
    import deepspeed.ops
    from deepspeed.utils import logger

    _import_muon_uncompiled()
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.distributed.*deprecated")
    if "__compatible_ops__" not in vars(
        deepspeed.ops
    ):  # it would be filled by probing with a compiler, 0.9 s
        deepspeed.ops.__compatible_ops__ = {}
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logger.setLevel(logging.WARNING)


def _import_muon_uncompiled() -> None:
    """DeepSpeed's ZeRO imports its Muon optimiser, which asks torch to compile at import: 3 s of imports that nobody uses."""
    before = os.environ.get("TORCHDYNAMO_DISABLE")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        import deepspeed.runtime.zero.muon.original_muon  # noqa: F401
    finally:
        if before is None:
            del os.environ["TORCHDYNAMO_DISABLE"]
        else:
            os.environ["TORCHDYNAMO_DISABLE"] = before
