"""What the tests of sync and of the receiver share: a device in memory, brokers, a PostgreSQL of their own."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import create_engine
from sqlalchemy import text as sql

from agent import chain, clock
from agent.chain import START, Entry
from agent.records import KIND_LANES, KINDS, Record

KIND_OF = {record: kind for kind, record in KINDS.items()}
LINEAGE = "0123456789ab"


class ListSource:
    """A device whose lanes are lists: what sync and ingest need of a store, and nothing kept on disk."""

    def __init__(self, seed: int = 1, lineage: str = LINEAGE) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public_key = chain.public_bytes(self.key)
        self.device = chain.device_id(self.public_key)
        self.lineage = lineage
        self.lanes: dict[str, list[Entry]] = {}
        self.acknowledged: dict[str, int] = {}
        self.written: dict[str, tuple[int, bytes]] = {}

    def append(self, records: list[tuple[int, Record]], boot: str = "boot-1") -> list[Entry]:
        return [
            self.append_raw(KIND_LANES[KIND_OF[type(r)]], KIND_OF[type(r)], chain.canonical(r), t, boot)
            for t, r in records
        ]

    def append_raw(self, lane: str, kind: str, body: bytes, t_ns: int = 0, boot: str = "boot-1") -> Entry:
        seq, previous = self.written.get(lane, (0, START))
        entry = chain.seal(self.key, self.device, self.lineage, previous, lane, seq + 1, boot, t_ns, kind, body)
        self.written[lane] = (entry.seq, entry.hash)
        self.lanes.setdefault(lane, []).append(entry)
        return entry

    def forget(self, lane: str, up_to: int) -> None:
        self.lanes[lane] = [e for e in self.lanes[lane] if e.seq > up_to]

    def heads(self) -> dict[str, int]:
        return {lane: seq for lane, (seq, _) in self.written.items()}

    def positions(self) -> dict[str, int]:
        return dict(self.acknowledged)

    def pending(self, lane: str, after: int, limit_bytes: int) -> list[Entry]:
        found, size = [], 0
        for e in self.lanes.get(lane, []):
            if e.seq > after and (not found or size + len(e.body) <= limit_bytes):
                found.append(e)
                size += len(e.body)
            elif e.seq > after:
                break
        return found

    def acknowledge(self, positions: dict[str, int], hashes: dict[str, bytes]) -> None:
        for lane, seq in positions.items():
            self.acknowledged[lane] = max(seq, self.acknowledged.get(lane, 0))

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


def until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until `condition` holds; fail naming `what` it was."""
    deadline_ns = clock.monotonic_ns() + int(seconds * 1e9)
    never = threading.Event()
    while not condition():
        if clock.monotonic_ns() > deadline_ns:
            pytest.fail(f"waited {seconds:g} s in vain until {what}")
        clock.wait(never, 0.005)


def free_port() -> int:
    with closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Mosquitto:
    """A Mosquitto of one's own on 127.0.0.1, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, *lines: str, anonymous: bool = True) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if not Path(program).exists():
            pytest.skip("Debian package mosquitto is not installed")
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        (folder / "mosquitto.conf").write_text(
            "\n".join(
                [
                    f"listener {self.port} 127.0.0.1",
                    f"allow_anonymous {'true' if anonymous else 'false'}",
                    "persistence false",
                    "set_tcp_nodelay true",
                    *lines,
                ]
            )
            + "\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def listening() -> bool:
            with closing(socket.socket()) as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0

        until(listening, "mosquitto listens")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def mosquitto(folder: Path, *lines: str, anonymous: bool = True) -> Iterator[Mosquitto]:
    broker = Mosquitto(folder, *lines, anonymous=anonymous)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


class PostgreSQL:
    """A PostgreSQL of one's own, reached by a socket in its folder, which can be stopped and started again."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            pytest.skip("Debian package postgresql is not installed")
        self._programs = found[-1].parent
        # The server refuses to run as root; the package's own user may not see pytest's folders.
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.folder = Path(tempfile.mkdtemp(prefix="rw-postgresql-"))
        if self._as_user:
            shutil.chown(self.folder, "postgres")
        self._data = self.folder / "data"
        self.url = f"postgresql+psycopg://rw@/postgres?host={self.folder}"
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "rw", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=30"
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self.folder / "log"), "-o", options, "-w", "start")

    def stop(self) -> None:
        """End it as a crash would: connections are cut, and what was committed is found in its log again."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stderr


_databases = count()


def new_database(cluster: str) -> str:
    """Make a database in a cluster of `postgresql` and return its URL."""
    name = f"t{next(_databases)}"
    admin = create_engine(cluster, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sql(f"CREATE DATABASE {name}"))
    admin.dispose()
    return cluster.replace("/postgres?", f"/{name}?")


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL of one's own; give its URL."""
    with restartable_postgresql() as server:
        yield server.url


@contextmanager
def restartable_postgresql() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    try:
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)
