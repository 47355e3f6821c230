"""The tests' remedy for kafka-python's forgotten sockets works: without it, a warning fails whichever test runs next."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError
from kafka.net.inet import KafkaNetSocket
from kafka.net.selector import NetworkSelector

from workers.local.embedded import free_port

LOCAL = "127.0.0.1"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """The sockets that kafka-python made, all closed at the end."""
    sockets: list[socket.socket] = []
    make = KafkaNetSocket.socket

    def keeping(*arguments: Any) -> socket.socket:
        sockets.append(make(*arguments))
        return sockets[-1]

    monkeypatch.setattr(KafkaNetSocket, "socket", keeping)
    yield sockets
    for each in sockets:
        each.close()


@pytest.fixture
def net() -> Iterator[NetworkSelector]:
    """The event loop of a client."""
    running = NetworkSelector()
    yield running
    running.close()


def connecting(net: NetworkSelector, port: int) -> Any:
    return KafkaNetSocket().connect(net, (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (LOCAL, port)))


def test_a_connection_that_the_end_of_its_client_overtakes_is_closed(made: list[socket.socket], net: NetworkSelector) -> None:
    with socket.create_server((LOCAL, 0)) as server:
        net.call_soon(connecting(net, server.getsockname()[1]))
        net._poll_once(0)
        assert made[0].fileno() >= 0
        net.close()
    assert [each.fileno() for each in made] == [-1]


def test_a_connection_that_is_refused_is_closed(made: list[socket.socket], net: NetworkSelector) -> None:
    with pytest.raises(KafkaConnectionError):
        net.run(connecting(net, free_port()))
    assert [each.fileno() for each in made] == [-1]
