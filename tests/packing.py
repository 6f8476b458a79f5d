"""A store with a crash in it and the folder of its package, made small, for tests of evidence."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.evidence import verify_package as verifier
from agent.evidence.manifest import Material
from agent.evidence.packager import Packager
from agent.incident.folder import PACKAGES, Part, Record, Request, Video, ask, encoded, write_files
from agent.records import Clock, Crash, Health, Mount, incident_id
from agent.store import Store
from tests import sample_records

S = 1_000_000_000
UTC_NS = 1_790_000_000 * S
BOOT = "5f3c-boot"
T0_NS = 1_000 * S


def crash_at(t0_ns: int, *, boot: str = BOOT, complete: bool = True) -> Crash:
    made = sample_records.crash()
    return msgspec.structs.replace(
        made, id=incident_id(boot, t0_ns), t_ns=t0_ns, known_ns=t0_ns + 40_000_000, complete=complete
    )


def clock(t_ns: int, offset_ns: int = UTC_NS, quality: str = "gnss") -> Clock:
    return Clock(t_ns=t_ns, offset_ns=offset_ns, quality=quality, uncertainty_ns=300_000_000)  # type: ignore[arg-type]


def begin(store: Store, *crashes: Crash, clocks: tuple[Clock, ...] = (), boot: str = BOOT) -> None:
    """Store a boot with what stands around a crash, and the crashes, told twice each."""
    store.begin_boot(boot)
    mount = Mount(t_ns=20 * S, gravity=(0.0, 0.0, 1.0), forward=(1.0, 0.0, 0.0), confidence=0.97)
    ok = Health(t_ns=10 * S, source="imu:box", state="ok", detail="400 samples a second", counts={"clipped": 0})
    lost = Health(t_ns=T0_NS + 2 * S, source="gps", state="lost", detail="no fix")
    said = clocks or (clock(5 * S),)
    store.append([*((c.t_ns, c) for c in said), (mount.t_ns, mount), (ok.t_ns, ok)])
    store.append([(T0_NS - 30 * S, msgspec.structs.replace(sample_records.event(), t_ns=T0_NS - 30 * S))])
    for crash in crashes:
        early = msgspec.structs.replace(crash, complete=False, delta_v_max_ns=None)
        store.append([(crash.known_ns, early)])
    for crash in crashes:
        store.append([(crash.t_ns + S, crash)])
    store.append([(lost.t_ns, lost)])


def write_record(store_folder: Path, crash: Crash, *, boot: str = BOOT, complete: bool = True) -> Path:
    """Write the files that the incident recorder makes, and return the folder."""
    tables = {"before.csv": 200, "imu.csv": 4000, "track.csv": 70}
    units = {"t_s": "s", "speed_mps": "m/s"}
    record = Record(
        format="roadwitness-crash/1",
        incident=crash.id,
        boot=boot,
        t0_ns=crash.t_ns,
        complete=complete,
        final=True,
        reached_s=10.0 if complete else 0.7,
        gaps_s=[],
        flags_s={},
        video=Video(from_ns=crash.t_ns - 15 * S, to_ns=crash.t_ns + 10 * S),
        mount=None,
        crash=crash,
        tables=[
            Part(file=name, rows=rows, first_s=-5.0, last_s=5.0, units=units, sources={"speed_mps": "Vehicle.Speed"})
            for name, rows in tables.items()
        ],
    )
    folder = store_folder / PACKAGES / crash.id
    rows = {name: b"t_s,speed_mps\n" + b"-0.1,13.9\n" * (count // 10) for name, count in tables.items()}
    write_files(folder, {**rows, "crash.json": encoded(record)})
    return folder


def add_video(folder: Path) -> None:
    """Add what the clip cutter adds."""
    write_files(
        folder, {"clip-front.mp4": bytes(range(256)) * 40, "track-front.vtt": b"WEBVTT\n", "poster-front.jpg": b"\xff"}
    )


def packed(
    store_folder: Path,
    store: Store,
    crash: Crash | None = None,
    material: Callable[[object], Material] = lambda _: Material(),
    clocks: tuple[Clock, ...] = (),
) -> Path:
    """Store a crash, write its files with a video, pack them, and return the folder."""
    crash = crash or crash_at(T0_NS)
    begin(store, crash, clocks=clocks)
    folder = write_record(store_folder, crash)
    add_video(folder)
    told = Packager(store, store_folder / PACKAGES, BOOT, material).tend(T0_NS + 30 * S)
    assert len(told) == 1
    return folder


def asked(store_folder: Path, t_ns: int = T0_NS) -> Path:
    """Begin a package that somebody asked for."""
    request = Request(
        incident=incident_id(BOOT, t_ns),
        boot=BOOT,
        t_ns=t_ns,
        video=Video(from_ns=t_ns - S, to_ns=t_ns + S),
        reason="command",
    )
    return ask(store_folder / PACKAGES, request)


def faults(folder: Path, key: str | None = None) -> dict[str, str]:
    """Return the first thing that the verifier finds of each file or record."""
    report = verifier.verify(str(folder), key)
    assert report.whole == (not report.faults)
    return {fault.where: fault.cause for fault in reversed(report.faults)}
