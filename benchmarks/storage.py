"""Stored blocks beside rows, Parquet and gzip candump of the same samples; the store's appends beside plain SQLite.

Samples: ten signals of a simulated commute at 10 Hz, everything that its bus gives, and a real trip with its IMU
(../shared/data, where present). All keep the same numbers, quantised as the store quantises them; the limit is the
order-0 entropy of the quantised differences, which a coder that knew their frequencies beforehand would reach.
"""

import gzip
import importlib.util
import io
import itertools
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

import numpy as np

from agent.blocks import BLOCK, Block, join_blocks
from agent.channels import BY_NUMBER
from agent.columnar import TIME_UNIT_NS, decode, encode, quantum_code
from agent.config import config_dir
from agent.records import Health
from agent.store import Store
from drivers.decode.obd import ObdDecoder
from drivers.decode.profile import load_profile
from drivers.replay import Replay
from sim.drive import simulate
from sim.record import write_drive

TRIP164 = Path(__file__).resolve().parents[2] / "shared" / "data" / "can" / "trip164" / "trip164.candump.log.xz"
MINUTES = 20.0
HOUR_S = 3600.0
S = 1_000_000_000
LANE_APPENDS = 500


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        commute = simulate("commute", 1, MINUTES)
        log = next(p for p in write_drive(commute, Path(folder) / "commute.log") if p.suffix == ".log")
        bus = _decoded(log, "simcar")
        _table("ten signals at 10 Hz, simulated commute", _ten_at_10_hz(bus), None)
        _table("whole bus and OBD, simulated commute", bus, log.read_bytes())
        if TRIP164.exists():
            import lzma

            trip = _decoded(TRIP164, "canmod")
            _table("trip164: GNSS, IMU at 101 Hz, OBD", trip, lzma.decompress(TRIP164.read_bytes()))
        else:
            print("trip164: skipped, ../shared/data is not here")
            trip = bus
        _appends(Path(folder), trip)
        _lanes(Path(folder))
        _live(Path(folder), trip)


def _decoded(log: Path, profile: str) -> Block:
    """Return all samples of a recording, as replay gives them to the store."""
    signals, obd = load_profile(profile, config_dir()).decoder(), ObdDecoder()
    source = Replay(
        [log], lambda frames, buses: join_blocks([signals.decode(frames, buses).copy(), obd.decode(frames)])
    )
    source.open()
    blocks = []
    while (block := source.read(1.0)) is not None:
        blocks.append(block)
    source.close()
    return join_blocks(blocks)


def _ten_at_10_hz(block: Block) -> Block:
    """Return the ten busiest channels, the last value in every tenth of a second."""
    numbers, counts = np.unique(block["channel"], return_counts=True)
    busiest = numbers[np.argsort(-counts, kind="stable")[:10]]
    ticks = np.arange(S, int(block["t"][-1]), S // 10)
    out = np.empty((len(ticks), len(busiest)), BLOCK)
    for i, number in enumerate(busiest):
        own = block[block["channel"] == number]
        out["t"][:, i], out["channel"][:, i] = ticks, number
        out["value"][:, i] = own["value"][np.searchsorted(own["t"], ticks).clip(1) - 1]
    return out.reshape(-1)


def _minutes(block: Block, seconds: float = 60.0) -> list[Block]:
    cuts = np.searchsorted(block["t"], np.arange(seconds * S, int(block["t"][-1]) + 1, seconds * S))
    return [part for part in np.split(block, cuts) if len(part)]


def _table(title: str, block: Block, candump: bytes | None) -> None:
    """Print bytes per driving hour of every way to keep `block`."""
    hours = (int(block["t"][-1]) - int(block["t"][0])) / S / HOUR_S
    print(f"\n{title}: {len(block):,} samples in {hours:.2f} h")
    begin = time.perf_counter()
    encoded = [encode(part) for part in _minutes(block)]
    encode_s = time.perf_counter() - begin
    begin = time.perf_counter()
    for data in encoded:
        decode(data)
    decode_s = time.perf_counter() - begin
    ours = sum(map(len, encoded))
    same = join_blocks([decode(data) for data in encoded])
    ways: list[tuple[str, float | str]] = [
        ("stored blocks, one a minute (ours)", ours),
        ("  the same, 1 ms times", sum(len(encode(part, 1_000_000)) for part in _minutes(block))),
        ("  the same, 1 µs times", sum(len(encode(part, 1000)) for part in _minutes(block))),
        ("  the same, one block each 10 s", sum(len(encode(part)) for part in _minutes(block, 10.0))),
        ("  the same, pieces of 1 s", sum(len(encode(part)) for part in _minutes(block, 1.0))),
        ("SQLite rows (t, channel, value)", _rows_bytes(same, index=False)),
        ("SQLite rows with an index on channel, t", _rows_bytes(same, index=True)),
        ("JSON lines, gzip", len(gzip.compress("\n".join(map(json.dumps, same.tolist())).encode(), 6))),
        ("Parquet zstd, one file", _parquet_bytes(same)),
    ]
    if candump is not None:
        ways.append(("candump text of the whole recording, gzip", len(gzip.compress(candump, 6))))
    ways.append(("limit: order-0 entropy of the differences", _entropy_bytes(block)))
    for name, size in ways:
        if isinstance(size, str):
            print(f"{name:44} {size}")
        else:
            print(f"{name:44} {size / hours / 1000:12,.0f} kB/h {size / ours:8.2f} x ours")
    rate = len(block) / encode_s / 1e6, len(block) / decode_s / 1e6
    print(f"{'encode, decode (one thread)':44} {rate[0]:8.1f}, {rate[1]:.1f} M samples/s")


def _rows_bytes(block: Block, index: bool) -> int:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE sample (t INTEGER, channel INTEGER, value REAL)")
    if index:
        connection.execute("CREATE INDEX sample_when ON sample (channel, t)")
    connection.executemany("INSERT INTO sample VALUES (?, ?, ?)", block.tolist())
    connection.commit()
    (pages,), (size,) = (connection.execute(f"PRAGMA {p}").fetchone() for p in ("page_count", "page_size"))
    connection.close()
    return int(pages) * int(size)


def _parquet_bytes(block: Block) -> int | str:
    if importlib.util.find_spec("pyarrow") is None:
        return "skipped: pyarrow is not installed"
    import pandas

    file = io.BytesIO()
    frame = pandas.DataFrame({name: block[name] for name in BLOCK.names or ()})
    frame.sort_values(["channel", "t"], kind="stable").to_parquet(file, engine="pyarrow", compression="zstd")
    return len(file.getvalue())


def _entropy_bytes(block: Block) -> float:
    """Return the entropy of each channel's quantised differences, and of each distinct column of times once."""
    bits = 0.0
    seen = set()
    for number in np.unique(block["channel"]):
        own = block[block["channel"] == number]
        code = quantum_code(BY_NUMBER[int(number)].quantum)
        scaled = np.rint(own["value"] / code if code > 0 else own["value"] * -code)
        bits += min(_entropy_bits(scaled), _entropy_bits(np.diff(scaled)), _entropy_bits(np.diff(scaled, 2)))
        times = own["t"] // TIME_UNIT_NS
        if times.tobytes() not in seen:
            seen.add(times.tobytes())
            bits += min(_entropy_bits(np.diff(times)), _entropy_bits(np.diff(times, 2)))
    return bits / 8


def _entropy_bits(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    counts = np.unique(numbers, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum()) if len(counts) else 0.0


def _appends(folder: Path, block: Block) -> None:
    """Print samples/s into the store beside rows into SQLite, both with synchronous=FULL."""
    parts = [block[at : at + 1000] for at in range(0, len(block), 1000)]

    def ours() -> None:
        with Store.open(folder / "appends") as store:
            store.begin_boot("bench")
            for part in parts:
                store.append_block(part)

    def rows() -> None:
        connection = sqlite3.connect(folder / "rows.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE sample (t INTEGER, channel INTEGER, value REAL)")
        for part in parts:
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO sample VALUES (?, ?, ?)", part.tolist())
            connection.execute("COMMIT")
        connection.close()

    fast, slow = _seconds(ours), _seconds(rows)
    print(f"\nappend {len(block):,} samples in batches of 1,000, synchronous=FULL")
    print(f"{'store':44} {len(block) / fast:12,.0f} samples/s {slow / fast:8.1f} x rows")
    print(f"{'SQLite rows, one transaction a batch':44} {len(block) / slow:12,.0f} samples/s")
    copy = _seconds(block.copy)
    print(f"{'limit: copying the memory':44} {len(block) / copy:12,.0f} samples/s")


def _lanes(folder: Path) -> None:
    """Print what one durable, chained, signed record costs beside one durable row."""
    connection = sqlite3.connect(folder / "row.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE entry (t INTEGER, body TEXT)")
    ours, plain = [], []
    with Store.open(folder / "lanes") as store:
        store.begin_boot("bench")
        record = Health(t_ns=0, source="gps", state="ok", detail="fix is back")
        for _ in range(LANE_APPENDS):  # by turns, because a disk's sync time wanders
            ours.append(_seconds(lambda: store.append([(0, record)])))
            plain.append(_seconds(lambda: connection.execute("INSERT INTO entry VALUES (1, 'x')")))
        batch = _seconds(lambda: store.append([(0, record)] * LANE_APPENDS))
        check = _seconds(store.verify)
    connection.close()
    print("\none record: chained, signed, durable on return (median, 99 of 100)")
    for name, times in (("store.append", ours), ("one plain row, synchronous=FULL", plain)):
        cuts = quantiles(times, n=100)
        print(f"{name:44} {cuts[49] * 1e6:8.0f} µs {cuts[98] * 1e6:8.0f} µs")
    print(f"{f'store.append of {LANE_APPENDS} at once':44} {LANE_APPENDS / batch:8,.0f} records/s")
    print(f"{'verify, chain and every signature':44} {2 * LANE_APPENDS / check:8,.0f} records/s")


def _live(folder: Path, block: Block) -> None:
    """Print how many bytes reach the disk in an hour of driving at real pace: a piece a second, a block a minute."""
    hours = (int(block["t"][-1]) - int(block["t"][0])) / S / HOUR_S
    ticks = itertools.count(0, S)
    with Store.open(folder / "live", monotonic_ns=lambda: next(ticks)) as store:
        store.begin_boot("bench")
        before = _bytes_written()
        for part in _minutes(block, 1.0):
            store.append_block(part)
        store.flush()
        written = _bytes_written() - before
    pages = sum(p.stat().st_size for p in (folder / "live").iterdir())
    print("\nlive pace: committed each second of driving, folded each minute")
    print(f"{'bytes given to the disk (/proc/self/io)':44} {written / hours / 1e6:8.1f} MB/h")
    print(f"{'bytes kept':44} {pages / hours / 1e6:8.1f} MB/h")


def _bytes_written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
