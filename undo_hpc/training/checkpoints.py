"""Checkpoints: written beside, validated by a manifest written last, renamed into place; torn ones are skipped.

There is no `latest` file that could be stale: the newest folder whose manifest matches its files is the latest.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import math
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError, StorageError, TrainingError
from undo_hpc.storage.atomic import fsync_dir, make_folder, sha256_file, translate_os_error, write_json
from undo_hpc.storage.lease import check_inherited
from undo_hpc.storage.manifest import sealed, unseal
from undo_hpc.training.deepspeed_settings import zero_stage
from undo_hpc.training.random_numbers import random_state, restore_random
from undo_hpc.training.ranks import DistContext
from undo_hpc.training.spec import TrainSpec
from undo_hpc.training.writer import CheckpointWriter, plain_data_only

log = logging.getLogger(__name__)

_TAG = "state"  # DeepSpeed's folder inside ours
_MANIFEST = "MANIFEST.json"
_TYPES = {
    "run_id": str,
    "world": int,
    "zero_stage": int,
    "model": str,
    "seed": int,
    "data_digest": str,
    "settings": dict,
    "files": dict,
}
_MAY_CHANGE_ON_RESUME = {
    "ranks",
    "micro_batch_tokens",
    "offload",
    "gradient_checkpointing",
    "attention",
    "deepspeed",
}  # may differ on resume


@dataclass(frozen=True)
class Found:
    """A checkpoint to resume from: its folder, the step it was made after, the number of ranks that made it, the loss that was logged last; and
    of the steps since that log row, which go into the next one, the sum of the losses (on the first rank) and their target tokens."""

    path: Path
    step: int
    world_size: int
    loss: float
    since_log: tuple[float, int] = (0.0, 0)


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The settings that a resumed training must share with its checkpoint: all that belong to the results."""
    dump = config.model_dump(mode="json")
    return {
        name: dump[name]
        for name, field in TrainConfig.model_fields.items()
        if name not in _MAY_CHANGE_ON_RESUME
        and not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("runtime"))
        and name != "checkpoint"
    }


class CheckpointManager:
    """Saves and finds the checkpoints of one training. All methods are called by all ranks together."""

    def __init__(self, spec: TrainSpec, dist_context: DistContext) -> None:
        self._spec, self._config, self._dist = spec, spec.config, dist_context
        self.folder = Path(spec.work_dir) / "checkpoints"
        self._writer = CheckpointWriter(asynchronous=self._config.checkpoint.asynchronous)
        self._pending: dict[str, Any] | None = None
        self.blocked_s: list[float] = []
        self.whole_s: list[float] = []
        if dist_context.info.is_first:
            with translate_os_error(self.folder):
                make_folder(self.folder)
                for torn in self.folder.glob(".*"):
                    log.info(
                        f"checkpoint {torn.name.strip('.').removesuffix('.tmp')} was not finished; it is removed"
                    )
                    shutil.rmtree(torn, ignore_errors=True)
        dist_context.barrier()

    def attach(self, engine: Any) -> None:
        """Makes DeepSpeed write through us."""
        engine.checkpoint_engine = self._writer

    # -- finding ------------------------------------------------------------------------------------------------------

    def latest(self) -> Found | None:
        """The newest sound checkpoint. Raises ConfigError where it belongs to another run, other data or other settings."""
        steps = sorted((int(p.name.removeprefix("step-")) for p in self.folder.glob("step-*")), reverse=True)
        rank0_steps = (
            [int(s) for s in self._dist.all_reduce_max(*self._first_padded(steps))]
            if self._dist.info.world_size > 1
            else steps
        )
        for step in rank0_steps:
            if step < 0:
                continue
            path = self.folder / f"step-{step:08d}"
            why = self._validation_error(path)
            if self._dist.all_reduce_max(float(bool(why)))[0]:
                log.info(f"checkpoint {path.name} is skipped: {why or 'another rank found it damaged'}")
                continue
            manifest = _read_manifest(path)
            self._check(path, manifest)
            logged, (loss, targets) = manifest.get("logged"), manifest["since_log"]
            mine = (loss if self._dist.info.is_first else 0.0, targets)
            return Found(path, step, manifest["world"], logged or manifest["loss"], mine)
        return None

    def _first_padded(self, steps: list[int]) -> list[float]:
        """Rank 0's list, in a form that the largest-of-all makes known: the others offer -1."""
        room = self._config.checkpoint.keep + 4
        mine = (steps if self._dist.info.is_first else [])[:room]
        return [float(s) for s in mine] + [-1.0] * (room - len(mine))

    def _validation_error(self, path: Path) -> str:
        """What is wrong with a checkpoint's files; each rank reads its share of them. Empty where nothing is."""
        try:
            files = sorted(_read_manifest(path)["files"].items())
        except FileNotFoundError:
            return "it has no manifest"
        except (ValueError, KeyError, TypeError, AttributeError):
            return "its manifest is damaged"
        for at, (name, recorded) in enumerate(files):
            file = path / _TAG / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != recorded["size"]:
                return f"{name} has {file.stat().st_size} bytes instead of {recorded['size']}"
            if (
                at % self._dist.info.world_size == self._dist.info.rank
                and sha256_file(file) != recorded["sha256"]
            ):
                return f"{name} does not match its digest"
        return ""

    def _check(self, path: Path, manifest: dict[str, Any]) -> None:
        hint = f"remove {self.folder} to start from scratch, or restore the old value to resume"
        if manifest["run_id"] != self._spec.run_id:
            raise ConfigError(
                f"{path} belongs to another run ({manifest['run_id']}, this is {self._spec.run_id})",
                hint="give this run its own directory, or remove that one's checkpoints",
            )
        if manifest["zero_stage"] != zero_stage(self._config):
            raise ConfigError(
                f"train.zero_stage is {self._config.zero_stage}, but {path.name} was made with {manifest['zero_stage']}",
                hint=hint,
            )
        if manifest["data_digest"] != self._spec.data_digest:
            raise ConfigError(
                f"the training data changed since {path.name} was made",
                hint=f"remove {self.folder} to start from scratch",
            )
        origin = self._spec.origin or self._spec.model
        if manifest["model"] not in (origin, self._spec.model):  # earlier versions noted the place
            raise ConfigError(
                f"{path.name} was trained from {manifest['model']}, this run starts from {origin}", hint=hint
            )
        if manifest["seed"] != self._spec.seed:
            raise ConfigError(
                f"the seed is {self._spec.seed}, but {path.name} was made with {manifest['seed']}", hint=hint
            )
        now = settings_of(self._config)
        for key in sorted(now):
            if key in manifest["settings"] and manifest["settings"][key] != now[key] and key != "zero_stage":
                raise ConfigError(
                    f"train.{key} is {now[key]!r}, but {path.name} was made with {manifest['settings'][key]!r}",
                    hint=hint,
                )

    def universal(self, found: Found) -> Path:
        """The checkpoint in a form that any number of ranks can load; made where it is not there yet."""
        target = self.folder / f"universal-{found.step:08d}"
        self._dist.on_rank_zero(lambda: self._convert(found, target))
        return target

    def _convert(self, found: Found, target: Path) -> None:
        for old in self.folder.glob("universal-*"):  # of a start that was killed while it loaded
            shutil.rmtree(old, ignore_errors=True)
        log.info(
            f"checkpoint {found.path.name} was made by {found.world_size} ranks, this is {self._dist.info.world_size}: converting it"
        )
        from deepspeed.checkpoint import ds_to_universal

        temporary = self.folder / f".{target.name}.tmp"
        options = argparse.Namespace(
            input_folder=str(found.path / _TAG),
            output_folder=str(temporary / _TAG),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), plain_data_only():
                ds_to_universal.main(options)
        except (RuntimeError, ValueError, KeyError, AssertionError) as error:
            raise TrainingError(
                f"{found.path} cannot be converted for {self._dist.info.world_size} ranks: {error}",
                hint=f"start again with {found.world_size} ranks",
            ) from error
        temporary.rename(target)
        fsync_dir(self.folder)

    def load(self, engine: Any, found: Found, universal: Path | None) -> None:
        """Puts the checkpoint's state into the engine, and this rank's random numbers where the world is the same."""
        settings = [
            {key: value for key, value in group.items() if key != "params"}
            for group in engine.optimizer.param_groups
        ]
        with plain_data_only():
            engine.load_checkpoint(str(universal or found.path), tag=_TAG, load_lr_scheduler_states=False)
        if universal:
            fix_universal_optimizer_groups(engine, settings)
        if found.world_size == self._dist.info.world_size:
            restore_random(torch.load(found.path / _TAG / self._random_name(), weights_only=True))
        if universal:
            self._dist.barrier()
            if self._dist.info.is_first:
                shutil.rmtree(universal, ignore_errors=True)
        log.info(f"resumed after step {found.step}")

    # -- saving -------------------------------------------------------------------------------------------------------

    def save(
        self,
        engine: Any,
        step: int,
        loss: float,
        logged: float = math.nan,
        since_log: tuple[float, int] = (0.0, 0),
    ) -> None:
        """Saves the state after `step` steps, with the mean loss since the last checkpoint, and what `Found` says of the log (sums over all
        ranks). Returns as soon as training may continue."""
        self.finalize()
        began = time.monotonic()
        temporary = self.folder / f".step-{step:08d}.tmp"
        with translate_os_error(temporary):
            engine.save_checkpoint(str(temporary), tag=_TAG, save_latest=False)
        folder = temporary / _TAG
        self._writer.save(random_state(), str(folder / self._random_name()))
        part = folder / f"files-{self._dist.info.rank:05d}.json"
        told = {"step": step, "loss": loss, "logged": logged, "since_log": since_log}
        self._pending = told | {"path": temporary, "began": began}
        self._writer.start(lambda files: write_json(part, files))
        self.blocked_s.append(time.monotonic() - began)

    @property
    def written(self) -> bool:
        """Whether this rank's part of a pending checkpoint is written and waits to be published."""
        return self._pending is not None and not self._writer.busy

    @property
    def pending(self) -> bool:
        """Whether a checkpoint is being written or waits to be published."""
        return self._pending is not None

    def finalize(self) -> None:
        """Waits for the pending checkpoint and publishes it. Raises StorageError on all ranks where one could not write."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        failure = self._writer.finish()
        if self._dist.all_reduce_max(float(failure is not None))[0]:
            if self._dist.info.is_first:
                shutil.rmtree(pending["path"], ignore_errors=True)
            raise failure or StorageError(
                "another rank could not write its part of the checkpoint",
                hint="the checkpoint before it is untouched; see the other ranks' logs",
            )
        self._dist.on_rank_zero(lambda: self._publish(pending))
        self.whole_s.append(time.monotonic() - pending["began"])

    def _publish(self, pending: dict[str, Any]) -> None:
        check_inherited("the training")
        temporary, step = pending["path"], pending["step"]
        files: dict[str, Any] = {}
        for rank in range(self._dist.info.world_size):
            part = temporary / _TAG / f"files-{rank:05d}.json"
            files |= json.loads(part.read_text(encoding="utf-8"))
        final = self.folder / f"step-{step:08d}"
        manifest = {
            "format": 1,
            "run_id": self._spec.run_id,
            "step": step,
            "loss": pending["loss"],
            "logged": pending.get("logged"),
            "since_log": pending.get("since_log"),
            "world": self._dist.info.world_size,
            "zero_stage": zero_stage(self._config),
            "model": self._spec.origin or self._spec.model,
            "seed": self._spec.seed,
            "data_digest": self._spec.data_digest,
            "settings": settings_of(self._config),
            "files": files,
        }
        write_json(temporary / _MANIFEST, sealed(manifest))
        with translate_os_error(final):
            shutil.rmtree(final, ignore_errors=True)  # only a damaged one can stand here
            temporary.rename(final)
            fsync_dir(self.folder)
        self._prune()
        size = sum(f["size"] for f in files.values())
        log.info(
            f"checkpoint after step {step}: {size / 2**20:,.1f} MiB, training stood still for {self.blocked_s[-1]:.3f} s, "
            f"on disk after {time.monotonic() - pending['began']:.2f} s"
        )

    def _prune(self) -> None:
        """Keeps the newest ones and the one with the least training loss."""
        kept = sorted(p for p in self.folder.glob("step-*") if re.fullmatch(r"step-\d+", p.name))
        best = min(kept, key=_loss_of, default=None)
        for path in kept[: -self._config.checkpoint.keep]:
            if path != best:
                doomed = path.with_name(f".{path.name}.old")
                with translate_os_error(path):
                    path.rename(
                        doomed
                    )  # first the name: a kill here leaves no torn checkpoint of a good name
                shutil.rmtree(doomed, ignore_errors=True)

    def _random_name(self) -> str:
        return f"random-{self._dist.info.rank:05d}.pt"

    @property
    def save_seconds(self) -> float:
        """The longest time that a checkpoint took so far from start to disk; 0 before the first."""
        return max(self.whole_s, default=0.0)


def fix_universal_optimizer_groups(engine: Any, settings: list[dict[str, Any]]) -> None:
    """Undoes what DeepSpeed 0.19 does to an optimiser with several groups when it loads a universal checkpoint under ZeRO 3.

    All groups are given the settings of the first (the weight decay of norms and biases with them), and one and the same
    step counter, which AdamW then counts up once for each group.
    """
    for group, own in zip(engine.optimizer.param_groups, settings, strict=True):
        group.update(own)
    for state in getattr(engine.optimizer, "optimizer", engine.optimizer).state.values():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].clone()


def _read_manifest(path: Path) -> dict[str, Any]:
    """What a checkpoint's manifest holds. Raises OSError, ValueError, KeyError or TypeError where it is none, or a value has changed."""
    manifest: dict[str, Any] = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    unseal(manifest)
    for name, kind in _TYPES.items():
        if type(manifest[name]) is not kind:
            raise TypeError(f"{name} has another type")
    loss, targets = manifest.get("since_log") or (0.0, 0)
    return manifest | {"since_log": (float(loss), int(targets))}


def _loss_of(path: Path) -> float:
    try:
        return float(_read_manifest(path)["loss"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return float("inf")
