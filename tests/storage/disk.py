"""Everything that this process does to the files below a folder, seen call by call; a call can be made to fail.

Python's own writers are seen one by one (`os`, `open`, `FileIO`). What a library writes in C is seen when it is next looked at: the
content of all files is compared before each call.
"""

from __future__ import annotations

import builtins
import io
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from undo_hpc.storage import atomic, hashing

ONE_PATH = ("mkdir", "unlink", "remove", "rmdir", "truncate")
TWO_PATHS = ("rename", "replace", "link")
BY_NUMBER = ("write", "pwrite", "fsync", "fdatasync", "ftruncate")


class Disk:
    """A context manager that watches a folder.

    Args:
        before: called with the name of the call and the path that it changes, before it is made; what it raises, the caller gets.
        after: the same, after it was made.
        real_fsync: False leaves fsync out: what was on the disk is a matter of the model (see powerloss).
    """

    def __init__(
        self,
        root: Path,
        *,
        before: Callable[[str, str], None] = lambda name, path: None,
        after: Callable[[str, str], None] = lambda name, path: None,
        real_fsync: bool = False,
    ) -> None:
        self.root, self._before, self._after, self._real_fsync = (
            f"{root.resolve()}",
            before,
            after,
            real_fsync,
        )
        self._lock, self._patches = threading.RLock(), ExitStack()
        self._open = io.open

    def __enter__(self) -> Self:
        for name in (*ONE_PATH, *TWO_PATHS, *BY_NUMBER):
            self._patches.enter_context(patch.object(os, name, self._seen(name, getattr(os, name))))
        for module in (io, builtins):
            self._patches.enter_context(patch.object(module, "open", self.open))
        disk, write = self, hashing.HashingFile.write

        def hashed(file: hashing.HashingFile, data: Any) -> int:
            return disk.call("write", str(file.path), lambda: write(file, data))

        self._patches.enter_context(patch.object(hashing.HashingFile, "write", hashed))
        exchange = atomic._exchange

        def exchanged(one: Path, other: Path) -> bool:
            return bool(disk.call("exchange", str(other), lambda: exchange(one, other)))

        self._patches.enter_context(patch.object(atomic, "_exchange", exchanged))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patches.close()

    def call(self, name: str, path: str, make: Callable[[], Any]) -> Any:
        """Makes a call that changes a file, if it lies below our folder, with what is to happen before and after."""
        if not path.startswith(self.root):
            return make()
        with self._lock:
            self._before(name, path)
            done = make()
            self._after(name, path)
            return done

    def _seen(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*args: Any, **named: Any) -> Any:
            path = self._path(name, args, named)
            if name in ("fsync", "fdatasync") and not self._real_fsync and path.startswith(self.root):
                return self.call(name, path, lambda: None)
            return self.call(name, path, lambda: plain(*args, **named))

        return seen

    @staticmethod
    def _path(name: str, args: tuple[Any, ...], named: dict[str, Any]) -> str:
        """The path that a call changes; of two, the new name."""
        what = args[1] if name in TWO_PATHS else args[0]
        if isinstance(what, int):
            return os.readlink(f"/proc/self/fd/{what}").removesuffix(" (deleted)")
        if named.get("dir_fd") is not None:
            return os.path.join(os.readlink(f"/proc/self/fd/{named['dir_fd']}"), os.fspath(what))
        return os.path.abspath(os.fspath(what))

    def open(self, file: Any, mode: str = "r", buffering: int = -1, *args: Any, **named: Any) -> Any:
        """As `open`; a file that is written is one whose writes are seen."""
        writes = not isinstance(file, int) and set(mode) & set("wax+")
        if not writes or not os.path.abspath(os.fspath(file)).startswith(self.root):
            return self._open(file, mode, buffering, *args, **named)
        path = os.path.abspath(os.fspath(file))
        raw = self.call("open", path, lambda: _Seen(self, path, mode.replace("b", "").replace("t", "")))
        if buffering == 0:
            return raw
        both = io.BufferedRandom if "+" in mode else io.BufferedWriter
        buffered = both(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *args, **named)


class _Seen(io.FileIO):
    def __init__(self, disk: Disk, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self._disk, self._path = disk, path

    def write(self, data: Any) -> int:
        return int(self._disk.call("write", self._path, lambda: super(_Seen, self).write(data)))

    def truncate(self, size: int | None = None) -> int:
        return int(self._disk.call("truncate", self._path, lambda: super(_Seen, self).truncate(size)))
