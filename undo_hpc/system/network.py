"""How other machines reach this one: by name and by number."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path


def host_name(env: Mapping[str, str] = os.environ) -> str:
    """This node's name in SLURM, which is the one of the cluster's network; its own where SLURM's is no name of a host (NodeAddr)."""
    for name in filter(None, (env.get("SLURMD_NODENAME"), socket.gethostname())):
        with contextlib.suppress(OSError):
            socket.getaddrinfo(name, None)
            return name
    return socket.gethostname()


def named_address(name: str) -> str:
    """The address that a name stands for; empty where it has none, or one that only this machine reaches."""
    with contextlib.suppress(OSError):
        address = socket.gethostbyname(name)
        return "" if address.startswith("127.") else address
    return ""


def routed_address() -> str:
    """The address from which this machine reaches other networks; that of the loopback where there is no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address: no packet is sent, only a route chosen
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS = "0A"


def listeners(address: str, port: int) -> set[int]:
    """The ids of the users whose programs listen at an IPv4 address of this machine; none where nobody does, or the kernel does not say.

    Source: proc(5), /proc/net/tcp: addresses as the machine holds them, in hexadecimal.
    """
    number = int.from_bytes(socket.inet_aton(address), sys.byteorder)
    found = set()
    for table in _TABLES:
        with contextlib.suppress(OSError):
            for line in table.read_text(encoding="utf-8").splitlines()[1:]:
                _, local, _, state, _, _, _, user, *_ = line.split()
                at, _, its_port = local.partition(":")
                if state == _LISTENS and int(its_port, 16) == port and int(at[-8:], 16) in (0, number):
                    found.add(int(user))
    return found
