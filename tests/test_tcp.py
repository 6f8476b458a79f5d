"""What our connections tell TCP."""

import shlex
import socket
import subprocess
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


@pytest.mark.parametrize(
    ("available", "before", "after"),
    [
        ("reno cubic hybla bbr", "reno cubic", "reno cubic hybla bbr"),
        ("reno cubic hybla bbr vegas", "reno cubic bbr vegas", "reno cubic bbr vegas hybla"),
        ("reno cubic hybla bbr", "reno cubic bbr hybla", "reno cubic bbr hybla"),
        ("reno cubic bbr", "reno bbr", "reno bbr"),
        ("reno cubic", "reno cubic", "reno cubic"),
    ],
)
def test_the_agents_unit_allows_ours_beside_what_others_use(
    tmp_path: Path, available: str, before: str, after: str
) -> None:
    unit = Path(__file__).parents[1] / "systemd/roadwitness-agent.service"
    [line] = [line for line in unit.read_text().splitlines() if "tcp_allowed_congestion_control" in line]
    program, option, script = shlex.split(line.removeprefix("ExecStartPre=-+"))
    allowed = tmp_path / "tcp_allowed_congestion_control"
    allowed.write_text(f"{before}\n")
    (tmp_path / "tcp_available_congestion_control").write_text(f"{available}\n")
    done = script.replace("$$", "$").replace("/proc/sys/net/ipv4", str(tmp_path))
    told = subprocess.run([program, option, done], capture_output=True, text=True, check=False)
    assert allowed.read_text() == f"{after}\n"
    assert not told.stderr
    assert all(name in line for name in tcp.CONGESTION)


def test_the_kernel_tells_what_is_on_the_road() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as made:
        taken, _ = server.accept()
        with taken:
            empty = tcp.road(made)
            if empty is None:
                pytest.skip("this kernel has no TCP_INFO with notsent_bytes")
            assert empty.undelivered == 0
            made.setblocking(False)
            given = 0
            while True:  # until the other end, which reads nothing, takes no more
                try:
                    given += made.send(bytes(1 << 20))
                except BlockingIOError:
                    break
            until(lambda: 0 < (tcp.road(made) or empty).undelivered < given, "what it took is delivered, the rest not")
            taken.setblocking(True)
            made.shutdown(socket.SHUT_WR)
            while taken.recv(1 << 20):
                pass
            until(lambda: (tcp.road(made) or empty).undelivered == 0, "all of it is delivered")


def test_what_does_not_tell_of_its_road_is_none() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert tcp.road(near) is None


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
