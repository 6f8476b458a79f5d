"""Find what is plugged into the box: serial adapters, CAN interfaces, gpsd, inertial sensors, cameras.

Only reading and asking who is there: nothing is sent to the vehicle but by an ELM327's own search for it, and a serial
CAN adapter listens only.
"""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, Final

from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError

CAN_TYPE: Final = "280"  # ARPHRD_CAN, linux/if_arp.h
GPSD_S: Final = 3.0  # for gpsd to say who it is and what it reads
_LINE: Final = 65_536

# Of a Raspberry Pi's video devices: blocks that work on pictures, and receivers of a sensor's raw data, which become
# pictures only by libcamera (names: drivers/media and drivers/staging of the Raspberry Pi's kernel, rpi-6.6.y).
NO_CAMERA: Final = ("bcm2835-codec", "bcm2835-isp", "rpivid", "rpi-hevc-dec", "pispbe")
RAW: Final = ("unicam", "rp1-cfe")


@dataclass(frozen=True, slots=True)
class Places:
    """Where is looked; the defaults are those of an installed box."""

    serial: tuple[str, ...] = (  # patterns of serial lines, those with our own names first
        "/dev/roadwitness/elm327*",
        "/dev/serial/by-id/*",
        "/dev/ttyUSB*",
        "/dev/ttyACM*",
        "/dev/rfcomm*",
    )
    not_serial: tuple[str, ...] = ("/dev/roadwitness/gps*",)  # satellite receivers: gpsd reads these
    gpsd: str = "127.0.0.1:2947"  # "" looks for none
    net: Path = Path("/sys/class/net")
    iio: Path = Path("/sys/bus/iio/devices")
    dev: Path = Path("/dev")
    video: Path = Path("/sys/class/video4linux")


@dataclass(frozen=True, slots=True)
class Found:
    """A device, the table that reads it ("" where none does), and what it says of itself."""

    table: str  # "drivers.KIND.NAME" of agent.toml, "cameras" of dashcam.toml, where each has a name
    settings: dict[str, Any]
    what: str  # "OBD adapter"
    said: str
    trouble: str = ""  # why it cannot be used as it is
    advice: str = ""
    also: tuple[str, ...] = field(default=())  # other names of the same line


def search(places: Places, told: Callable[[str], None]) -> list[Found]:
    """Return what is there; `told` hears what is being looked at. Nothing raises."""
    found: list[Found] = []
    for look in (_gpsd, _serial, _can, _inertial, _cameras):
        for one in look(places, told):
            found.append(one)
    return found


def _gpsd(places: Places, told: Callable[[str], None]) -> Iterator[Found]:
    if not places.gpsd:
        return
    told(f"gpsd at {places.gpsd}")
    host, _, port = places.gpsd.rpartition(":")
    settings = {"host": host, "port": int(port)}
    try:
        release, receivers = _ask_gpsd(host, int(port))
    except (OSError, ValueError) as e:
        yield Found(
            "",
            {},
            "Satellite receiver",
            f"gpsd does not answer at {places.gpsd}: {e}",
            "no gpsd",
            "Plug the receiver in and start gpsd: systemctl enable --now gpsd; then look again.",
        )
        return
    if receivers:
        yield Found("drivers.gps.main", settings, "Satellite receiver", f"gpsd {release} reads {', '.join(receivers)}")
    else:
        yield Found(
            "drivers.gps.main",
            settings,
            "Satellite receiver",
            f"gpsd {release} has no receiver",
            "no receiver",
            "Plug a receiver in, or name it in /etc/default/gpsd, and restart gpsd.",
        )


def _ask_gpsd(host: str, port: int) -> tuple[str, list[str]]:
    """Return gpsd's release and the receivers that it reads; raise OSError or ValueError."""
    deadline_ns = monotonic_ns() + round(GPSD_S * NS_PER_S)
    release, data = "", b""
    with socket.create_connection((host, port), timeout=GPSD_S) as line:
        line.sendall(b"?DEVICES;\n")
        while (left_s := (deadline_ns - monotonic_ns()) / NS_PER_S) > 0 and len(data) < _LINE:
            line.settimeout(left_s)
            got = line.recv(4096)
            if not got:
                break
            data += got
            *lines, data = data.split(b"\n")
            for each in lines:
                said = json.loads(each)
                if not isinstance(said, dict):
                    continue
                if said.get("class") == "VERSION":
                    release = str(said.get("release", ""))
                if said.get("class") == "DEVICES":
                    return release, [str(d.get("path", "?")) for d in said.get("devices", [])]
    raise ValueError("it says nothing that gpsd says")


def _serial(places: Places, told: Callable[[str], None]) -> Iterator[Found]:
    numbers = {"elm327": 0, "canbus": 0}
    for path, also in _lines(places):
        told(path)
        found = _elm327(path, also, numbers["elm327"]) or _slcan(path, also, numbers["canbus"])
        if found is None:
            yield Found(
                "",
                {},
                "Serial line",
                f"{path}: neither an ELM327 nor a CAN adapter (slcan) answers",
                "nobody answers",
                "Switch the ignition on and look again; a satellite receiver needs gpsd, see docs/wiring-a-car.md.",
                also,
            )
            continue
        if found.table:
            numbers[found.table.split(".")[1]] += 1
        yield found


def _lines(places: Places) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each serial line once, by its first name, with its other names; lines that gpsd reads are left out."""
    others = {Path(path).resolve() for pattern in places.not_serial for path in glob(pattern)}
    names: dict[Path, list[str]] = {}
    for pattern in places.serial:
        for path in sorted(glob(pattern)):
            names.setdefault(Path(path).resolve(), []).append(path)
    for real, (first, *rest) in names.items():
        if real not in others:
            yield first, tuple(rest)


def _elm327(path: str, also: tuple[str, ...], n: int) -> Found | None:
    from drivers.elm.settings import Elm327Settings
    from drivers.elm327 import Elm327

    driver = Elm327(Elm327Settings(port=path))
    try:
        driver.open()
        adapter = driver.adapter
    except DriverError:
        return None
    finally:
        driver.close()
    name = "obd" if n == 0 else f"obd{n + 1}"
    said = f"{adapter.describe()} on {path}"
    trouble = "a clone" if adapter.clone else ""
    advice = (
        "It works with less data and may drop out; an adapter of OBDLink or ELM Electronics does not." * adapter.clone
    )
    return Found(f"drivers.elm327.{name}", {"port": path}, "OBD adapter", said, trouble, advice, also)


def _slcan(path: str, also: tuple[str, ...], n: int) -> Found | None:
    """Return a serial CAN adapter that hears traffic: silence cannot be told from another device."""
    from drivers.can.slcan import Slcan
    from drivers.can.wire import CanSettings

    wire = Slcan(CanSettings(interface="slcan", channel=path))
    try:
        wire.open([])
        rate = wire.bit_rate
    except DriverError:
        return None
    finally:
        wire.close()
    settings = {"interface": "slcan", "channel": path, "bit_rate": rate, "bus": f"can{n}"}
    return Found(f"drivers.canbus.can{n}", settings, "CAN adapter", f"slcan on {path}, {rate} bit/s", also=also)


def _can(places: Places, told: Callable[[str], None]) -> Iterator[Found]:
    for folder in sorted(places.net.glob("*")):
        name = folder.name
        if _text(folder / "type") != CAN_TYPE:
            continue
        told(name)
        up = int(_text(folder / "flags") or "0", 16) & 1  # IFF_UP
        trouble, advice = (
            ("", "") if up else ("is down", f"Bring it up: ip link set {name} up; see docs/wiring-a-car.md.")
        )
        state = "up" if up else "down"
        yield Found(f"drivers.canbus.{name}", {"channel": name}, "CAN interface", f"{name} is {state}", trouble, advice)


def _inertial(places: Places, told: Callable[[str], None]) -> Iterator[Found]:
    usual = Places()
    for folder in sorted(places.iio.glob("iio:device*")):
        if not (folder / "in_accel_x_raw").exists():
            continue
        told(folder.name)
        name = _text(folder / "name") or folder.name
        settings: dict[str, Any] = {"device": name}
        settings |= {"sysfs": str(places.iio)} if places.iio != usual.iio else {}
        settings |= {"dev": str(places.dev)} if places.dev != usual.dev else {}
        turning = "with gyroscope" if list(folder.glob("in_anglvel_*_raw")) else "without gyroscope"
        yield Found("drivers.imu.box", settings, "Motion sensor", f"{name}, {turning}")
        return  # the box has one


def _cameras(places: Places, told: Callable[[str], None]) -> Iterator[Found]:
    for folder in sorted(places.video.glob("video*")):
        if _text(folder / "index") not in ("0", None):  # further nodes of one camera carry its metadata
            continue
        told(folder.name)
        name = _text(folder / "name") or folder.name
        if name.startswith(NO_CAMERA):
            continue
        said = f"{name} on /dev/{folder.name}"
        if name.startswith(RAW):
            yield Found("", {}, "Camera", said, "gives unfinished pictures", "Use a USB camera, or a network camera.")
            continue
        yield Found("cameras", {"source": f"/dev/{folder.name}"}, "Camera", said)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
