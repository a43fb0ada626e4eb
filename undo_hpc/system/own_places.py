"""Where this process, and those that it starts, keep temporary files and code that is run again: nowhere that another user can put something
of theirs under a name of ours, whatever a site has set for all of its users."""

from __future__ import annotations

import contextlib
import getpass
import os
import stat
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from undo_hpc.system.ownership import EVERYBODY, is_trusted, others_can_replace, others_own

_OURS = Path(".cache", "undo-hpc")
_BYTECODE = "PYTHONPYCACHEPREFIX"
_COMPILER = "TORCHINDUCTOR_CACHE_DIR"
# Caches from which libraries run what they find, and the folder below that of all caches (XDG_CACHE_HOME) where they lie by default. None: in the
# user's home, or none at all.
CODE_CACHES = {
    _COMPILER: None,  # `_compiler_folder`
    "CUTE_DSL_CACHE_DIR": None,  # inside it, as the next two
    "QUACK_CACHE_DIR": None,
    "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR": None,
    "TRITON_CACHE_DIR": None,
    "TRITON_HOME": None,
    "FLASHINFER_WORKSPACE_BASE": None,
    "TILELANG_CACHE_DIR": None,
    "DG_JIT_CACHE_DIR": None,
    "CUDA_CACHE_PATH": None,
    "NUMBA_CACHE_DIR": None,
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "VLLM_CACHE_ROOT": "vllm",
    "HF_MODULES_CACHE": "huggingface/modules",
    "KERNELS_CACHE": "huggingface/hub",  # kernels for attention are fetched as models are, and imported
}
# By default in /tmp/USER, where another user may be first (cutlass/base_dsl/cache_helpers.py, torch/_vendor/quack/cache/jit.py).
IN_COMPILERS = {
    "CUTE_DSL_CACHE_DIR": "cute_dsl",
    "QUACK_CACHE_DIR": "quack",
    "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR": "flash_attention",
}
_OF_THE_HUB = {"HF_MODULES_CACHE": "modules", "KERNELS_CACHE": "hub"}  # and the folder below HF_HOME


def use_own_places() -> None:
    """For this process and those that it starts. An empty entry of a list of folders, as `export PYTHONPATH=$PYTHONPATH:/site` makes one, is
    the working folder, for Python also with `-P`: there another user may have put a torch.py, a library or a program. And bytecode is code."""
    if (place := os.environ.get(_BYTECODE)) and not is_trusted(EVERYBODY) and not is_own(Path(place)):
        del os.environ[_BYTECODE]
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "PATH"):
        if value := os.environ.get(name):
            os.environ[name] = os.pathsep.join(filter(None, value.split(os.pathsep)))
    leave_shared_temporary_folder()
    place = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    if not (place and is_own(Path(place))) and not is_trusted(EVERYBODY):
        # none: by default vocabularies are taken from TMPDIR/data-gym-cache, whoever made that, by the names of their files alone
        os.environ["TIKTOKEN_CACHE_DIR"] = ""


def leave_shared_temporary_folder() -> None:
    """Goes from a temporary folder (TMPDIR on a scratch disk) where other users can rename what we make to one where they cannot, the
    processes that we start too: a link in place of a folder of ours would have others of our files removed, and sockets of theirs be
    believed. Stays where there is none."""
    with contextlib.suppress(OSError):
        if others_can_replace(Path(tempfile.gettempdir())):
            for place in temporary_folders():
                os.environ["TMPDIR"] = tempfile.tempdir = str(place)
                break


def temporary_folders() -> Iterator[Path]:
    """Where no other user can rename what we make, apart from what TMPDIR says. Raises OSError."""
    for place in (Path("/tmp"), Path("/var/tmp")):  # noqa: S108 -- looked at
        with contextlib.suppress(OSError):
            if os.access(place, os.W_OK | os.X_OK) and not others_can_replace(place):
                yield place
    if home := place_at_home():
        home.mkdir(0o700, parents=True, exist_ok=True)
        yield home


def code_caches() -> dict[str, str]:
    """For the environment of processes that load torch: caches of code in the user's own place, where those that they would use, by default or
    by what a site has set, are another user's or for everybody."""
    if is_trusted(EVERYBODY):
        return {}
    above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    found = {}
    for variable, below in CODE_CACHES.items():
        place = os.environ.get(variable)
        if not place and variable in _OF_THE_HUB:
            inside = os.environ.get("HF_HUB_CACHE") if variable == "KERNELS_CACHE" else None
            home = os.environ.get("HF_HOME")
            place = inside or (str(Path(home, _OF_THE_HUB[variable])) if home else None)
        if not place and variable == _COMPILER:
            place = _compiler_folder()
        elif below and not place:
            place = str(Path(above, below))
        elif not place and variable not in IN_COMPILERS and _home_is_for_everybody():
            place = "~"  # somewhere below it
        # as libraries do: `~` stays where nobody knows a home
        if place and not is_own(Path(os.path.expanduser(place))):  # noqa: PTH111
            found[variable] = str((place_at_home() or _new_home() / _OURS) / variable.lower())
    compiler = found.get(_COMPILER) or os.environ.get(_COMPILER) or _compiler_folder()
    unset = [name for name in IN_COMPILERS if compiler and not os.environ.get(name)]
    return found | {name: str(Path(compiler, IN_COMPILERS[name])) for name in unset}


def _compiler_folder() -> str:
    """Where torch's compiler keeps its code: under a known name in the temporary folder, where another user may be first
    (torch/_inductor/runtime/cache_dir_utils.py)."""
    with contextlib.suppress(KeyError, OSError):
        return str(Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}")
    return ""


def is_own(place: Path) -> bool:
    """Whether nobody else has put, or can put, this folder there, or something into it. Where everybody could make it, it is made."""
    with contextlib.suppress(OSError):
        at = place.absolute()
        while not at.exists():
            at = at.parent
        if at.stat().st_mode & stat.S_IWOTH and not place.exists():
            place.mkdir(0o700, parents=True)
            at = place
        return not (others_can_replace(at) or others_own(at))
    return False


def place_at_home() -> Path | None:
    """Our folder in the user's home: beside all caches where the group can write there (umask 002). None for a user without a name and without
    HOME, as in a container, or where others can put theirs there."""
    with contextlib.suppress(RuntimeError):
        home = Path.home()
        for place in (home / _OURS, home / ".undo-hpc") if os.access(home, os.W_OK) else ():
            if is_own(place):
                with contextlib.suppress(
                    OSError
                ):  # whatever the umask: the group's in the next start otherwise
                    place.mkdir(0o700, parents=True, exist_ok=True)
                return place
    return None


def _home_is_for_everybody() -> bool:
    """As that of a service or in a container may be (`/tmp`): there another user may have made ~/.triton."""
    with contextlib.suppress(RuntimeError, OSError):
        return bool(Path.home().stat().st_mode & stat.S_IWOTH)
    return False


@cache
def _new_home() -> Path:
    return Path(tempfile.mkdtemp(prefix="undo-home-"))
