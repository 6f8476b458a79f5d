"""A box that is well, piece by piece as the doctor sees it, so that a test can make one piece ill."""

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.blocks import BLOCK, Block
from agent.boot import kernel_boot_id
from agent.channels import number
from agent.clock import monotonic_ns, wall_minus_monotonic_ns, wall_ns
from agent.dashcam.state import CameraState, write_state
from agent.doctor import Context, Finding, examine, next_step
from agent.local.messages import Agreed, AskStatus, Device, Lane, Power, Status, Utc, decode_request, encode
from agent.local.place import short, socket_path
from agent.records import LANES, Mount
from agent.store import Store
from agent.uplink import SyncStatus

S = 1_000_000_000
AXES = [number(f"Imu.Acceleration.{axis}") for axis in "XYZ"]
CAN, ELM, IMU = "canbus:can0", "elm327:/dev/rfcomm0", "imu:first"
# All but those that need a broker or wires of their own
BOX_GROUPS = ("power", "clock", "storage", "can", "adapter", "imu", "camera", "services", "config", "versions")

AGENT_TOML = """\
[consent]
sheet = "sheet 1 of the tests"

[broker]
url = "mqtts://127.0.0.1:8883"

[drivers.canbus.can0]
interface = "slcan"
channel = "/dev/ttyACM0"

[drivers.elm327.obd]
port = "/dev/rfcomm0"

[drivers.imu.box]
"""
DASHCAM_TOML = '[cameras.front]\nsource = "/dev/video0"\n'
UNITS = ("roadwitness-agent", "roadwitness-dashcam", "gpsd")
UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "NRestarts": "0",
    "UnitFileState": "enabled",
}


class Box:
    """A whole box below `folder`; every file may be changed before it is examined."""

    def __init__(self, folder: Path) -> None:
        self.store, self.sysfs = folder / "store", folder / "sys"
        self.config, self.dashcam = folder / "agent.toml", folder / "dashcam.toml"
        self.units = {unit: dict(UNIT) for unit in UNITS}
        self._systemctl = folder / "systemctl"
        self._units = folder / "units"
        self.boot = kernel_boot_id()
        self.config.write_text(AGENT_TOML)
        self.dashcam.write_text(DASHCAM_TOML)
        with Store.open(self.store) as store:
            self.device = store.device
            store.begin_boot(self.boot)
            t_ns = monotonic_ns()
            mount = Mount(t_ns=t_ns, gravity=(0.0, 0.0, 1.0), forward=(1.0, 0.0, 0.0), confidence=0.9)
            store.append([(t_ns, mount)])
            store.append_block(still(t_ns), last=True)
        hour_ago_ns = wall_ns() - 3600 * S
        os.utime(self.config, ns=(hour_ago_ns, hour_ago_ns))
        self.put("devices/platform/soc/soc:firmware/get_throttled", "0")
        self.put("class/thermal/thermal_zone0/type", "cpu-thermal")
        self.put("class/thermal/thermal_zone0/temp", "51000")
        self.put("class/rtc/rtc0/since_epoch", str(wall_ns() // S))
        self.put("class/net/eth0/operstate", "up")
        self.card("type", "MMC")
        self.card("life_time", "0x01 0x02")
        self.card("pre_eol_info", "0x01")
        self.camera()
        self.context = Context(
            store=self.store,
            config=self.config,
            dashcam=self.dashcam,
            sysfs=self.sysfs,
            systemctl=str(self._systemctl),
            kernel_error_ns=lambda: 4_000_000,
        )
        self.first = self.later = healthy(self)

    def put(self, file: str, text: str) -> None:
        """Write an attribute of the kernel's."""
        path = self.sysfs / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def card(self, file: str, text: str) -> None:
        """Write an attribute of the card that the store lies on."""
        number = self.store.stat().st_dev
        self.put(f"dev/block/{os.major(number)}:{os.minor(number)}/device/{file}", text)

    def camera(self, **changes: Any) -> None:
        """Let the dashcam say how its camera is."""
        state = CameraState(camera="front", boot=self.boot, t_ns=monotonic_ns(), state="ok", mode="encode")
        video = self.store / "video"
        (video / "front").mkdir(parents=True, exist_ok=True)
        whole = {"codec": "h264", "encoder": "libx264", "width": 1280, "height": 720, "fps": 30.0} | changes
        write_state(video, msgspec.structs.replace(state, **whole))

    def says(self, **changes: Any) -> None:
        """Let the daemon say something else, both times."""
        self.first = msgspec.structs.replace(self.first, **changes)
        self.later = msgspec.structs.replace(self.later, **changes)

    def device_says(self, name: str, *, later: dict[str, Any] | None = None, **changes: Any) -> None:
        """Let the daemon say something else of a device; `later` in the second answer only."""
        for one, more in (("first", {}), ("later", later or {})):
            status = getattr(self, one)
            devices = [msgspec.structs.replace(d, **changes, **more) if d.name == name else d for d in status.devices]
            setattr(self, one, msgspec.structs.replace(status, devices=devices))

    def examined(self, *groups: str, **changes: Any) -> list[Finding]:
        """Examine it; systemd answers as `units` say, None is a unit that is not installed."""
        self._units.mkdir(exist_ok=True)
        for unit, shown in self.units.items():
            (self._units / unit).write_text("".join(f"{k}={v}\n" for k, v in shown.items()))
        self._systemctl.write_text(f'#!/bin/sh\nexec cat "{self._units}/$2"\n')
        self._systemctl.chmod(0o755)
        return examine(replace(self.context, groups=groups or BOX_GROUPS, **changes))


def still(until_ns: int) -> Block:
    """Return five seconds of a sensor that feels gravity and its own noise."""
    times = until_ns - 5 * S + np.arange(500, dtype=np.int64) * (S // 100)
    noise = np.random.default_rng(1).normal(0.0, 0.02, (3, 500))
    values = noise + np.array([[0.1], [-0.2], [9.8]])
    block = np.zeros(1500, BLOCK)
    block["t"], block["channel"], block["value"] = np.repeat(times, 3), np.tile(AXES, 500), values.T.ravel()
    return block


def healthy(box: Box) -> Status:
    """Return what a daemon says that is well, half an hour after its start."""
    t_ns = monotonic_ns()
    counts = {CAN: {"frames": 1000}, ELM: {}, IMU: {"samples": 1000}}
    facts = {
        ELM: {
            f"{ELM}:adapter": {"name": "ELM327 v2.1", "baud": "38400", "lacks": "", "protocol": "6"},
            f"{ELM}:vin": {"vin": "1M8GDM9AXKP042788"},
        }
    }
    return Status(
        t_ns=t_ns,
        version=version("roadwitness"),
        device=box.device,
        pid=os.getpid(),
        boot=box.boot,
        started_ns=t_ns - 1800 * S,
        level="normal",
        config=str(box.config),
        config_sha256="",
        recording=False,
        utc=Utc(quality="gnss", offset_ns=wall_minus_monotonic_ns(), uncertainty_ns=5_000_000),
        devices=[
            Device(
                name=name,
                kind=name.partition(":")[0],
                state="open",
                since_ns=t_ns,
                counts=counts[name],
                facts=facts.get(name, {}),
                healths={f"{name}:profile": "ok"} if name == CAN else {},
                samples=1000,
            )
            for name in (CAN, ELM, IMU)
        ],
        power=Power(
            state="driving", since_ns=t_ns, volts_of_12=13.9, charging=True, taken_wh=0.2, running=True, moving=True
        ),
        sync=SyncStatus(phase="sending"),
        lanes=[Lane(name=name, head=7, acknowledged=7) for name in LANES],
        consent=Agreed(purposes=["recording", "video"], reference="sheet 1 permits recording, video", awaited=False),
    )


@contextmanager
def daemon(box: Box, answers: int | None = None) -> Iterator[None]:
    """Answer on the box's local socket as its daemon would; `answers` 0 is one that hangs."""
    later = msgspec.structs.replace(
        box.later,
        t_ns=box.first.t_ns + S,
        devices=[grown(before, after) for before, after in zip(box.first.devices, box.later.devices, strict=True)],
    )
    waiting = [box.first, later]

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked = decode_request(connection.makefile("rb").readline())
                assert isinstance(asked, AskStatus)
                if answers == 0:
                    closing.wait(30.0)
                    continue
                connection.sendall(encode(waiting.pop(0) if len(waiting) > 1 else waiting[0]))

    closing = threading.Event()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short(socket_path(box.store)) as name:
        listener.bind(name)
    listener.listen()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10.0)
        socket_path(box.store).unlink(missing_ok=True)


def grown(before: Device, after: Device) -> Device:
    """Let a device that is well have given a second's worth more, unless a test has said otherwise."""
    if after != before or after.state != "open":
        return after
    counts = {what: n + 100 for what, n in after.counts.items()}
    return msgspec.structs.replace(after, counts=counts, samples=after.samples + 100)


@dataclass(frozen=True)
class Row:
    """One injected fault, what the doctor must call it, and a part of what it must advise.

    `also` are further fails that are true as well; `hurt` may return what the context has to be instead.
    """

    fault: str
    hurt: Callable[[Any], dict[str, Any] | None]
    state: str
    code: str
    advice: str
    also: tuple[str, ...] = ()
    groups: tuple[str, ...] = field(default=())


def check(row: Row, findings: list[Finding], well: tuple[str, ...] = ()) -> None:
    """Assert that the fault is named, with its advice, and that nothing else fails that is not true."""
    told = [(f.state, f.advice) for f in findings if f.state != "pass"]
    assert [f.found for f in findings if f.advice == "check_failed"] == []
    named = [f for f in findings if (f.state, f.advice) == (row.state, row.code)]
    assert named, (row.fault, told)
    assert row.advice in next_step(named[0]), next_step(named[0])
    assert "{" not in next_step(named[0])
    fails = {code for state, code in told if state == "fail"}
    assert fails == ({row.code} if row.state == "fail" else set()) | set(row.also) | set(well), (row.fault, told)


# certificates


@dataclass(frozen=True)
class Authority:
    """A certificate authority of one's own in `folder`."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def made(cls, folder: Path, name: str) -> "Authority":
        authority = cls(folder, name, ec.generate_private_key(ec.SECP256R1()))
        authority.file.write_bytes(authority._signed(authority.key.public_key(), name, -1.0, 365.0, [], ca=True))
        return authority

    @property
    def file(self) -> Path:
        """Its certificate."""
        return self.folder / f"{self.name}.crt"

    def issue(
        self, name: str, *, begins_d: float = -1.0, ends_d: float = 90.0, of: str | None = None
    ) -> tuple[Path, Path]:
        """Write a certificate for `name` and its key; `of` is the address of a server."""
        stem = f"{name}-{begins_d:g}-{ends_d:g}-{of}".replace("/", "_")
        certificate, file = self.folder / f"{self.name}-{stem}.crt", self.folder / f"{self.name}-{stem}.key"
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = [x509.IPAddress(ip_address(of))] if of else []
        certificate.write_bytes(self._signed(key.public_key(), name, begins_d, ends_d, alternative))
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)  # Mosquitto gives up being root before it reads it
        return certificate, file

    def _signed(
        self, key: ec.EllipticCurvePublicKey, name: str, begins_d: float, ends_d: float, alternative: list[Any], *,
        ca: bool = False,
    ) -> bytes:  # fmt: skip
        now = datetime.fromtimestamp(wall_ns() / S, UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begins_d))
            .not_valid_after(now + timedelta(days=ends_d))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if not ca:
            uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
