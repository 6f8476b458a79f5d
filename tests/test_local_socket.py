"""The local socket against clients that are kind, clumsy or hostile; the spine is played by the test."""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import clock
from agent.local import client, place, server
from agent.local.board import Board, Shown
from agent.local.client import HangingDaemonError, LocalError, NoAccessError, NoDaemonError, RefusedError
from agent.local.messages import (
    MAX_REQUEST,
    AskLend,
    AskStatus,
    AskWatch,
    Ended,
    Lent,
    Line,
    Refusal,
    Status,
    Tick,
    Utc,
    Value,
    decode_answer,
    encode,
)
from agent.local.server import MOST_CLIENTS, MOST_OF_USER, LocalServer

S = 1_000_000_000
PATIENCE_S = 60.0


def status(t_ns: int = 0) -> Status:
    return Status(
        t_ns=t_ns or clock.monotonic_ns(),
        version="1",
        device="rw-0123456789abcdef",
        pid=1,
        boot="b",
        started_ns=0,
        level="normal",
        config="",
        config_sha256="",
        recording=False,
        utc=Utc(quality="none"),
        devices=[],
    )


class Spine:
    """Shows a snapshot whenever it is called, as the daemon's thread does, with `lines` of what happened."""

    def __init__(self, folder: Path) -> None:
        self.called = threading.Event()
        self.ended = threading.Event()
        self.works = True
        self.lines: tuple[Line, ...] = ()
        self.wishes: list[Any] = []
        self.gone: list[int] = []
        self.bugs: list[BaseException] = []
        self.board = Board(self.called.set)
        self.server = LocalServer(folder, self.board, self.bugs.append)
        self.server.start()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self.ended.is_set():
            self.called.wait(0.1)
            self.called.clear()
            while self.board.gone:
                self.gone.append(self.board.gone.popleft())
            while self.board.wishes:
                wish = self.board.wishes.popleft()
                self.wishes.append(wish)
                if wish.asked.purpose == "refused":
                    self.board.tell(wish.client, Refusal(reason="the car moves"), last=True)
                elif wish.asked.purpose != "ignored":
                    until_ns = clock.monotonic_ns() + round(wish.asked.seconds * S)
                    self.board.tell(wish.client, Lent(device=wish.asked.device, until_ns=until_ns))
            if self.works and self.board.wanted(clock.monotonic_ns()):
                self.board.show(Shown(status(), [Value(1, 2.0, 0.1)], None, self.lines))

    def stop(self) -> None:
        self.ended.set()
        self._thread.join()
        self.server.stop()


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    one = Spine(tmp_path)
    yield one
    one.stop()
    assert one.bugs == []
    assert not (tmp_path / "agent.sock").exists()


def connected(folder: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(PATIENCE_S)
    one.connect(str(folder / "agent.sock"))
    return one


def answers(one: socket.socket) -> list[Any]:
    """Read to the end of the connection."""
    data = b""
    try:
        while part := one.recv(65536):
            data += part
    except ConnectionResetError:
        pass  # it was thrown out with something unread
    return [decode_answer(line) for line in data.splitlines()]


def until(condition: Callable[[], object]) -> None:
    never = threading.Event()
    for _ in range(round(PATIENCE_S / 0.02)):
        if condition():
            return
        never.wait(0.02)
    raise AssertionError("waited in vain")


def test_status_is_answered_and_the_socket_is_for_owner_and_group_only(spine: Spine, tmp_path: Path) -> None:
    assert client.status(tmp_path).device == "rw-0123456789abcdef"
    assert (tmp_path / "agent.sock").stat().st_mode & 0o777 == 0o660


def test_a_watcher_gets_what_happened_once_and_is_told_what_it_missed(spine: Spine, tmp_path: Path) -> None:
    def lines(*numbers: int) -> tuple[Line, ...]:
        return tuple(Line(number=n, t_ns=n, kind="event", severity="minor", text=f"no. {n}") for n in numbers)

    spine.lines = lines(1, 2)
    ticks = client.watch(tmp_path)
    assert [line.number for line in next(ticks).happened] == [1, 2]
    spine.lines = lines(2, 3)
    seen = [tick := next(ticks)]
    while not tick.happened:
        seen.append(tick := next(ticks))
    assert [line.number for line in tick.happened] == [3]
    assert tick.missed == 0
    spine.lines = lines(6, 7)  # 4 and 5 went by
    while (tick := next(ticks)).happened == []:
        pass
    assert (tick.missed, [line.number for line in tick.happened], tick.values) == (2, [6, 7], [Value(1, 2.0, 0.1)])


def test_nobody_asks_and_nothing_is_wanted(spine: Spine, tmp_path: Path) -> None:
    assert spine.board.shown is None
    client.status(tmp_path)
    now_ns = clock.monotonic_ns()
    assert spine.board.wanted(now_ns)
    assert not spine.board.wanted(now_ns + 4 * S)


def test_a_device_is_lent_for_a_block_and_given_back_after_it(spine: Spine, tmp_path: Path) -> None:
    with client.lend(tmp_path, "canbus:can0", "doctor", 5.0) as borrowed:
        borrowed.check()
        assert 0 < borrowed.left_s <= 5.0
        assert spine.wishes[0].uid == os.getuid()
        assert spine.gone == []
    until(lambda: spine.gone == [spine.wishes[0].client])
    with pytest.raises(RefusedError, match="the car moves"), client.lend(tmp_path, "canbus:can0", "refused"):
        pass
    with client.lend(tmp_path, "canbus:can0", "monitor", 0.001) as borrowed:
        until(lambda: not borrowed.left_s)
        with pytest.raises(RefusedError, match="is over"):
            borrowed.check()


def test_a_borrower_is_told_when_the_daemon_takes_back(spine: Spine, tmp_path: Path) -> None:
    with client.lend(tmp_path, "obd", "clear") as borrowed:
        spine.board.tell(spine.wishes[0].client, Ended(device="obd", reason="the engine turns at 800 rpm"), last=True)

        def ended() -> bool:
            try:
                borrowed.check()
            except RefusedError as told:
                return "obd: the engine turns at 800 rpm" in str(told)
            return False

        until(ended)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\n", "cannot be understood"),
        (b"hello\n", "cannot be understood"),
        (b"\xff\xfe\x00\n", "cannot be understood"),
        (b"[" * 4000 + b"\n", "cannot be understood"),
        (b'{"ask":"reboot"}\n', "cannot be understood"),
        (b'{"ask":"status","x":1}\n', "cannot be understood"),
        (b'{"ask":"lend","device":"a","for":"b","seconds":1e9}\n', "cannot be understood"),
        (b'{"ask":"lend","device":"a","for":"b\\nERROR forged","seconds":1}\n', "cannot be understood"),
        (b'{"ask":"watch"}\nmore', "one request"),
        (b"x" * (MAX_REQUEST + 1), "at most"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(spine: Spine, tmp_path: Path, sent: bytes, reason: str) -> None:
    with connected(tmp_path) as one:
        one.sendall(sent)
        (answer,) = answers(one)
    assert isinstance(answer, Refusal)
    assert reason in answer.reason
    assert client.status(tmp_path).pid == 1


def test_a_client_that_has_closed_its_sending_end_is_answered(spine: Spine, tmp_path: Path) -> None:
    with connected(tmp_path) as one:
        one.sendall(encode(AskStatus()))
        one.shutdown(socket.SHUT_WR)  # as nc does
        assert [type(a) for a in answers(one)] == [Status]


def test_a_request_may_come_in_pieces_and_a_silent_client_is_thrown_out(
    spine: Spine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(tmp_path) as one:
        for byte in encode(AskStatus()):
            one.sendall(bytes([byte]))
        assert [type(a) for a in answers(one)] == [Status]
    monkeypatch.setitem(server._PATIENCE_NS, "asking", S // 10)
    with connected(tmp_path) as one:
        (answer,) = answers(one)
        assert isinstance(answer, Refusal)
        assert "no request" in answer.reason


def test_a_hundred_connections_that_say_nothing_keep_nobody_out_for_long(spine: Spine, tmp_path: Path) -> None:
    kept = []
    for _ in range(100):
        one = socket.socket(socket.AF_UNIX)
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # the queue in the kernel is full
            one.connect(str(tmp_path / "agent.sock"))
        kept.append(one)
    until(lambda: len(spine.server._clients) == MOST_OF_USER)
    assert len(spine.server._clients) <= MOST_OF_USER < MOST_CLIENTS
    for one in kept:
        one.close()

    def answered() -> bool:
        try:
            return client.status(tmp_path).pid == 1
        except (RefusedError, NoDaemonError):
            return False

    until(answered)


def test_a_watcher_that_never_reads_is_dropped_and_the_others_get_every_tick(
    spine: Spine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ASK_NS", S // 2)
    spine.lines = tuple(Line(number=n, t_ns=0, kind="event", severity="", text="x" * 9_000) for n in range(1, 60))
    with connected(tmp_path) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.sendall(encode(AskWatch()))
        ticks = client.watch(tmp_path)
        assert len(next(ticks).happened) == 59
        until(lambda: len(spine.server._clients) == 1 and isinstance(next(ticks), Tick))


def test_a_spine_that_hangs_is_told_as_such(spine: Spine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server._PATIENCE_NS, "status", S // 10)
    monkeypatch.setitem(server._PATIENCE_NS, "lend", S // 10)
    spine.works = False
    with pytest.raises(RefusedError, match="still starting"):
        client.status(tmp_path)
    spine.board.show(Shown(status(clock.monotonic_ns() - 7 * S), [], None, ()))
    with pytest.raises(RefusedError, match=r"has shown nothing for \d+ s"):
        client.status(tmp_path)
    with pytest.raises(RefusedError, match="has shown nothing"), client.lend(tmp_path, "a", "ignored"):
        pass
    until(lambda: spine.gone)


def test_the_socket_of_a_killed_agent_is_replaced_and_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "agent.sock"))
    left.close()
    with pytest.raises(NoDaemonError, match="no agent runs here"):
        client.status(tmp_path)
    one = Spine(tmp_path)
    assert client.status(tmp_path).pid == 1
    one.stop()
    (tmp_path / "agent.sock").mkdir()
    with pytest.raises(OSError, match="in use"):
        LocalServer(tmp_path, Board(lambda: None), lambda _: None)


def test_a_socket_lies_as_deep_as_its_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    one = Spine(deep)
    assert client.status(deep).pid == 1
    one.stop()
    with pytest.raises(NoDaemonError):
        client.status(deep / "not there")


def test_the_installed_box_is_asked_in_run() -> None:
    assert place.socket_path(Path("/var/lib/roadwitness")) == Path("/run/roadwitness/agent.sock")
    assert place.socket_path(Path("/data/store")) == Path("/data/store/agent.sock")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may everything")
def test_who_may_not_ask_is_told_how_to(tmp_path: Path, spine: Spine) -> None:
    (tmp_path / "agent.sock").chmod(0)
    with pytest.raises(NoAccessError, match="usermod -aG roadwitness"):
        client.status(tmp_path)


def _serve(listener: socket.socket, said: bytes) -> None:
    one, _ = listener.accept()
    with one:
        one.recv(65536)
        with contextlib.suppress(OSError):  # it has read enough
            one.sendall(said)


@pytest.mark.parametrize(
    ("said", "error", "told"),
    [
        (None, HangingDaemonError, "does not answer"),
        (b"", NoDaemonError, "ended"),
        (b"hello\n", LocalError, "cannot be understood"),
        (b"x" * 1_200_000, LocalError, "more than"),
        (encode(Lent(device="a", until_ns=1)), LocalError, "instead of a status"),
    ],
)
def test_a_client_trusts_no_daemon(tmp_path: Path, said: bytes | None, error: type[LocalError], told: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen(0)
        if said is not None:
            threading.Thread(target=_serve, args=(listener, said), daemon=True).start()
        with pytest.raises(error, match=told):
            client.status(tmp_path, 0.2 if said is None else PATIENCE_S)
        if said is None:
            kept = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            for one in kept:
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    one.connect(str(tmp_path / "agent.sock"))
            with pytest.raises(HangingDaemonError, match="no further questions"):
                client.status(tmp_path, 0.1)
            for one in kept:
                one.close()


def test_requests_are_what_the_decision_says() -> None:
    assert encode(AskStatus()) == b'{"ask":"status"}\n'
    asked = AskLend(device="canbus:can0", purpose="doctor", seconds=5.0)
    assert encode(asked) == b'{"ask":"lend","device":"canbus:can0","for":"doctor","seconds":5.0}\n'
    assert struct.calcsize("3i") == 12
