"""How other machines reach this one: names that do not resolve and addresses that only this machine reaches are passed by."""

import os
import socket
import sys
from pathlib import Path

import pytest

from undo_hpc.system import network


def test_the_name_of_slurm_is_taken_where_it_is_that_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"n1": "10.1.2.3", "me": "10.1.2.4"}

    def look(name: str, port: None) -> list[object]:
        if name not in known:
            raise socket.gaierror("unknown")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look)
    monkeypatch.setattr(socket, "gethostname", lambda: "me")
    assert network.host_name({"SLURMD_NODENAME": "n1"}) == "n1"
    assert network.host_name({"SLURMD_NODENAME": "rack3-n1"}) == "me"
    assert network.host_name({}) == "me"


def test_an_address_that_only_this_machine_reaches_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    assert network.named_address("me") == ""
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "10.1.2.3")
    assert network.named_address("me") == "10.1.2.3"


def test_the_address_of_the_route_is_a_number() -> None:
    assert socket.inet_aton(network.routed_address())


def test_who_listens_at_an_address_is_known() -> None:
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        port = here.getsockname()[1]
        assert network.listeners("127.0.0.1", port) == set(), "bound, and does not listen yet"
        here.listen()
        assert network.listeners("127.0.0.1", port) == {os.geteuid()}


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is one of a little-endian machine")
def test_listeners_of_other_users_and_on_all_addresses_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(local: str, state: str, user: int) -> str:
        return (
            f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {user:>5} 0 77 1\n"
        )

    one, six = tmp_path / "tcp", tmp_path / "tcp6"
    one.write_text(
        "  sl  local_address rem_address   st\n"
        + row("0100007F:1F90", "0A", 1001)
        + row("0203A8C0:1F90", "0A", 1002)
        + row("0100007F:1F90", "01", 1003)
        + row("0100007F:1F91", "0A", 1004)
    )
    six.write_text("head\n" + row(f"{'0' * 32}:1F90", "0A", 1005))
    monkeypatch.setattr(network, "_TABLES", (one, six, tmp_path / "none"))
    assert network.listeners("127.0.0.1", 8080) == {1001, 1005}
    assert network.listeners("192.168.3.2", 8080) == {1002, 1005}
