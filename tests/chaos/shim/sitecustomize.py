"""Loaded by every Python of a disturbed job, from a folder on PYTHONPATH: names of files that show late, and clocks that are wrong and jump.

CHAOS_LATE_S: a file that somebody else made below CHAOS_ROOT is not there for this process until it is so old, as on NFS, where a
folder's listing is a cache. What a process has seen once, or has made itself, it sees. CHAOS_CLOCKS: offsets in seconds; each process
takes one, and some seconds later another. A task's own folder of this name on sys.path is loaded by Python's `site` before anything else.
"""

import builtins
import ctypes
import io
import os
import pathlib
import random
import sys
import time

_ROOT = os.environ.get("CHAOS_ROOT", "")
_LATE_S = float(os.environ.get("CHAOS_LATE_S", "0") or 0)
_CLOCKS = [float(word) for word in os.environ.get("CHAOS_CLOCKS", "").split()]
_now, _libc, _seen, _made = time.time, ctypes.CDLL(None), set(), set()


def _wrong_clock():
    began, first, second, turn = _now(), *random.choices(_CLOCKS, k=2), random.uniform(1.0, 20.0)
    time.time = lambda: _now() + (first if _now() - began < turn else second)


def _born(path):
    """When a file was made, by the file system (struct statx: stx_btime at byte 80); 0 where there is none or nobody knows."""
    room = ctypes.create_string_buffer(256)
    if _libc.statx(-100, os.fsencode(path), 0x100, 0x800, room):
        return 0.0
    return int.from_bytes(room.raw[80:88], "little") + int.from_bytes(room.raw[88:92], "little") / 1e9


def _hidden(path):
    if isinstance(path, int):
        return False
    name = os.path.abspath(os.fsdecode(path))
    if not name.startswith(_ROOT) or name in _seen or name.endswith(".log"):
        return False
    if any(str(parent) in _made for parent in pathlib.PurePath(name).parents):
        return False
    if _now() - _born(name) < _LATE_S:
        return True
    _seen.add(name)
    return False


def _reads(real):
    """A call whose first argument is a path that is read."""

    def call(path, *args, **kwargs):
        if _hidden(path):
            raise FileNotFoundError(2, os.strerror(2), os.fsdecode(path))
        return real(path, *args, **kwargs)

    return call


def _makes(real):
    """A call whose second argument is a path that this process makes, with all that lies in it."""

    def call(source, target, *args, **kwargs):
        done = real(source, target, *args, **kwargs)
        _made.add(os.path.abspath(os.fsdecode(target)))
        _seen.add(os.path.abspath(os.fsdecode(target)))
        return done

    return call


def _makes_folder(real):
    def call(path, *args, **kwargs):
        try:
            real(path, *args, **kwargs)
            _made.add(os.path.abspath(os.fsdecode(path)))
        finally:
            _seen.add(os.path.abspath(os.fsdecode(path)))

    return call


def _opens(real, writes):
    reads = _reads(real)

    def call(path, how="r", *args, **kwargs):
        if not isinstance(path, int) and writes(how):
            _seen.add(os.path.abspath(os.fsdecode(path)))
        return reads(path, how, *args, **kwargs)

    return call


def _lists(real):
    def call(path="."):
        return [name for name in real(path) if isinstance(path, int) or not _hidden(os.path.join(path, name))]

    return call


class _Libraries(ctypes.CDLL):
    """Without the exchange of two names, which NFS has not; a process sees what it renames itself."""

    def __getattr__(self, name):
        if name == "renameat2":
            raise AttributeError(name)
        return super().__getattr__(name)


class _Scan:
    """os.scandir without what shows late."""

    _real = staticmethod(os.scandir)

    def __init__(self, path="."):
        self._entries = self._real(path)

    def __iter__(self):
        return self

    def __next__(self):
        entry = next(self._entries)
        return next(self) if _hidden(entry.path) else entry

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        self._entries.close()


def _late_names():
    os.stat, os.lstat, os.listdir, os.scandir = _reads(os.stat), _reads(os.lstat), _lists(os.listdir), _Scan
    os.rename, os.replace, os.link = _makes(os.rename), _makes(os.replace), _makes(os.link)
    os.mkdir = _makes_folder(os.mkdir)
    ctypes.CDLL = _Libraries
    os.open = _opens(os.open, lambda flags: isinstance(flags, int) and flags & os.O_CREAT)
    io.open = builtins.open = _opens(io.open, lambda mode: any(letter in mode for letter in "wxa"))


_words = " ".join(sys.orig_argv)
if _ROOT and any(word in _words for word in ("undo_hpc", "run_iteration")):
    if (
        _LATE_S and "undo_hpc.training" not in _words
    ):  # a rank reads what its worker, on the same node, has seen or written
        _late_names()
    if _CLOCKS:
        _wrong_clock()
