"""Events and trips on recordings that others labelled: recall, extra events per hour, trip boundaries.

Everything goes the live way: samples into the spine, records out. Labels are people's or other makers' opinions; where
a set does not tell something (driverbehaviour: speed, vehicle axes; blackbox: what was between whole seconds) no event
can.
"""

import csv
import lzma
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.blocks import BLOCK, Block
from agent.channels import number
from agent.clock import NS_PER_S, monotonic_ns
from agent.detect.settings import DetectionSettings
from agent.fuse.settings import FusionSettings
from agent.records import Event, Trip
from agent.spine import Spine
from agent.trips import TripSettings

DATA: Final = Path(__file__).resolve().parents[1].parent / "shared" / "data"
OVERLAP_S: Final = 1.5
G: Final = 9.80665
MPH: Final = 0.44704
MAKER_G: Final = 0.35  # the black box maker's rule: |ax| or |ay| at 1 Hz
BOUNDARY_S: Final = 30.0
STEP_SAMPLES: Final = 20_000

KINDS: Final = {
    "freada_agressiva": "braking",
    "aceleracao_agressiva": "acceleration",
    "curva_direita_agressiva": "right turn",
    "curva_esquerda_agressiva": "left turn",
    "troca_faixa_direita_agressiva": "right lane change",
    "troca_faixa_esquerda_agressiva": "left lane change",
    "evento_nao_agressivo": "not aggressive",
}


class Drive(NamedTuple):
    """What a recording gave."""

    events: list[Event]
    trips: list[Trip]
    hours: float
    wall_s: float
    rows: int


def play(columns: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]) -> Drive:
    """Send channels, each (seconds, values), through the spine; times are from the recording's start."""
    parts = []
    for name, (seconds, values) in columns.items():
        known = ~np.isnan(values)
        part = np.empty(int(known.sum()), BLOCK)
        part["t"] = np.rint(seconds[known] * NS_PER_S).astype(np.int64)
        part["channel"] = number(name)
        part["value"] = values[known]
        parts.append(part)
    block: Block = np.concatenate(parts)
    block = block[np.argsort(block["t"], kind="stable")]
    spine = Spine(FusionSettings(), DetectionSettings(), TripSettings())
    outputs = []
    begin = monotonic_ns()
    for first in range(0, len(block), STEP_SAMPLES):
        outputs.append(spine.step(block[first : first + STEP_SAMPLES]))
    outputs.append(spine.finish())
    wall_s = (monotonic_ns() - begin) / NS_PER_S
    return Drive(
        [e for o in outputs for e in o.events],
        [t for o in outputs for t in o.trips],
        float(block["t"][-1] - block["t"][0]) / NS_PER_S / 3600,
        wall_s,
        sum(len(rows) for o in outputs for rows in o.rows),
    )


def table(path: Path) -> list[dict[str, str]]:
    """Read a compressed CSV file."""
    with lzma.open(path, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def harsh(events: list[Event]) -> list[Event]:
    """Return the events that are about force."""
    return [e for e in events if e.kind.startswith("harsh")]


def touches(event: Event, start_s: float, end_s: float, slack_s: float = OVERLAP_S) -> bool:
    """Say whether an event overlaps a labelled interval, give or take `slack_s`."""
    begin = event.t_ns / NS_PER_S
    return begin <= end_s + slack_s and begin + event.duration_ns / NS_PER_S >= start_s - slack_s


def counted(events: list[Event]) -> str:
    """Write the events by kind and severity in one line."""
    names = Counter(
        f"{e.kind.removeprefix('harsh_')} {e.severity if e.confirmed else e.severity + '?'}" for e in events
    )
    return ", ".join(f"{n} {name}" for name, n in sorted(names.items())) or "none"


def phone(folder: Path) -> tuple[Drive, list[tuple[str, float, float]]]:
    """Play one trip of the labelled phone set: accelerometer and gyroscope only, in earth axes."""
    columns: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
    starts = []
    for name, channel, scale in (
        ("acelerometro_terra", "Acceleration", 1.0),
        ("giroscopio_terra", "AngularVelocity", float(np.degrees(1.0))),
    ):
        rows = table(folder / f"{name}.csv.xz")
        seconds = np.array([int(r["uptimeNanos"]) for r in rows]) / NS_PER_S
        starts.append(seconds[0])
        for axis in "xyz":
            columns[f"Imu.{channel}.{axis.upper()}"] = (seconds, scale * np.array([float(r[axis]) for r in rows]))
    columns = {name: (seconds - min(starts), values) for name, (seconds, values) in columns.items()}
    with (folder / "groundTruth.csv").open(encoding="utf-8") as lines:
        labels = [(r[0], float(r[1]), float(r[2])) for r in csv.reader(lines) if r and r[0] in KINDS]
    return play(columns), labels


def driverbehaviour(folder: Path) -> None:
    """Print the recall of each labelled class and what was found outside the labels."""
    hit: Counter[str] = Counter()
    total: Counter[str] = Counter()
    as_kind: Counter[str] = Counter()
    extra, hours = 0, 0.0
    for trip in sorted(p for p in folder.iterdir() if p.is_dir()):
        drive, labels = phone(trip)
        events = harsh(drive.events)
        hours += drive.hours
        for label, start, end in labels:
            found = [e for e in events if touches(e, start, end)]
            total[KINDS[label]] += 1
            hit[KINDS[label]] += bool(found)
            as_kind[f"{KINDS[label]} as {found[0].kind.removeprefix('harsh_')}" if found else ""] += 1
        extra += sum(not any(touches(e, s, t) for _, s, t in labels) for e in events)
    print("events/driverbehaviour: phone, 50 Hz inertial sensor only, labels by people (±1.5 s overlap)")
    for name in total:
        kinds = ", ".join(f"{n} {k.split(' as ')[1]}" for k, n in as_kind.items() if k.startswith(name + " as "))
        print(f"  {name:20} {hit[name]:2} of {total[name]:2}   {kinds}")
    aggressive = [name for name in total if name != "not aggressive"]
    found_n, labelled = sum(hit[n] for n in aggressive), sum(total[n] for n in aggressive)
    print(f"  recall of what people called aggressive {found_n}/{labelled} = {found_n / labelled:.2f}")
    print(f"  outside all labels {extra} = {extra / hours:.1f} per hour (unlabelled manoeuvres exist)")


def blackbox(path: Path) -> None:
    """Print agreement with the maker's rule and with its ignition cycles."""
    rows = table(path)

    def column(name: str, scale: float = 1.0) -> npt.NDArray[np.float64]:
        return scale * np.array([float(r[name]) if r[name] not in ("", "NA") else np.nan for r in rows])

    stamps = [datetime.fromisoformat(r["time_utc"]).replace(tzinfo=UTC).timestamp() for r in rows]
    seconds = np.array(stamps) - stamps[0]
    order = np.argsort(seconds, kind="stable")
    by_obd = np.array([r["speed_source"] == "obd" for r in rows])
    names = {
        "Gnss.Latitude": column("gps_lat"),
        "Gnss.Longitude": column("gps_long"),
        "Gnss.FixType": column("gps_fix"),
        "Gnss.Heading": column("gps_heading"),
        "Gnss.HorizontalAccuracy": column("gps_hdop", 3.0),
        "Gnss.Speed": np.where(by_obd, np.nan, column("speed_mph", MPH)),
        "Obd.Speed": np.where(by_obd, column("speed_mph", MPH), np.nan),
        "Obd.EngineSpeed": column("engine_rpm"),
        **{f"Imu.Acceleration.{a.upper()}": column(f"accel_{a}", G) for a in "xyz"},
        **{f"Imu.AngularVelocity.{a.upper()}": column(f"gyro_{a}") for a in "xyz"},
    }
    drive = play({name: (seconds[order], values[order]) for name, values in names.items()})
    events = harsh(drive.events)
    strong = np.flatnonzero((np.abs(column("accel_x")) >= MAKER_G) | (np.abs(column("accel_y")) >= MAKER_G))
    agreed = sum(any(touches(e, seconds[i], seconds[i], 2.0) for e in events) for i in strong)
    ours = sum(any(touches(e, seconds[i], seconds[i], 2.0) for i in strong) for e in events)
    sums = np.hypot(column("accel_x"), column("accel_y"))
    km = sum(t.distance_m for t in drive.trips) / 1000
    print("events/blackbox: GPS, accelerometer and gyro once a second; maker's rule |ax| or |ay| >= 0.35 g")
    print(f"  maker {len(strong)} seconds (largest {np.nanmax(sums):.2f} g), of them ours too {agreed}")
    print(f"  ours {len(events)} ({counted(events)}), of them at a maker's second {ours}; {km:.0f} km")

    cycles: dict[str, list[float]] = {}
    for r, s in zip(rows, seconds, strict=True):
        cycles.setdefault(r["drive"], []).append(float(s))
    spans = [(min(v), max(v)) for v in cycles.values()]
    starts, ends, whole = [], [], 0
    for first, last in spans:
        trips = [t for t in drive.trips if t.start_ns / NS_PER_S <= last and t.end_ns / NS_PER_S >= first]
        inside = [t for t in trips if t.start_ns / NS_PER_S >= first - 2 and t.end_ns / NS_PER_S <= last + 2]
        whole += len(trips) == 1 and len(inside) == 1
        if trips:
            starts.append(abs(trips[0].start_ns / NS_PER_S - first))
            ends.append(abs(trips[-1].end_ns / NS_PER_S - last))
    print(f"  ignition cycles {len(spans)}, trips {len(drive.trips)}, cycles that are exactly one trip {whole}")
    near = sum(s <= BOUNDARY_S for s in starts), sum(e <= BOUNDARY_S for e in ends)
    print(
        f"  starts within {BOUNDARY_S:.0f} s {near[0]}, ends {near[1]}; "
        f"median difference {np.median(starts):.0f} s and {np.median(ends):.0f} s"
    )


def carobd(folder: Path) -> None:
    """Print the events and trips of each OBD session."""
    print("obd/carobd: OBD speed alone, each value really refreshed about every 1.8 s")
    for path in sorted(folder.glob("*.csv.xz")):
        with lzma.open(path, "rt", encoding="utf-8", errors="replace") as lines:
            names = [n.strip() for n in next(lines).split(",")]
            rows = [line.split(",") for line in lines if line.strip()]
        speed, rpm = (
            np.array([float(r[at]) if r[at].strip() else np.nan for r in rows])
            for at in (names.index("VEHICLE_SPEED ()"), names.index("ENGINE_RPM ()"))
        )
        seconds = np.arange(len(rows)) / 2
        drive = play({"Obd.Speed": (seconds, speed / 3.6), "Obd.EngineSpeed": (seconds, rpm)})
        events = harsh(drive.events)
        km = sum(t.distance_m for t in drive.trips) / 1000
        per_hour, confirmed = len(events) / drive.hours, sum(e.confirmed for e in events)
        print(
            f"  {path.name.removesuffix('.csv.xz'):8} {drive.hours * 60:5.1f} min  {len(drive.trips)} trips"
            f" {km:5.1f} km  {per_hour:5.1f} harsh events an hour, confirmed {confirmed}: {counted(drive.events)}"
        )


def sets() -> Iterator[tuple[Path, Callable[[Path], None]]]:
    """Yield each labelled set and what measures it."""
    yield DATA / "events" / "driverbehaviour", driverbehaviour
    yield DATA / "events" / "blackbox" / "nds_data_dev.csv.xz", blackbox
    yield DATA / "obd" / "carobd", carobd


def main() -> None:
    """Measure every set that is there."""
    for path, measure in sets():
        if path.exists():
            measure(path)
        else:
            print(f"{path.name}: not measured, the recordings are not beside this checkout")
        print()


if __name__ == "__main__":
    main()
