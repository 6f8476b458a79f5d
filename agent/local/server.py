"""The local socket's thread: it takes one request from each connection and answers from what the spine has shown.

Whoever connects may be hostile: a connection is one request, its size, the time for it, what waits to be read, the
number of connections in all, for each user and for each second are limited, and nothing of the agent waits for any of
it. A client that does not read its ticks misses them.
"""

import contextlib
import logging
import os
import select
import socket
import stat
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent import clock
from agent.clock import NS_PER_S
from agent.local.board import Board, Shown, Wish
from agent.local.messages import (
    MAX_REQUEST,
    Answer,
    AskLend,
    AskStatus,
    AskWatch,
    Refusal,
    Tick,
    decode_request,
    encode,
)
from agent.local.place import short, socket_path

log = logging.getLogger(__name__)

MOST_CLIENTS: Final = 12  # a wizard needs three connections at a time
MOST_OF_USER: Final = 6  # so that no user keeps others out
MOST_A_SECOND: Final = 20  # connections taken; others wait in the kernel's queue
BACKLOG: Final = 16
ASK_NS: Final = 5 * NS_PER_S  # for the request to come, and for what was answered to be read
SHOW_NS: Final = 5 * NS_PER_S  # for the spine to show something
LEND_NS: Final = 25 * NS_PER_S  # for the spine to answer who asks for a device
FRESH_NS: Final = 3 * NS_PER_S // 2  # a status is no older than this
LOOK_MS: Final = 500  # between two looks at who took too long
STOP_S: Final = 2.0
_PATIENCE_NS: Final = {"asking": ASK_NS, "status": SHOW_NS, "lend": LEND_NS}  # phase -> for what it waits for
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))

STARTING: Final = "the agent is still starting: it takes up what an earlier run left; ask again in a moment"
ONE: Final = "one connection is for one request; connect again for another"
FULL: Final = "the agent answers as many as it can just now; close another roadwitness command, or try again"


@dataclass(slots=True)
class _Client:
    """One connection."""

    number: int
    connection: socket.socket
    uid: int
    since_ns: int
    phase: str = "asking"  # then status, watch, lend or leaving
    received: bytearray = field(default_factory=bytearray)
    waiting: bytes = b""  # to be read by it
    stuck_ns: int = 0  # when it last took something
    seen: int = 0  # number of the last line told
    half: bool = False  # it will send no more


class LocalServer(threading.Thread):
    """Listen beside the store in `folder`, which nobody else may serve; `on_bug` takes what ended the thread."""

    def __init__(self, folder: Path, board: Board, on_bug: Callable[[BaseException], None]) -> None:
        """Bind, replacing what a killed agent left; raise OSError."""
        super().__init__(name="local", daemon=True)
        self._path = socket_path(folder)
        self._board, self._on_bug = board, on_bug
        self._clients: dict[int, _Client] = {}  # by descriptor
        self._numbers: dict[int, _Client] = {}
        self._next = 1
        self._taken: deque[int] = deque(maxlen=MOST_A_SECOND)
        self._stopping = False
        self._listener = _listening(self._path)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        board.ring = self._ring

    def stop(self) -> None:
        """End all connections and remove the socket."""
        self._stopping = True
        self._ring()
        if self.is_alive():
            self.join(STOP_S)

    def run(self) -> None:
        """Serve until stopped."""
        try:
            while not self._stopping:
                self._round()
        except BaseException as bug:
            self._on_bug(bug)
        finally:
            self._board.ring = lambda: None
            for client in list(self._clients.values()):
                self._drop(client)
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _round(self) -> None:
        now_ns = clock.monotonic_ns()
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        throttled = len(self._taken) == MOST_A_SECOND and now_ns - self._taken[0] < NS_PER_S
        if not throttled:
            poll.register(self._listener, select.POLLIN)
        for descriptor, client in self._clients.items():
            reads = 0 if client.half else select.POLLIN
            poll.register(descriptor, reads | (select.POLLOUT if client.waiting else 0))
        happened = dict(poll.poll(LOOK_MS if self._clients or throttled else None))
        now_ns = clock.monotonic_ns()
        if happened.pop(self._bell, 0):
            os.eventfd_read(self._bell)
            self._pass_on(now_ns)
        if happened.pop(self._listener.fileno(), 0):
            self._accept(now_ns)
        for descriptor, events in happened.items():
            known = self._clients.get(descriptor)
            if known is not None:
                self._attend(known, events, now_ns)
        for client in list(self._clients.values()):
            self._look(client, now_ns)

    # connections

    def _accept(self, now_ns: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it went again, or there are no descriptors left: the next round looks anew
        connection.setblocking(False)
        self._taken.append(now_ns)
        try:
            _, uid, _ = _CREDENTIALS.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
        except OSError:
            connection.close()
            return
        users = Counter(client.uid for client in self._clients.values())
        client = _Client(self._next, connection, uid, now_ns, stuck_ns=now_ns)
        self._next += 1
        if len(self._clients) >= MOST_CLIENTS or users[uid] >= MOST_OF_USER:
            with connection, contextlib.suppress(OSError):  # it may be gone already
                connection.sendall(encode(Refusal(reason=FULL)))  # a fresh socket has room for a line
            return
        self._clients[connection.fileno()] = client
        self._numbers[client.number] = client

    def _drop(self, client: _Client) -> None:
        del self._clients[client.connection.fileno()], self._numbers[client.number]
        client.connection.close()
        if client.phase == "lend":
            self._board.gone.append(client.number)
            self._board.call()

    def _attend(self, client: _Client, events: int, now_ns: int) -> None:
        try:
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._read(client, events, now_ns)
            if events & select.POLLOUT and client.connection.fileno() in self._clients:
                self._write(client, now_ns)
        except OSError:
            self._drop(client)

    def _read(self, client: _Client, events: int, now_ns: int) -> None:
        data = b"" if client.half else client.connection.recv(MAX_REQUEST + 1)
        if data and client.phase != "asking":
            self._refuse(client, ONE, now_ns)
        elif data:
            client.received += data
            end = client.received.find(b"\n")
            if 0 <= end < len(client.received) - 1:
                self._refuse(client, ONE, now_ns)
            elif end >= 0:
                self._ask(client, bytes(client.received[:end]), now_ns)
            elif len(client.received) > MAX_REQUEST:
                self._refuse(client, f"a request is one line of at most {MAX_REQUEST} bytes", now_ns)
        elif client.half or events & (select.POLLHUP | select.POLLERR) or client.phase not in ("status", "leaving"):
            self._drop(client)
        else:
            client.half = True  # it asked, and says so by closing its sending end: nc does

    def _write(self, client: _Client, now_ns: int) -> None:
        sent = client.connection.send(client.waiting)
        client.waiting, client.stuck_ns = client.waiting[sent:], now_ns
        if not client.waiting and client.phase == "leaving":
            self._drop(client)

    def _send(self, client: _Client, answer: Answer, now_ns: int) -> None:
        if not client.waiting:
            client.stuck_ns = now_ns
        client.waiting += encode(answer)

    def _refuse(self, client: _Client, reason: str, now_ns: int) -> None:
        self._leave(client, Refusal(reason=reason), now_ns)

    def _leave(self, client: _Client, answer: Answer, now_ns: int) -> None:
        """Tell a client its last answer."""
        if client.phase == "lend":
            self._board.gone.append(client.number)
            self._board.call()
        self._send(client, answer, now_ns)
        client.phase = "leaving"

    def _look(self, client: _Client, now_ns: int) -> None:
        """End what takes too long; let the spine know who waits for it."""
        age_ns = now_ns - client.since_ns
        patience_ns = _PATIENCE_NS.get(client.phase)
        if client.waiting and now_ns - client.stuck_ns > ASK_NS:
            self._drop(client)
        elif patience_ns is not None and age_ns > patience_ns and not client.seen:
            self._refuse(client, "no request came" if client.phase == "asking" else self._silence(now_ns), now_ns)
        elif client.phase in ("status", "watch"):
            self._board.want(now_ns)
            if not self._fresh(now_ns):
                self._board.call()

    # requests

    def _ask(self, client: _Client, line: bytes, now_ns: int) -> None:
        try:
            asked = decode_request(line)
        except ValueError as e:
            self._refuse(client, f"the request cannot be understood: {str(e)[:200]}", now_ns)
            return
        if isinstance(asked, AskLend):
            client.phase, client.since_ns = "lend", now_ns
            self._board.wishes.append(Wish(client.number, asked, client.uid))
            self._board.call()
            return
        client.since_ns = now_ns
        self._board.want(now_ns)
        if isinstance(asked, AskWatch):
            client.phase = "watch"
        elif isinstance(asked, AskStatus):
            client.phase = "status"
        shown = self._board.shown
        if shown is not None and self._fresh(now_ns):
            self._give(client, shown, now_ns)
        else:
            self._board.call()

    def _pass_on(self, now_ns: int) -> None:
        """Hand out what the spine has shown and told."""
        while self._board.told:
            number, answer, last = self._board.told.popleft()
            client = self._numbers.get(number)
            if client is None or client.phase != "lend":
                continue
            client.seen = 1
            if last:
                client.phase = "leaving"  # the spine knows that it is over
            self._send(client, answer, now_ns)
        shown = self._board.shown
        if shown is not None and self._fresh(now_ns):
            for client in self._clients.values():
                self._give(client, shown, now_ns)

    def _give(self, client: _Client, shown: Shown, now_ns: int) -> None:
        if client.phase == "status":
            self._leave(client, shown.status, now_ns)
        elif client.phase == "watch" and not client.waiting:
            tick = tick_of(shown, client.seen)
            if shown.lines:
                client.seen = shown.lines[-1].number
            self._send(client, tick, now_ns)

    def _fresh(self, now_ns: int) -> bool:
        shown = self._board.shown
        return shown is not None and now_ns - shown.status.t_ns <= FRESH_NS

    def _silence(self, now_ns: int) -> str:
        shown = self._board.shown
        if shown is None:
            return STARTING
        silent_s = (now_ns - shown.status.t_ns) / NS_PER_S
        return (
            f"the agent has shown nothing for {silent_s:.0f} s: it hangs, or the disk does; it is restarted by itself, "
            "see: journalctl -u roadwitness-agent"
        )


def tick_of(shown: Shown, seen: int) -> Tick:
    """Return the tick for a client that was told the lines up to number `seen`, 0 for a new one."""
    lines = [line for line in shown.lines if line.number > seen]
    missed = lines[0].number - seen - 1 if lines and seen else 0
    s = shown.status
    return Tick(
        t_ns=s.t_ns,
        device=s.device,
        level=s.level,
        utc=s.utc,
        values=shown.values,
        fused=shown.fused,
        happened=lines,
        missed=missed,
        devices=s.devices,
        cameras=s.cameras,
        power=s.power,
        sync=s.sync,
        lanes=s.lanes,
        store=s.store,
        trip=s.trip,
        crash=s.crash,
        loans=s.loans,
    )


def _listening(path: Path) -> socket.socket:
    """Bind to `path` for its owner and group; what is there is a killed agent's, for the store is locked by us."""
    path.parent.mkdir(mode=0o750, exist_ok=True)
    if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with short(path) as name:
            listener.bind(name)
        path.chmod(0o660)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
