"""Where the processes of one vLLM on a node meet: they send each other pickled objects."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from itertools import chain
from pathlib import Path

from undo_hpc.system.own_places import temporary_folders
from undo_hpc.system.ownership import others_can_replace

SOCKETS = "VLLM_RPC_BASE_PATH"  # vLLM's variable for that folder
_LONGEST_PLACE = 50  # characters; the path of a socket has 107 at most, of which vLLM's name takes 36


@cache
def socket_folder(of: int) -> str:
    """Where the processes of one vLLM meet, for our eyes alone, until process `of`, this one, ends. In the temporary folder, where vLLM makes
    its sockets by itself, a umask of 002 would let the members of our group in. In another where a socket's path would be too long there,
    or others can rename it; empty where there is none."""
    given = Path(tempfile.gettempdir())
    places = map(str, chain([given] * (not others_can_replace(given)), temporary_folders(), [given]))
    place = next((place for place in places if len(place) <= _LONGEST_PLACE), "")
    if not place:
        return ""
    folder = tempfile.mkdtemp(prefix="undo-vllm-", dir=place)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
