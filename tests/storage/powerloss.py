"""What a power loss leaves of a folder: a model of a file system, cut at every call that the real code makes.

A recording knows of each file what was written and what was made durable (fsync), and of each folder its names and those that were
made durable (fsync of the folder). From every cut the folder is built as different file systems would leave it:

kill: the process died, the system lives: everything is there.
strict: what POSIX promises: only contents and names that were made durable.
cut, zeroed, half: a journal that has the names ahead of the data: all names; of the contents that were not durable, nothing, zeros of
    the same length, or the first half.
mixed: of each folder the changes up to some moment since its last fsync, of each file its content before, after or in between.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests import figures
from tests.storage.disk import Disk

WAYS = ("kill", "strict", "cut", "zeroed", "half", "mixed-0", "mixed-1")
Entries = dict[str, int]


@dataclass(frozen=True)
class File:
    """A file: its content, and what of it was made durable."""

    content: bytes
    durable: bytes = b""


@dataclass(frozen=True)
class Folder:
    """A folder: its names as they were since its last fsync, the durable ones first, those of now last."""

    history: tuple[Entries, ...]


Node = File | Folder


@dataclass(frozen=True)
class Cut:
    """A moment between two calls.

    Attributes:
        number: calls before it.
        last: the last of them, and the name it changed.
        acknowledged: what the code had said to be durable by then.
    """

    number: int
    last: str
    nodes: dict[int, Node]
    acknowledged: tuple[str, ...]

    def build(self, way: str, target: Path) -> None:
        """The folder as that way leaves it."""
        target.mkdir(parents=True)
        self._folder(0, way, random.Random(f"{self.number}/{way}"), target)

    def _folder(self, node: int, way: str, rng: random.Random, target: Path) -> None:
        found = self.nodes[node]
        assert isinstance(found, Folder)
        history = found.history
        names = history[0] if way == "strict" else history[-1]
        if way.startswith("mixed"):
            names = rng.choice(history)
        for name, child in names.items():
            item = self.nodes[child]
            if isinstance(item, Folder):
                (target / name).mkdir()
                self._folder(child, way, rng, target / name)
            else:
                (target / name).write_bytes(_content(item, way, rng))


def _content(file: File, way: str, rng: random.Random) -> bytes:
    new, old = file.content, file.durable
    if way == "kill" or new == old:
        return new
    if way.startswith("mixed"):
        way = rng.choice(("kill", "strict", "half", "zeroed"))
        return _content(file, way, rng)
    if way in ("strict", "cut"):
        return old
    kept = len(old) if new.startswith(old) else 0  # an append leaves what was there before
    rest = len(new) - kept
    return new[:kept] + (bytes(rest) if way == "zeroed" else new[kept : kept + rest // 2])


@dataclass
class Recording:
    """Records what is done below a folder, as a context manager; afterwards `cuts` holds every moment.

    What is there at the beginning counts as durable.
    """

    root: Path
    cuts: list[Cut] = field(default_factory=list)
    _nodes: dict[int, Node] = field(default_factory=dict)
    _known: dict[tuple[int, int], int] = field(default_factory=dict)  # (device, inode) -> node
    _seen: dict[int, tuple[int, int]] = field(default_factory=dict)  # node -> time of change and size
    _acknowledged: list[str] = field(default_factory=list)

    def __enter__(self) -> Recording:
        self._look()
        for node, item in list(self._nodes.items()):
            if isinstance(item, File):
                self._nodes[node] = File(item.content, item.content)
            else:
                self._nodes[node] = Folder(item.history[-1:])
        self._note("nothing", "")
        self._disk = Disk(self.root, before=self._before, after=self._after)
        self._disk.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._disk.__exit__(None, None, None)
        self._before("the end", "")

    def acknowledge(self, what: str) -> None:
        """The code has said that this is durable: from here on it must be found."""
        self._acknowledged.append(what)
        self.cuts[-1] = Cut(
            self.cuts[-1].number, self.cuts[-1].last, self.cuts[-1].nodes, tuple(self._acknowledged)
        )

    def _note(self, name: str, path: str) -> None:
        last = f"{name} {os.path.relpath(path, self.root) if path else ''}".strip()
        told = len(self.cuts) > 1 and self.cuts[-1].acknowledged != self.cuts[-2].acknowledged
        if name == "write" and self.cuts[-1].last == last and not told:
            self.cuts.pop()  # one write in many pieces: how a file is torn is a matter of the ways
        self.cuts.append(
            Cut(
                self.cuts[-1].number + 1 if self.cuts else 0,
                last,
                dict(self._nodes),
                tuple(self._acknowledged),
            )
        )

    def _before(self, name: str, path: str) -> None:
        if self._look():  # written by what we do not see call by call
            self._note("write before", path)

    def _after(self, name: str, path: str) -> None:
        self._look()
        if name in ("fsync", "fdatasync"):
            self._make_durable(path)
        self._note(name, path)

    def _make_durable(self, path: str) -> None:
        found = os.stat(path)
        node = self._known[found.st_dev, found.st_ino]
        item = self._nodes[node]
        if isinstance(item, File):
            self._nodes[node] = File(item.content, item.content)
        else:
            self._nodes[node] = Folder(item.history[-1:])

    def _look(self) -> bool:
        """Compares the folder with what we know of it; whether anything is new."""
        before = dict(self._nodes)
        alive: set[tuple[int, int]] = set()
        self._scan(str(self.root), alive, root=True)
        for key in self._known.keys() - alive:  # its number may be given again, to another file
            del self._known[key]
        return before != self._nodes

    def _scan(self, path: str, alive: set[tuple[int, int]], *, root: bool = False) -> int:
        status = os.lstat(path)
        key = (status.st_dev, status.st_ino)
        alive.add(key)
        node = self._known.setdefault(key, 0 if root else len(self._nodes))
        if os.path.isdir(path):
            self._nodes.setdefault(node, Folder(({},)))
            names = {
                entry: self._scan(os.path.join(path, entry), alive) for entry in sorted(os.listdir(path))
            }
            item = self._nodes[node]
            assert isinstance(item, Folder)
            if item.history[-1] != names:
                self._nodes[node] = Folder((*item.history, names))
            return node
        stamp = (status.st_mtime_ns, status.st_size)
        if self._seen.get(node) != stamp or node not in self._nodes:
            fd = os.open(path, os.O_RDONLY)
            try:
                content = os.read(fd, status.st_size + 1)
            finally:
                os.close(fd)
            old = self._nodes.get(node)
            self._nodes[node] = File(content, old.durable if isinstance(old, File) else b"")
            self._seen[node] = stamp
        return node


def states(
    recording: Recording, place: Path, ways: tuple[str, ...] = WAYS
) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """Each different folder that a power loss can leave, once: in words, the folder (removed afterwards), what was acknowledged."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else place.parent) as folder:
        yield from _states(recording, Path(folder), ways)


def _states(
    recording: Recording, place: Path, ways: tuple[str, ...]
) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    known: set[str] = set()
    for cut in recording.cuts:
        for way in ways:
            target = place / "state"
            cut.build(way, target)
            digest = hashlib.sha256(repr(cut.acknowledged).encode())
            for parent, folders, names in os.walk(target):
                folders.sort()
                for name in sorted([*names, *folders]):
                    digest.update(f"{os.path.relpath(parent, target)}/{name}\0".encode())
                for name in sorted(names):
                    digest.update(hashlib.sha256(Path(parent, name).read_bytes()).digest())
            if digest.hexdigest() not in known:
                known.add(digest.hexdigest())
                yield f"cut {cut.number} ({cut.last}), {way}", target, cut.acknowledged
            shutil.rmtree(target)


def check_all(
    recording: Recording,
    place: Path,
    check: Callable[[Path, tuple[str, ...]], None],
    ways: tuple[str, ...] = WAYS,
) -> int:
    """Opens every state with `check`; returns their number. Raises AssertionError that names the first bad ones."""
    count = 0
    bad: list[str] = []
    for words, folder, acknowledged in states(recording, place, ways):
        count += 1
        try:
            with Disk(folder):  # what is done after the power loss need not last
                check(folder, acknowledged)
        except AssertionError as error:
            bad.append(f"{words}: {str(error).splitlines()[0] if str(error) else repr(error)}")
        except Exception as error:  # noqa: BLE001 (whatever the code under test raises is its fault)
            bad.append(f"{words}: {type(error).__name__}: {error}")
    assert not bad, f"{len(bad)} of {count} states are wrong:\n" + "\n".join(bad[:12])
    figures.count("power loss, all states right", cuts=len(recording.cuts), states=count)
    return count
