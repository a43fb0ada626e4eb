"""How other machines reach this one: names that do not resolve and addresses that only this machine reaches are passed by."""

import socket

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
