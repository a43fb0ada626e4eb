"""How other machines reach this one: by name and by number."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


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
