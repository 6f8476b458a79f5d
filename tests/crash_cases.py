"""A crash as the receiver gets it: a device's real store and signed package, sent through the real ingest."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import cos, exp, radians, sin
from pathlib import Path
from typing import Any

import msgspec

from agent import filemessages, messages
from agent.clip.making import Wanted, make
from agent.evidence.manifest import Material, Missing
from agent.evidence.packager import Packager
from agent.incident.folder import PACKAGES, Part, Record, Video, encoded, write_files
from agent.records import LANES, Crash, Mount, Package
from agent.store import Store
from receiver import db, devices
from receiver.filestore import FileStore
from receiver.ingest import Ingest
from receiver.packages import arrived, told, untold
from receiver.settings import FileSettings
from tests.dashcam_making import BOOT as FILM_BOOT
from tests.dashcam_making import config, fast, film, film_h264, run_whole
from tests.packing import BOOT, T0_NS, UTC_NS, S, begin, clock, crash_at

NOW = UTC_NS + T0_NS + 40 * S
MOUNT = Mount(t_ns=20 * S, gravity=(0.0, 0.0, 1.0), forward=(0.0, -1.0, 0.0), confidence=0.97)


def speed(t_s: float) -> float:
    """The car of these cases: it drives 50 km/h, brakes for a second, is hit and stands."""
    if t_s <= -1.0:
        return 14.0 + 0.2 * sin(t_s)
    return 14.0 - 2.0 * (t_s + 1.0) if t_s <= 0 else max(0.0, 5.8 - 4.0 * t_s)


def tables() -> dict[str, bytes]:
    """Write the three tables with numbers that look like a crash from the front."""
    before = ["t_s,speed_mps,accelerator_pct,brake_on,engine_rpm,steering_deg,gear,belt_driver,abs_active"]
    for i in range(-200, 1):
        t = i / 10
        brake = int(t > -1.0)
        before.append(
            f"{t:.1f},{speed(t):.2f},{0 if brake else 18.5},{brake},{1900 if t < -1 else 1500},{2.1:.1f},4,,0"
        )
    imu = ["t_s,x_mps2,y_mps2,z_mps2,x_degps,y_degps,z_degps,clipped_axes"]
    for i in range(-500, 501):
        t = i / 100
        along = -98.0 * exp(-(((t - 0.05) / 0.03) ** 2)) if -0.1 < t < 0.3 else 0.3 * sin(7 * t)
        across = 0.1 * along + 0.2 * cos(5 * t)
        imu.append(f"{t:.4f},{across:.3f},{-along:.3f},{9.81 + 0.2 * sin(11 * t):.3f},,,,0")
    track = ["t_s,latitude_deg,longitude_deg,accuracy_m,heading_deg,speed_mps"]
    lat, lon = 31.2300000, 121.4700000
    for t in range(-60, 11):
        v = speed(t) if t < 1 else 0.0
        lat += v * cos(radians(30 + t / 2)) / 111_195
        lon += v * sin(radians(30 + t / 2)) / 95_000
        track.append(f"{t + 0.02:.3f},{lat:.7f},{lon:.7f},2.4,{30 + t / 2:.1f},{v:.2f}")
    return {name: "\n".join([*rows, ""]).encode() for name, rows in
            (("before.csv", before), ("imu.csv", imu), ("track.csv", track))}  # fmt: skip


def hit(**changed: Any) -> Crash:
    """Return a collision from the front: 22 km/h in 0.11 s, as `tables` show it."""
    crash = msgspec.structs.replace(crash_at(T0_NS), latitude=31.2371, longitude=121.4712, peak_mps2=98.1)
    return msgspec.structs.replace(crash, **changed)


def write_tables(folder: Path, crash: Crash, complete: bool = True) -> None:
    """Write what the incident recorder writes."""
    parts = [Part(file=name, rows=10, first_s=-5.0, last_s=5.0, units={"t_s": "s"}, sources={}) for name in tables()]
    record = Record(
        format="roadwitness-crash/1",
        incident=crash.id,
        boot=BOOT,
        t0_ns=crash.t_ns,
        complete=complete,
        final=True,
        reached_s=10.0 if complete else 0.7,
        gaps_s=[],
        flags_s={},
        video=Video(from_ns=crash.t_ns - 15 * S, to_ns=crash.t_ns + 10 * S),
        mount=MOUNT,
        crash=crash,
        tables=parts,
    )
    write_files(folder, {**tables(), "crash.json": encoded(record)})


def add_film(folder: Path, scratch: Path, codec: str = "h264", seconds: float = 6.0) -> None:
    """Film and cut a short clip around time zero, as dashcam and clip cutter do."""
    make_film = film_h264 if codec == "h264" else _mjpeg
    begins = T0_NS - 3 * S
    source = make_film(scratch / f"road-{codec}.{'mp4' if codec == 'h264' else 'avi'}", seconds)
    run_whole(config(fast(source, start_ns=begins)), scratch / f"v-{codec}")
    cues = tuple((T0_NS + i * S, f"{3.6 * speed(i):.0f} km/h") for i in range(-3, 4))
    make(Wanted(folder, scratch / f"v-{codec}", FILM_BOOT, begins + S // 2, begins + 5 * S, T0_NS, cues))


def _mjpeg(path: Path, seconds: float) -> Path:
    return film(path, "mjpeg", seconds)


@dataclass
class Box:
    """A device: its store and its packages on disk."""

    folder: Path
    crash: Crash = field(default_factory=hit)
    store: Store = field(init=False)
    missing: list[Missing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.store = Store.open(self.folder)
        self._packager: Packager | None = None

    @property
    def package(self) -> Path:
        return self.folder / PACKAGES / self.crash.id

    def crashes(self, films: str = "h264", complete: bool = True) -> None:
        """Store the crash and write its package, signed."""
        begin(self.store, self.crash, clocks=(clock(5 * S),))
        write_tables(self.package, self.crash, complete)
        if films:
            add_film(self.package, self.folder, films)
        self.pack()

    def pack(self) -> list[Package]:
        if self._packager is None:
            material = lambda _: Material(missing=self.missing)  # noqa: E731
            self._packager = Packager(self.store, self.folder / PACKAGES, BOOT, material)
        return self._packager.tend(T0_NS + 30 * S)


class Insurer:
    """A receiver with its files; `now` is when things arrive."""

    def __init__(self, folder: Path, url: str = "", **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.url = url or f"sqlite:///{folder / 'receiver.db'}"
        self.engine = db.open_database(self.url)
        self.files = FileStore(FileSettings(root=str(folder / "files"), **settings), self.url)
        self.ingest = Ingest(self.engine, self.files)
        self.root = folder / "files"

    def enrol(self, box: Box) -> None:
        devices.enrol(self.engine, box.store.public_key.hex())

    def take_records(self, box: Box, now: int = NOW, lanes: Sequence[str] = LANES, most: int = 1000) -> None:
        """Send what the device's lanes hold, from their beginning; what is known already is recognised."""
        for lane in lanes:
            entries = box.store.pending(lane, 0, 1 << 22)[:most]
            if entries:
                payload = messages.encode_batch(entries)
                self.ingest.take(messages.topic(box.store.device, "up", lane), payload, now)
        assert not self.ingest.counts.refused

    def take_file(self, box: Box, path: Path, now: int = NOW, share: float = 1.0, data: bytes | None = None) -> None:
        """Send a file's chunks, or only the first of them."""
        data = path.read_bytes() if data is None else data
        name = hashlib.sha256(data).hexdigest()
        for at in range(0, int(len(data) * share), 65_536):
            chunk = data[at : at + 65_536]
            self.ingest.take(filemessages.chunk_topic(box.store.device, name, at, chunk), chunk, now)
        if share == 1.0:
            self.ingest.take(filemessages.fin_topic(box.store.device, name, len(data)), b"", now)

    def take_files(self, box: Box, now: int = NOW, but: Sequence[str] = ()) -> None:
        for path in sorted(box.package.iterdir()):
            if path.name not in but:
                self.take_file(box, path, now)

    def settle(self) -> None:
        """Do what reception does with packages that became whole."""
        for arrival in untold(self.engine):
            arrived(self.engine, self.files, arrival)
            told(self.engine, arrival)

    def take_all(self, box: Box, now: int = NOW) -> None:
        self.enrol(box)
        self.take_records(box, now)
        self.take_files(box, now)
        self.settle()


def address(box: Box, tail: str = "") -> str:
    return f"/vehicles/{box.store.device}/crashes/{box.crash.id}{tail}"
