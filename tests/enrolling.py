"""What the tests of enrolment share: an insurer with an authority, pages and a broker, and boxes to be enrolled."""

import shutil
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Engine

from agent import clock
from agent.clock import NS_PER_S
from agent.enrolment.enrol import Enrolled, enrol
from agent.enrolmentmessages import mark_of
from agent.link import BrokerSettings
from agent.tls import Moment
from receiver import db
from receiver.authority import brokerconfig, codes, folder, issuing, revoking
from receiver.authority.folder import Authority
from receiver.authority.settings import EnrolmentSettings
from receiver.serve import _server
from receiver.settings import HttpSettings, ReceiverSettings
from tests.syncing import free_port, until

DAY_NS = 86_400 * NS_PER_S


class Insurer:
    """A receiver's database with its authority; pages and broker on demand."""

    def __init__(self, path: Path, life_days: int = 30) -> None:
        self.path = path
        path.chmod(0o755)
        self.authority: Authority = folder.make(path / "authority", "Test", clock.wall_ns())
        self.port = free_port()
        self.broker = f"mqtts://127.0.0.1:{self.port}"
        self.settings = ReceiverSettings(
            database=f"sqlite:///{path / 'receiver.db'}",
            enrolment=EnrolmentSettings(
                folder=str(path / "authority"), crl=str(path / "crl.pem"), broker=self.broker, life_days=life_days
            ),
        )
        self.engine: Engine = db.open_database(self.settings.database)
        self.stack = ExitStack()
        self.stack.callback(self.engine.dispose)
        self.process: subprocess.Popen[bytes] | None = None

    def pages(self, **http: str) -> str:
        """Serve the pages and return their address, without a slash at its end."""
        settings = replace(self.settings, http=HttpSettings(host="127.0.0.1", port=0, **http))  # type: ignore[arg-type]
        server = _server(self.engine, settings, None)
        thread = threading.Thread(target=server.run, daemon=True)

        def stop() -> None:
            server.should_exit = True
            thread.join(60)

        thread.start()
        self.stack.callback(stop)
        until(lambda: server.started, "the pages are served")
        port = server.servers[0].sockets[0].getsockname()[1]
        return f"{'https' if http else 'http'}://127.0.0.1:{port}"

    def pair(
        self, kind: issuing.Kind, name: str, hosts: tuple[str, ...] = (), days: int = 30, at_ns: int | None = None
    ) -> dict[str, Path]:
        """Certify a new key, now or as if it were `at_ns`, and return where certificate and key are."""
        key = ec.generate_private_key(ec.SECP256R1())
        now_ns = clock.wall_ns() if at_ns is None else at_ns
        issued = issuing.issue(self.authority, kind, name, key.public_key(), days, now_ns, hosts)
        paths = {"certificate": self.path / f"{kind}-{name}.crt", "key": self.path / f"{kind}-{name}.key"}
        paths["certificate"].write_text(issued.pem)
        paths["key"].write_bytes(folder.pem_of(key))
        return paths

    @property
    def mark(self) -> str:
        return mark_of(self.authority.root.public_bytes(Encoding.DER))

    def code(self, device: str = "", hours: float = 1.0, mark: str = "", now_ns: int | None = None) -> str:
        with self.engine.begin() as connection:
            return str(codes.make(connection, "ann", hours, now_ns or clock.wall_ns(), device, mark))

    def start_broker(self) -> None:
        """Run Mosquitto by the files that `broker-config` writes."""
        server = self.pair("server", "127.0.0.1", ("127.0.0.1",))
        listed = revoking.write(self.engine, self.settings, clock.wall_ns())
        root = folder.root_pem(self.path / "authority")
        rules = self.path / "broker"
        brokerconfig.write(rules, root, listed, str(server["certificate"]), str(server["key"]), self.port)
        text = (rules / "mosquitto.conf").read_text().replace("persistence true", "persistence false")
        (self.path / "mosquitto.conf").write_text(text + "user root\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if not Path(program).exists():
            pytest.skip("Debian package mosquitto is not installed")
        self.log = (self.path / "mosquitto.log").open("wb")
        self.stack.callback(self.log.close)
        command = [program, "-c", str(self.path / "mosquitto.conf"), "-v"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.stack.callback(self.stop_broker)

        def listening() -> bool:
            with closing(socket.socket()) as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0

        until(listening, "mosquitto listens")

    def stop_broker(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def reload_broker(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def enrol(self, store: Path, receiver: str, code: str, **options: Any) -> Enrolled:
        return enrol(store, receiver, code, Moment(clock.wall_ns(), True), **options)

    def as_receiver(self) -> BrokerSettings:
        pair = self.pair("receiver", brokerconfig.RECEIVERS[0])
        return BrokerSettings(url=self.broker, ca=self.path / "authority" / "root.crt", **pair)

    def close(self) -> None:
        self.stack.close()


def broker_of(done: Enrolled) -> BrokerSettings:
    """Return the [broker] table that enrolment writes."""
    table = done.settings["broker"]
    return BrokerSettings(
        url=table["url"], ca=Path(table["ca"]), certificate=Path(table["certificate"]), key=Path(table["key"])
    )
