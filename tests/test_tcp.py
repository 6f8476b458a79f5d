"""What our connections tell TCP."""

import socket
from pathlib import Path

import pytest

from agent import tcp
from agent.link import BrokerSettings, Down, Happening, Link
from tests.syncing import mosquitto, until


def test_a_connection_gives_up_what_is_dead_and_sends_small_packets_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as made:
        tcp.suit(made)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == tcp.GIVEN_UP_MS


def test_the_best_congestion_control_that_is_allowed_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "CONGESTION", ("no-such", "reno", "cubic"))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as made:
        tcp.suit(made)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"reno"


def test_a_machine_without_sockets_to_spare_is_told_as_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """paho wants a pair of sockets on the loopback device, which may be down."""
    from paho.mqtt import client

    def refuse() -> None:
        raise OSError(99, "Cannot assign requested address")

    heard: list[Happening] = []
    with mosquitto(tmp_path) as broker:
        link = Link(BrokerSettings(url=broker.url), "box", heard.append, filters=["a"])
        monkeypatch.setattr(client, "_socketpair_compat", refuse)
        link.connect()
        until(lambda: bool(heard), "the attempt is told")
        link.close()
    assert isinstance(heard[0], Down)
    assert "Cannot assign" in heard[0].reason
