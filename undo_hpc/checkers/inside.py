"""Run inside of the sandbox's process: gives rights away, then becomes the program (`start.py`). Standard library only.

`python -I inside.py SECONDS MEGABYTES FOLDER DESCRIPTOR PROGRAM TESTS`. Says on that descriptor that it has started, the word by which
tests that have passed are known, and what could be taken away: 'network', 'files', 'processes', and 'threads' where it can start none.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import os
import platform
import resource
import signal
import sys
from collections.abc import Iterator

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)  # unshare(2)
_NO_NEW_PRIVS, _DEATH_SIGNAL, _SECCOMP, _FILTER = 38, 1, 22, 2  # prctl(2)
_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the system calls of landlock(7), the same on all architectures
_MOUNT_SETATTR = 442  # this, too
# From here all architectures have one number for a call. To the program the kernel is one of before io_uring(7), which opens sockets,
# memfd_secret(2), and what is still to come; C libraries do without. (The same calls by other numbers, x32, are above it, too.)
_NEWER = 425
_WRITES, _WRITE_FILE = (
    0x1FF2,
    2,
)  # every right of landlock's first version but to execute, to read files and to list folders
_BIND, _PRIVATE, _RECURSIVE, _HARMLESS = (
    0x1000,
    0x40000,
    0x4000,
    0xE,
)  # mount(2); no set-user-id, no devices, no programs
_NOBODY = 65534
_NO_DEVICES, _BOUNDS = 0x6, b"size=64m,nr_inodes=10000,mode=0700"  # of the folder in memory
_HERE, _ALL_BELOW, _READ_ONLY = -100, 0x8000, 1  # mount_setattr(2)
_MOST = 64  # threads, with the processes around them: a ThreadPoolExecutor takes up to 32
_CALLS = {
    "x86_64": (0xC000003E, 53, 248, 56, (41, 29, 64, 68, 319, 57, 58)),
    "aarch64": (0xC00000B7, 199, 217, 220, (198, 194, 190, 186, 279)),
}  # audit.h: architecture; socketpair(2), add_key(2) with request_key(2) and keyctl(2) behind it; clone(2), which starts threads alone;
# refused are socket(2), memory beside a process's own, which its limit does not count, shmget(2), semget(2), msgget(2), memfd_create(2),
# and child processes, each of which has the whole of all limits, fork(2), vfork(2)
_THREAD = 0x10000  # CLONE_THREAD


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class _Below(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


class _Mount(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "users"))


class _Step(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("yes", ctypes.c_uint8),
        ("no", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Steps(ctypes.Structure):
    _fields_ = (("number", ctypes.c_uint16), ("first", ctypes.POINTER(_Step)))


def limit(seconds: int, megabytes: int, most: int) -> None:
    """Bounds on time, memory, files and threads."""
    for what, bound in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, megabytes << 20),
        (resource.RLIMIT_FSIZE, 16 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, most),  # root is exempt: memory bounds its threads
    ):
        with contextlib.suppress(ValueError, OSError):  # below a limit that is there already
            # the kernel kills at the hard limit of time, and says why at the soft one
            resource.setrlimit(what, (bound, bound + (what == resource.RLIMIT_CPU)))


def _alone() -> bool:
    """Whether no thread can be started: where the limit is none, root (not that of a container) is exempt."""
    try:
        _thread.start_new_thread(int, ())
    except RuntimeError:
        return True
    return False


def apart(libc: ctypes.CDLL, folder: str, files: list[str]) -> tuple[set[str], int]:
    """Goes on in a process of a world of its own, where the system allows that (user namespaces): a network with no way out, no other
    process to be seen or ended, all files for reading only but those below the folder. What was taken, and how many threads can be
    allowed: none where they would be counted with all other processes of this user.

    What landlock leaves open is closed here: to shorten a file, to change its mode, to send signals to processes of the same user.
    """
    own, user, group = _NEWNET | _NEWPID | _NEWNS | _NEWIPC, os.geteuid(), os.getegid()
    named = libc.unshare(_NEWUSER | own) == 0
    if not named and libc.unshare(own):
        alone = libc.unshare(_NEWUSER | _NEWNET) == 0 or libc.unshare(_NEWNET) == 0
        return {"network"} if alone else set(), 0
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_NOBODY} {user} 1"),
        ("gid_map", f"{_NOBODY} {group} 1"),
    ):  # a file system of its own takes no files of a user that this world does not know (and root would stay its root). Refused
        # where no such world was made
        with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 -- pathlib would be loaded for each program
            file.write(text)
    _follow(
        libc
    )  # the first process of that world: with it all others end, and no signal from there reaches it
    closed = _only_below(libc, folder, files)
    os.chdir(folder)  # as it is mounted now
    _follow(libc)
    taken = {"network", "processes"} | ({"files"} if closed else set())
    return taken, _MOST if named and _counts_by_namespace() else 0


def _counts_by_namespace() -> bool:
    """Since Linux 5.14 a user's processes are counted in each user namespace."""
    with contextlib.suppress(ValueError):
        major, minor = platform.release().split(".")[:2]
        return (int(major), int(minor)) >= (5, 14)
    return False


def _follow(libc: ctypes.CDLL) -> None:
    """Goes on as a child. The parent waits for it and ends as it did: by the same signal, or where it may not, with 128 and its number."""
    if child := os.fork():
        while True:
            number, status = os.wait()
            if number == child:
                break
        code = os.waitstatus_to_exitcode(status)
        if code > 128 or code < 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            number = -code if code < 0 else code - 128
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
            with contextlib.suppress(OSError):
                os.kill(os.getpid(), number)
        os._exit(code if code >= 0 else 128 - code)
    libc.prctl(_DEATH_SIGNAL, 9)


def _only_below(libc: ctypes.CDLL, folder: str, files: list[str]) -> bool:
    """In a mount namespace of its own: files are read only but below the folder (Linux 5.12 and later), which is in memory and bounded,
    where the system allows that: a program could fill the disk of a node."""
    place, texts = os.fsencode(folder), {}
    for name in files:
        with open(name, "rb") as file:  # noqa: PTH123
            texts[name] = file.read()
    libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None)
    libc.mount(
        b"proc", b"/proc", b"proc", _HARMLESS, None
    )  # of its own processes; containers do not allow it
    # Terminals of this user: to read one is enough to silence it, or to hold what all others write there.
    libc.mount(b"tmpfs", b"/dev/pts", b"tmpfs", _NO_DEVICES, b"size=4k")
    if libc.mount(b"tmpfs", place, b"tmpfs", _NO_DEVICES, _BOUNDS) == 0:
        for name, text in texts.items():
            with open(name, "wb") as file:  # noqa: PTH123
                file.write(text)
    elif libc.mount(place, place, None, _BIND, None):
        return False
    closed, opened = _Mount(set=_READ_ONLY), _Mount(clear=_READ_ONLY)
    size = ctypes.sizeof(_Mount)
    return not (
        libc.syscall(_MOUNT_SETATTR, _HERE, b"/", _ALL_BELOW, ctypes.byref(closed), size)
        or libc.syscall(_MOUNT_SETATTR, _HERE, place, 0, ctypes.byref(opened), size)
    )


def write_only_below(libc: ctypes.CDLL, folder: str) -> None:
    """No file is opened for writing, made or removed outside of the folder, where there is landlock (Linux 5.13 and later); and no
    process outside of this rule can be looked into."""
    rules = _Ruleset(_WRITES)
    ruleset = libc.syscall(_CREATE, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    if ruleset < 0:
        return
    for path, allowed in ((folder, _WRITES), (os.devnull, _WRITE_FILE)):
        place = _Below(allowed, os.open(path, os.O_PATH))
        if libc.syscall(_ADD, ruleset, 1, ctypes.byref(place), 0):
            return
    libc.syscall(_RESTRICT, ruleset, 0)


def without_sockets(libc: ctypes.CDLL) -> bool:
    """No sockets but connected pairs: those of files, such as a session's bus or tmux, lead to programs of this user outside. No
    keys of the kernel's rings: those of the session, among them Kerberos tickets, are the same in any namespace. No memory that
    belongs to no process, and no child processes."""
    if platform.machine() not in _CALLS or sys.byteorder != "little":
        return False
    rules = tuple(_Step(*each) for each in _filter(*_CALLS[platform.machine()]))
    program = _Steps(len(rules), (_Step * len(rules))(*rules))
    return bool(libc.prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0)


def _filter(
    machine: int, pair: int, keys: int, clone: int, refused: tuple[int, ...]
) -> Iterator[tuple[int, int, int, int]]:
    """For seccomp(2). Jumps are counted from the next step; the last three say that there is no such call, allow, and refuse (EACCES)."""
    load, equal, least, above, has, both, end = 0x20, 0x15, 0x35, 0x25, 0x45, 0x54, 0x06
    yield load, 0, 0, 4  # the architecture
    yield equal, 0, 13 + len(refused), machine
    yield load, 0, 0, 0  # the call
    yield least, 9 + len(refused), 0, _NEWER
    for left, call in zip(range(len(refused), 0, -1), refused, strict=True):
        yield equal, 10 + left, 0, call
    yield equal, 0, 2, clone
    yield load, 0, 0, 16  # its first argument: what is shared with it
    yield has, 7, 8, _THREAD
    yield least, 0, 1, keys
    yield above, 0, 6, keys + 2
    yield equal, 0, 4, pair
    yield load, 0, 0, 24  # the second argument: a pair that is no stream could be connected again
    yield both, 0, 0, 0xF
    yield equal, 1, 2, 1
    yield end, 0, 0, 0x00050026
    yield end, 0, 0, 0x7FFF0000
    yield end, 0, 0, 0x0005000D


def main() -> None:
    """Gives away what the program must not have, and becomes it."""
    seconds, megabytes, descriptor = (int(sys.argv[number]) for number in (1, 2, 4))
    folder, files = sys.argv[3], sys.argv[5:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_DEATH_SIGNAL, 9)
    taken, most = apart(libc, folder, files)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    write_only_below(libc, folder)
    if alone := without_sockets(libc):
        taken.add("network")
    limit(seconds, megabytes, most if alone else 0)
    if not most and _alone():
        taken.add("threads")
    word = os.urandom(16).hex()  # in no file, argument or variable: the program could read it there
    given, give = os.pipe()
    os.write(give, word.encode())
    os.set_inheritable(given, True)
    os.write(descriptor, (" ".join(["started", word, *sorted(taken)]) + "\n").encode())
    start = os.path.join(os.path.dirname(__file__), "start.py")  # noqa: PTH118, PTH120
    os.execv(sys.executable, [sys.executable, "-I", "-B", start, str(given), str(descriptor), *files])  # noqa: S606 -- that is what it is for


if __name__ == "__main__":
    main()
