"""How fast 10,000 trips of one vehicle become files, and in how much memory, beside reading everything first.

Seconds are of processor time. The alternative is the obvious script: bare sqlite3, one query for all trips with their
tracks, everything decoded into lists, then written by `csv`. The floor is that query and its decoding alone. Each runs
in a process of its own.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from receiver import db
from tests.pages import NOW, Desk, S, clock_at, drive

TRIPS = 10_000
APART_NS = 3600 * S
ROOT = Path(__file__).resolve().parents[1]

READ = """
import csv, json, sqlite3, sys
from itertools import accumulate
found = sqlite3.connect(sys.argv[1]).execute(
    "select trip.id, trip.t_ns, c.offset_ns, e.body from trip"
    " join boot_clock c on c.device = trip.device and c.boot = trip.boot"
    " join track k on k.device = trip.device and k.boot = trip.boot and k.trip_t_ns = trip.t_ns"
    " join entry e on e.device = k.device and e.lineage = k.lineage and e.lane = k.lane and e.seq = k.seq"
    " order by trip.t_ns + c.offset_ns").fetchall()
rows = []
for number, _, offset_ns, body in found:
    t = json.loads(body)
    columns = (accumulate(t[name]) for name in ("dt_ms", "dlat_e7", "dlon_e7"))
    for ms, lat, lon, v in zip(*columns, t["speed_cmps"]):
        rows.append((number, t["start_ns"] + ms * 1000000 + offset_ns, lat / 1e7, lon / 1e7, v / 100))
"""
WRITE = READ + "\nwith open(sys.argv[2], 'w', newline='') as out:\n    csv.writer(out).writerows(rows)\n"


def fill(desk: Desk) -> str:
    """Store the trips through ingest; return the device's name."""
    source = desk.enrol()
    one = [r for r in drive(0, 1200) if type(r).__name__ != "Curve"]
    for first in range(0, TRIPS, 100):
        records: list[Any] = [clock_at(NOW - (TRIPS - first) * APART_NS)]
        for n in range(100):
            by_ns = n * APART_NS
            for r in one:
                names = [f for f in ("start_ns", "end_ns", "trip_start_ns") if hasattr(r, f)]
                records.append(replace(r, **{f: getattr(r, f) + by_ns for f in names}))
        desk.send(source, records, f"boot-{first}")
    return source.device


# What a process used is asked of itself: the kernel's account of a child begins with its parent's pages.
PEAK = """
import atexit, sys, time
def told():
    kb = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
    print(time.process_time(), kb, file=sys.stderr)
atexit.register(told)
"""
COMMAND = (
    PEAK + "import runpy; sys.argv[0] = 'roadwitness'; runpy.run_module('agent', run_name='__main__', alter_sys=False)"
)


def timed(command: list[str]) -> tuple[float, float]:
    """Run Python code; return its seconds of processor time and its largest memory in MB."""
    done = subprocess.run([sys.executable, "-c", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[1:]}: {done.stderr}")
    took_s, kb = done.stderr.split()[-2:]
    return float(took_s), int(kb) / 1024


def main() -> None:
    """Print seconds, points a second, memory and bytes of every format."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "receiver.db", Path(folder) / "out"
        desk = Desk(db.open_database(f"sqlite:///{path}"))
        device = fill(desk)
        desk.engine.dispose()
        points = TRIPS * 41
        command = [COMMAND, "receiver", "export", device, "--db", f"sqlite:///{path}"]
        idle_s, idle_mb = timed([*command, "--format", "csv", "--to", "1971-01-01", "--out", str(out)])
        floor_s, floor_mb = timed([PEAK + READ, str(path), str(out)])
        bare_s, bare_mb = timed([PEAK + WRITE, str(path), str(out)])
        print(f"{TRIPS:,} trips, {points:,} points; ratios to the bare script (everything read, then csv)")
        line = "{:<28} {:>7.2f} s {:>10,.0f} points/s {:>6.2f} of bare {:>7.0f} MB {:>6.2f} of bare {:>8.1f} MB file"
        size = out.stat().st_size / 1e6
        print(line.format("bare sqlite3 + csv", bare_s, points / bare_s, 1.0, bare_mb, 1.0, size))
        print(
            line.format(
                "floor: query and decode", floor_s, points / floor_s, bare_s / floor_s, floor_mb, floor_mb / bare_mb, 0
            )
        )
        for format in ("csv", "gpx", "geojson", "parquet"):
            took_s, mb = timed([*command, "--format", format, "--out", str(out)])
            size = out.stat().st_size / 1e6
            name = f"export tracks as {format}"
            print(line.format(name, took_s, points / took_s, bare_s / took_s, mb, mb / bare_mb, size))
        for what in ("trips",):
            took_s, mb = timed([*command, "--what", what, "--format", "csv", "--out", str(out)])
            size = out.stat().st_size / 1e6
            print(f"export {what} as csv            {took_s:>7.2f} s, {mb:.0f} MB, {size:.1f} MB file")
        print(f"start of the command, nothing to export: {idle_s:.2f} s, {idle_mb:.0f} MB")


if __name__ == "__main__":
    main()
