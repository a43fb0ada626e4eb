"""Writes checkpoint files behind the training's back: a copy in host memory first, then a thread, a digest on the way.

It stands in for DeepSpeed's own checkpoint writer, so the files have DeepSpeed's format and its tools (the universal
checkpoint) read them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle  # for its error alone
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine

from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.storage.atomic import fsync_dir
from undo_hpc.storage.hashing import HashingFile

_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@contextlib.contextmanager
def plain_data_only() -> Iterator[None]:
    """Within it, whatever torch loads in this process may hold tensors, plain values and the few classes that DeepSpeed's
    checkpoints are made of, and nothing that runs code (DeepSpeed itself asks torch for any pickle).

    Raises EvidenceError where a file holds anything else. Source: the notes on `weights_only` of torch.load, and its variable TORCH_FORCE_WEIGHTS_ONLY_LOAD.
    """
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    torch.serialization.add_safe_globals(
        _classes()
    )  # for good: torch's context would take them away at the end of an inner one
    try:
        yield
    except pickle.UnpicklingError as error:
        raise EvidenceError(
            f"a checkpoint holds something else than data: {_named(str(error))}",
            hint="nothing of it was run. Find out who wrote it; remove that checkpoint, and the same command goes on from the one before",
        ) from error
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before


def _named(words: str) -> str:
    """The class or function that torch's message names, or its last line."""
    found = re.search(r"GLOBAL (\S+)", words)
    return found[1] if found else words.strip().splitlines()[-1]


def _classes() -> list[Any]:
    """The classes in checkpoints of DeepSpeed 0.19, all stages of ZeRO."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]


def write_file(state: Any, path: Path) -> dict[str, Any]:
    """torch.save, durable. Returns size and SHA-256. Raises OSError where the disk refuses."""
    file = HashingFile(path)
    try:
        torch.save(state, file)  # it writes from beginning to end
        return {"size": file.size, "sha256": file.sync()}
    except RuntimeError as error:  # torch's zip writer hides the system's word on a full disk
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise OSError(errno.EIO, f"{path}: {error}") from error
    finally:
        file.close()


class Snapshot:
    """Copies of tensors in host memory. The buffers are kept from one checkpoint to the next: fresh memory costs more than the copy."""

    def __init__(self) -> None:
        self._buffers: list[torch.Tensor] = []
        self._used = 0

    def begin(self) -> None:
        """All buffers are free again: the last checkpoint is written."""
        self._used = 0

    def copy(self, state: Any) -> Any:
        """The state with every tensor replaced by its copy; tensors that share memory share their copy."""
        return self._copy(state, {})

    def _copy(self, item: Any, seen: dict[tuple[Any, ...], torch.Tensor]) -> Any:
        if isinstance(item, torch.Tensor):
            key = (item.data_ptr(), item.dtype, tuple(item.shape), item.stride())
            if item.numel() == 0 or key not in seen:
                seen[key] = self._host(item.detach())
            return seen[key]
        if isinstance(item, dict):
            return (
                type(item)((k, self._copy(v, seen)) for k, v in item.items())
                if type(item) is not dict
                else {k: self._copy(v, seen) for k, v in item.items()}
            )
        if type(item) in (list, tuple):
            return type(item)(self._copy(v, seen) for v in item)
        return item

    def _host(self, tensor: torch.Tensor) -> torch.Tensor:
        at = self._used
        self._used += 1
        if (
            at < len(self._buffers)
            and self._buffers[at].shape == tensor.shape
            and self._buffers[at].dtype == tensor.dtype
        ):
            buffer = self._buffers[at]
        else:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[at:] = [buffer]
        return buffer.copy_(tensor, non_blocking=tensor.is_cuda)


class CheckpointWriter(CheckpointEngine):
    """DeepSpeed hands its state dictionaries to `save`; `start` sends them to the disk, `outcome` says how that went.

    Args:
        asynchronous: copy to host memory and write in a thread; else write at once.
    """

    def __init__(self, *, asynchronous: bool) -> None:
        super().__init__()
        self.name = "CheckpointWriter"
        self._asynchronous, self._snapshot = asynchronous, Snapshot()
        self._queue: list[tuple[Any, Path]] = []
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None
        self.seconds = 0.0

    def create(self, info: CheckpointCommitInfo) -> None:
        """A new checkpoint begins; the last one must be written."""
        assert self._thread is None, "the last checkpoint is still being written"
        self._queue.clear()
        self._snapshot.begin()

    def save(self, state_dict: Any, path: str) -> None:
        """Takes one file's content. The tensors may change as soon as this returns."""
        self._queue.append(
            (self._snapshot.copy(state_dict) if self._asynchronous else state_dict, Path(path))
        )

    def start(self, done: Callable[[dict[str, dict[str, Any]]], None]) -> None:
        """Writes what was saved; calls `done` with {file name: size and digest} when all of it is durable."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()

        def work() -> None:
            began = time.monotonic()
            try:
                files = {}
                for state, path in self._queue:
                    files[path.name] = write_file(state, path)
                if self._queue:
                    fsync_dir(self._queue[0][1].parent)
                done(files)
            except OSError as error:
                self._failure = error
            self.seconds = time.monotonic() - began

        if self._asynchronous:
            self._thread = threading.Thread(target=work, name="checkpoint")
            self._thread.start()
        else:
            work()

    @property
    def busy(self) -> bool:
        """Whether a write is under way."""
        return self._thread is not None and self._thread.is_alive()

    def finish(self) -> StorageError | None:
        """Waits for the write. The error to be raised where it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._queue.clear()
        failure, self._failure = self._failure, None
        if failure is None:
            return None
        full = failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return StorageError(
            f"the checkpoint cannot be written: {'the disk (or the quota) is full' if full else failure}",
            hint="the checkpoint before it is untouched; make room and run the same command again",
        )

    def load(self, path: str, map_location: Any = None) -> Any:
        """Reads a file of a checkpoint that passed its manifest's check."""
        with plain_data_only():
            return torch.load(path, map_location=map_location, weights_only=True)

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """Publishing is the keeper's matter (checkpoints.py)."""
        return True
