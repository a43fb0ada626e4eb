"""The Hub: its cache, what of the run lies there, tokens, and what compute nodes will see. Prefetching fills the cache."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from undo_hpc.config.schema import RunConfig
from undo_hpc.control.checks.finding import Finding
from undo_hpc.control.checks.sources import hub_sources
from undo_hpc.doctor.machine import SHARED, existing, mount_of, weights
from undo_hpc.errors import UndoError
from undo_hpc.models.resolve import loaded_models
from undo_hpc.system.data_files import expanded

log = logging.getLogger(__name__)


def hub_models(config: RunConfig) -> dict[str, str]:
    """Models that tasks of the run load from the Hub, with their revisions."""
    return {
        m.model: m.revision
        for m in loaded_models(config).values()
        if m.model and not m.model.startswith("tiny:") and not expanded(m.model).is_dir()
    }


def check_cache(config: RunConfig | None, *, cluster: bool) -> Iterator[Finding]:
    """Where the cache lies, and which models of the run are in it."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    place = existing(cache)
    _, kind = mount_of(place)
    if not os.access(place, os.W_OK):
        yield Finding(
            "error",
            "Hub cache",
            f"{cache} cannot be written",
            "set HF_HOME to a folder of yours on the shared file system",
        )
    elif cluster and kind not in SHARED:
        yield Finding(
            "warning",
            "Hub cache",
            f"{cache} on {kind}: this does not look shared",
            "set HF_HOME to a folder that compute nodes see",
        )
    else:
        yield Finding("ok", "Hub cache", str(cache))
    if config is None:
        return
    for model, revision in hub_models(config).items():
        if weights(model, revision) is None:
            yield Finding(
                "warning",
                "model",
                f"{model} is not in the cache",
                "fetch it on this machine: undo-hpc doctor --config ... --prefetch",
            )
        else:
            yield Finding("ok", "model", f"{model} is in the cache")


def check_nodes() -> Iterator[Finding]:
    """HF_HUB_OFFLINE: on compute nodes without a network it must be set, on the node that prepares the data it must not."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        yield Finding("warning", "HF_HUB_OFFLINE", "is set here: nothing can be fetched or pushed from this machine",
                      "unset it on the login node; jobs get it through the profile's export or setup")  # fmt: skip
    else:
        yield Finding(
            "ok",
            "HF_HUB_OFFLINE",
            "not set here; where compute nodes have no network, put `export HF_HUB_OFFLINE=1` under `setup` in the profile",
        )


def check_token(config: RunConfig | None) -> Iterator[Finding]:
    """Whether there is a token where the run publishes. Never its value."""
    hub = config.hub if config else None
    from huggingface_hub import get_token

    there = bool(get_token())
    if hub and hub.token_file:
        path = expanded(hub.token_file)
        if not path.is_file():
            yield Finding("error", "Hub token", f"{path} is missing", "correct hub.token_file")
            return
        if path.stat().st_mode & 0o077:
            yield Finding("warning", "Hub token", f"others may read {path}", f"chmod 600 {path}")
            return
        there = True
    wanted = bool(hub and (hub.dataset_repo or hub.model_repo))
    if wanted and not there:
        yield Finding(
            "error",
            "Hub token",
            "the run publishes, and there is no token",
            "hf auth login, or set HF_TOKEN_PATH or hub.token_file",
        )
    else:
        yield Finding(
            "ok",
            "Hub token",
            "there is one" if there else "none (needed for gated models and for undo-hpc push only)",
        )


def prefetch(config: RunConfig) -> Iterator[Finding]:
    """Fetches the run's models and data sets into the cache.

    Errors become findings: what could not be fetched, and why.
    """
    from huggingface_hub import snapshot_download

    for model, revision in hub_models(config).items():
        log.info("fetching %s", model)
        try:
            snapshot_download(
                model,
                revision=revision or None,
                ignore_patterns=["*.gguf", "*.onnx", "original/*", "*.msgpack", "*.h5"],
            )
        except (
            UndoError,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ) as error:  # of a mirror's error page, too
            yield Finding(
                "error",
                "prefetch",
                f"{model}: {_first_line(error)}",
                "check the name, the token of a gated model, and the network",
            )
        else:
            yield Finding("ok", "prefetch", model)
    from undo_hpc.data.hub import read_hub

    for source in hub_sources(config):
        log.info("fetching %s", source.hub)
        try:
            read_hub(source)
        except UndoError as error:
            yield Finding("error", "prefetch", error.message, error.hint)
        else:
            yield Finding("ok", "prefetch", source.hub)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
