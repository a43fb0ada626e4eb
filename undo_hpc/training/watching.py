"""What a training says of itself: one line a log step, metrics.jsonl, progress.json, and the user's dashboards (offline)."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import re
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import torch

from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError
from undo_hpc.storage.atomic import translate_os_error, write_bytes
from undo_hpc.storage.opening import open_append
from undo_hpc.storage.progress import ProgressFile
from undo_hpc.storage.reading import finite, read_rows_tolerant
from undo_hpc.storage.shards import encode_sealed
from undo_hpc.system.own_places import is_own
from undo_hpc.system.ownership import EVERYBODY, is_trusted, require_own_file
from undo_hpc.training.spec import TrainSpec

log = logging.getLogger(__name__)

# Dense bf16 peaks in TFLOP/s as the makers state them, longest name first where one contains another.
_PEAKS = (
    ("GH200", 989.0),
    ("H200", 989.0),
    ("H100 PCIE", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.0),
    ("H800", 989.0),
    ("B200", 2250.0),
    ("A100", 312.0),
    ("A800", 312.0),
    ("A40", 150.0),
    ("A30", 165.0),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("RTX 4090", 165.0),
    ("RTX 3090", 71.0),
    ("RTX A6000", 155.0),
    ("MI300X", 1307.0),
    ("MI250", 362.0),
)


def peak_flops(device: torch.device, precision: str) -> float | None:
    """The device's peak in bf16 FLOP/s, or None where it is not known."""
    if device.type != "cuda" or precision != "bf16":
        return None
    name = torch.cuda.get_device_name(device).upper()
    return next((peak * 1e12 for key, peak in _PEAKS if key in name), None)


class StepFlops:
    """FLOPs that a step needs, forward and backward: no padding, no recomputation, answers only in the last layer.

    Args:
        config: the configuration of the (text) model; num_params: its number of weights; num_trainable: how many of them get a gradient.

    Attributes:
        known: whether the count holds. Of a mixture of experts a token meets only some weights, which are not counted here.
    """

    def __init__(self, config: Any, num_params: int, num_trainable: int) -> None:
        head = config.vocab_size * config.hidden_size
        width = config.num_attention_heads * (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self._each = (
            4 + 2 * num_trainable / num_params
        )  # 2 forward, 2 backward for the layer below, 2 more for a weight's own gradient
        self._body = num_params - head * (1 if config.tie_word_embeddings else 2)
        self._head, self._attention = head, config.num_hidden_layers * width
        self.known = not any(
            getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")
        )

    def flops(self, lengths: list[int], targets: int) -> float:
        """FLOPs for documents of these lengths with this many target tokens: 6 a learned weight and token, 6 a causal score and channel."""
        return float(
            self._each * (self._body * sum(lengths) + self._head * targets)
            + 6 * self._attention * sum(n * n for n in lengths)
        )


class Tracker(Protocol):
    """A further place for the curve."""

    def log(self, row: dict[str, float], step: int) -> None:
        """Takes one row."""

    def close(self) -> None:
        """No more rows will come."""


class _TensorBoard:
    def __init__(self, spec: TrainSpec, resumed_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a killed training logged after its last checkpoint is logged again, so it leaves the curve.
        self._writer = SummaryWriter(str(Path(spec.work_dir) / "tensorboard"), purge_step=resumed_at + 1)

    def log(self, row: dict[str, float], step: int) -> None:
        for key, value in row.items():
            self._writer.add_scalar(f"train/{key}", value, step)

    def close(self) -> None:
        self._writer.close()


class _WandbLike:
    """wandb, and trackio, which speaks the same way. A training that was started again continues its own curve."""

    def __init__(self, module: str, spec: TrainSpec) -> None:
        import importlib

        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_DIR", spec.work_dir)
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", "300")  # a server that never answers holds no training
        os.environ.setdefault("TRACKIO_DIR", str(Path(spec.work_dir) / "trackio"))
        self._module = importlib.import_module(module)
        _require_own_settings(module)
        name = f"{spec.card.get('name', spec.run_id)}-{spec.card.get('iteration', 0)}"
        known_by = {"id": re.sub(r"[^A-Za-z0-9_-]", "-", spec.run_id)} if module == "wandb" else {}
        self._is_lost = False
        self._try("init", project="undo-hpc", name=name, config=spec.train, resume="allow", **known_by)

    def log(self, row: dict[str, float], step: int) -> None:
        self._try("log", {f"train/{key}": value for key, value in row.items()}, step=step)

    def close(self) -> None:
        self._try("finish")

    def _try(self, call: str, *given: Any, **named: Any) -> None:
        """What a server says, or does not, ends no training."""
        if self._is_lost:
            return
        try:
            getattr(self._module, call)(*given, **named)
        except Exception as error:  # noqa: BLE001 -- of theirs, whatever their server has said
            self._is_lost = True
            words = " ".join(str(error).split())[:300] or type(error).__name__
            log.warning(
                f"{self._module.__name__}.{call}: {words}: the training goes on without it; its curve is in metrics.jsonl"
            )


def check_trackers(config: TrainConfig) -> None:
    """Raises ConfigError where a dashboard asked for is not installed, or would be set up by another user."""
    for name in config.trackers:
        found = importlib.util.find_spec(name)
        if (
            found is None or found.origin is None
        ):  # without an origin: a mere folder of that name, such as wandb leaves behind
            raise ConfigError(
                f"train.trackers names {name}, which is not installed",
                hint=f"pip install 'undo-hpc[watch]' (or just {name}), or remove it from train.trackers",
            )
        _require_own_settings(name)


def _require_own_settings(tracker: str) -> None:
    """wandb reads settings from the folder where it is started, and from that of its configuration (wandb/sdk/wandb_setup.py), the address
    that the user's key is sent to among them: in a folder for everybody they may be another user's. Raises ConfigError."""
    if tracker != "wandb":
        return
    named = os.environ.get("WANDB_CONFIG_DIR")
    # as wandb does: `~` stays where nobody knows a home
    place = Path(os.path.expanduser(named or "~/.config/wandb"))  # noqa: PTH111
    for folder in (Path("wandb").absolute(), Path(".wandb").absolute(), place):
        require_own_file(folder / "settings", "wandb's settings file")
    if named and not is_own(place) and not is_trusted(EVERYBODY):
        raise ConfigError(
            f"WANDB_CONFIG_DIR is {place}, where others can write: they could say in wandb's settings where your key is sent",
            hint="export WANDB_CONFIG_DIR=~/.config/wandb; for those who may, what UNDO_TRUST is for: docs/security.md",
        )


def open_trackers(spec: TrainSpec, resumed_at: int) -> list[Tracker]:
    """The dashboards asked for; `check_trackers` comes first."""
    return [
        _TensorBoard(spec, resumed_at) if name == "tensorboard" else _WandbLike(name, spec)
        for name in spec.config.trackers
    ]


def drop_rows_after(path: Path, step: int) -> None:
    """Removes rows of metrics.jsonl after `step`, which a resumed training will write again, and lines that are torn or changed."""
    with translate_os_error(path):
        kept = [row for row in read_rows_tolerant(path) if finite(row, "step", math.inf) <= step]
    write_bytes(path, map(encode_sealed, kept))


def tell(spec: TrainSpec, what: str) -> None:
    """What a training does before its first step, for those who watch. Only rank 0 calls it."""
    ProgressFile(Path(spec.work_dir) / "progress.json").update(force=True, doing=what)


class TrainingMonitor:
    """Collects a training's figures between log steps and writes them. Only rank 0 has one.

    Args:
        total: steps of the whole training.
        peak: peak FLOP/s of all ranks together, or None.
    """

    def __init__(self, spec: TrainSpec, total: int, resumed_at: int, peak: float | None) -> None:
        self._work_dir, self._total, self._peak = Path(spec.work_dir), total, peak
        self._metrics = self._work_dir / "metrics.jsonl"
        drop_rows_after(self._metrics, resumed_at)
        self._progress = ProgressFile(self._work_dir / "progress.json")
        self._trackers = open_trackers(spec, resumed_at)
        self._times: deque[tuple[int, float]] = deque([(resumed_at, time.monotonic())], maxlen=20)

    def log(
        self,
        step: int,
        *,
        epoch: float,
        loss: float,
        lr: float,
        grad_norm: float,
        tokens: float,
        padded_tokens: float,
        targets: float,
        flops: float,
        figures: dict[str, float] | None = None,
    ) -> None:
        """Logs the steps since the last call. `tokens` are real ones, `padded_tokens` all computed positions, over all ranks; `figures`
        are of scored positions (divergence.means)."""
        now = time.monotonic()
        seconds = max(now - self._times[-1][1], 1e-9)
        first_step, first_time = self._times[0]
        self._times.append((step, now))
        left = (self._total - step) * (now - first_time) / max(1, step - first_step)
        row = {
            "step": step,
            "epoch": round(epoch, 4),
            "loss": loss,
            "lr": lr,
            "grad_norm": grad_norm,
            "tokens": tokens,
            "target_tokens": targets,
            "tokens_per_s": tokens / seconds,
            "useful": tokens / padded_tokens if padded_tokens else 1.0,
            "seconds": seconds,
            "left_s": left,
            **(figures or {}),
        }
        if self._peak:
            row["mfu"] = flops / seconds / self._peak
        with translate_os_error(self._metrics), open_append(self._metrics) as file:
            file.write(encode_sealed({**row, "time": time.time()}))
        self._progress.update(force=step == self._total, done=step, total=self._total, unit="steps", **row)
        for tracker in self._trackers:
            tracker.log(row, step)
        mfu = f"  MFU {row['mfu']:.1%}" if "mfu" in row else ""
        log.info(
            f"step {step}/{self._total}  epoch {epoch:.2f}  loss {loss:.4f}  lr {lr:.2e}  grad {grad_norm:.3f}  "
            f"{row['tokens_per_s']:,.0f} tok/s  useful {row['useful']:.0%}{mfu}  left {_clock(left)}"
        )

    def close(self) -> None:
        """Closes the dashboards."""
        for tracker in self._trackers:
            tracker.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
