"""Ask the daemon on this machine: `ask`, `watch`, and `lend` for a device that it holds."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.clock import NS_PER_S, monotonic_ns, wait
from agent.errors import RoadwitnessError
from agent.local.messages import (
    MAX_ANSWER,
    Answered,
    AskLend,
    AskStatus,
    AskWatch,
    Ended,
    Lent,
    Refusal,
    Request,
    Status,
    Tick,
    decode_answer,
    encode,
)
from agent.local.place import short, socket_path

ANSWER_S: Final = 10.0  # for an answer: a parked agent looks up once a second, a busy SD card holds it for seconds
LEND_S: Final = 30.0  # for a device to be closed: a read ends within half a second, one that hangs after 15 s
AGAIN_S: Final = 0.05
_CHUNK: Final = 65536


class LocalError(RoadwitnessError):
    """The daemon on this machine cannot be asked, or refuses."""


class NoDaemonError(LocalError):
    """Nothing listens: the agent does not run on this store."""


class NoAccessError(LocalError):
    """The agent runs, and this user may not ask it."""


class HangingDaemonError(LocalError):
    """The agent listens and does not answer in time."""


class RefusedError(LocalError):
    """The agent refuses; the text is its reason."""


def ask(folder: Path, request: Request, timeout_s: float = ANSWER_S) -> Answered:
    """Send one request to the daemon whose store is in `folder`; return its first answer, a refusal included.

    Raise NoDaemonError, NoAccessError or HangingDaemonError.
    """
    with _connected(folder, timeout_s) as line:
        line.send(request)
        return line.receive(timeout_s)


def status(folder: Path, timeout_s: float = ANSWER_S) -> Status:
    """Return how everything stands; raise LocalError."""
    answer = _granted(ask(folder, AskStatus(), timeout_s))
    if not isinstance(answer, Status):
        raise LocalError(f"{socket_path(folder)}: answers with {type(answer).__name__} instead of a status")
    return answer


def watch(folder: Path, timeout_s: float = ANSWER_S) -> Iterator[Tick]:
    """Yield a tick a second until the daemon ends; raise LocalError, NoDaemonError when it ends."""
    with _connected(folder, timeout_s) as line:
        line.send(AskWatch())
        while True:
            answer = _granted(line.receive(timeout_s))
            if isinstance(answer, Tick):
                yield answer


class Borrowed:
    """A device that the daemon has closed for us; it may be opened until `until_ns` of the monotonic clock."""

    def __init__(self, line: "_Line", lent: Lent) -> None:
        self._line = line
        self.device, self.until_ns = lent.device, lent.until_ns

    def check(self) -> None:
        """Raise LocalError unless the device is still ours: cheap, to be called between questions to the device."""
        answer = self._line.poll()
        if isinstance(answer, Ended):
            raise RefusedError(f"{self.device}: {answer.reason}")
        if monotonic_ns() >= self.until_ns:
            raise RefusedError(f"{self.device}: the time for which it was lent is over; ask again, for longer")

    @property
    def left_s(self) -> float:
        """How much of the time is left."""
        return max(0.0, (self.until_ns - monotonic_ns()) / NS_PER_S)


@contextmanager
def lend(
    folder: Path, device: str, purpose: str, seconds: float = 60.0, timeout_s: float = LEND_S, about: str = ""
) -> Iterator[Borrowed]:
    """Have the daemon close `device` and keep it closed inside this block; raise LocalError, RefusedError if refused.

    `purpose` and `about` are logged and told to the receiver; "clear" is granted only while the car stands with its
    engine off.
    """
    with _connected(folder, timeout_s) as line:
        line.send(AskLend(device=device, purpose=purpose, seconds=seconds, about=about))
        answer = _granted(line.receive(timeout_s))
        if not isinstance(answer, Lent):
            raise LocalError(f"{socket_path(folder)}: answers with {type(answer).__name__} instead of a device")
        yield Borrowed(line, answer)


def _granted(answer: Answered) -> Answered:
    if isinstance(answer, Refusal):
        raise RefusedError(answer.reason)
    return answer


class _Line:
    """A connection, its answers taken apart line by line."""

    def __init__(self, path: Path, connection: socket.socket) -> None:
        self._path = path
        self._connection = connection
        self._received = bytearray()

    def send(self, request: Request) -> None:
        try:
            self._connection.sendall(encode(request))
        except TimeoutError as e:
            raise self._hangs() from e
        except OSError as e:
            raise self._gone() from e

    def receive(self, timeout_s: float) -> Answered:
        """Return the next answer, however slowly its bytes come, within `timeout_s`."""
        deadline_ns = monotonic_ns() + round(timeout_s * NS_PER_S)
        while (answer := self._taken()) is None:
            left_s = (deadline_ns - monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                raise self._hangs()
            self._more(left_s)
        return answer

    def poll(self) -> Answered | None:
        """Return an answer that has come already, if any."""
        answer = self._taken()
        if answer is None:
            try:
                self._connection.setblocking(False)
                self._more(0.0)
            except HangingDaemonError:
                return None
            answer = self._taken()
        return answer

    def _more(self, left_s: float) -> None:
        try:
            self._connection.settimeout(left_s)
            data = self._connection.recv(_CHUNK)
        except (TimeoutError, BlockingIOError) as e:
            raise self._hangs() from e
        except OSError as e:
            raise self._gone() from e
        if not data:
            raise self._gone()
        self._received += data

    def _taken(self) -> Answered | None:
        end = self._received.find(b"\n")
        if end < 0:
            if len(self._received) > MAX_ANSWER:
                raise LocalError(f"{self._path}: answers with more than {MAX_ANSWER} bytes; is it the agent's socket?")
            return None
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        try:
            return decode_answer(line)
        except ValueError as e:
            raise LocalError(f"{self._path}: the answer cannot be understood ({e}); are both of one version?") from e

    def _hangs(self) -> HangingDaemonError:
        return HangingDaemonError(
            f"{self._path}: the agent listens and does not answer; it is restarted by itself after half a minute, "
            "see: journalctl -u roadwitness-agent"
        )

    def _gone(self) -> NoDaemonError:
        return NoDaemonError(f"{self._path}: the agent ended; see: systemctl status roadwitness-agent")


def _connect(connection: socket.socket, name: str, timeout_s: float) -> None:
    """Connect; where the agent's queue is full the kernel refuses at once, so try again until `timeout_s`."""
    deadline_ns = monotonic_ns() + round(timeout_s * NS_PER_S)
    while True:
        try:
            connection.connect(name)
            return
        except BlockingIOError:
            if monotonic_ns() >= deadline_ns:
                raise
            wait(threading.Event(), AGAIN_S)


@contextmanager
def _connected(folder: Path, timeout_s: float) -> Iterator[_Line]:
    path = socket_path(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with short(path) as name:
                _connect(connection, name, timeout_s)
        except PermissionError as e:
            raise NoAccessError(
                f"{path}: this user may not ask the agent; use sudo, or join the group: usermod -aG roadwitness NAME"
            ) from e
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as e:
            raise NoDaemonError(
                f"{path}: no agent runs here; start it with: systemctl start roadwitness-agent, or name its --store"
            ) from e
        except (TimeoutError, BlockingIOError) as e:  # a listener whose queue is full: nobody accepts
            raise HangingDaemonError(
                f"{path}: the agent takes no further questions; it is busy with others, or hangs; try again"
            ) from e
        except OSError as e:
            raise LocalError(f"{path}: asking the agent failed: {e.strerror or e}") from e
        yield _Line(path, connection)
