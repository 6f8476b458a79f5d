"""CAN frames to physical values, every signal of the DBC: our kernels beside cantools and asammdf, in one run.

The recording is the RAV4 minute of ../shared/data repeated to a million frames and more; where it is absent, random
frames of our simulated car. All start from frames in memory and end with numbers in memory: cantools with a dictionary
a frame, asammdf with every signal read out, ours with blocks of a batch each. The limit is copying the same bytes.
"""

import lzma
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agent.blocks import EXTENDED, Frames, empty_frames
from drivers.decode.dbc import load_dbc
from drivers.decode.tables import Decoder, compile_all

ROOT = Path(__file__).resolve().parents[1]
RAV4 = ROOT.parent / "shared" / "data" / "can" / "rav4"
FRAMES = 1_200_000
BATCH = 16_384  # what a replay hands over at a time
RUNS = 5
SLOW_RUNS = 3


def main() -> None:
    """Print the table for the powertrain bus alone, which the DBC describes, and for both buses."""
    if RAV4.exists():
        frames, buses = _candump(RAV4 / "rav4_60s.candump.log.xz")
        dbc = RAV4 / "toyota_new_mc_pt_generated.dbc"
        powertrain = Frames(*(a[frames.bus == buses.index("can0")] for a in frames))
        _table("RAV4, powertrain bus", _repeat(powertrain), buses, dbc)
        _table("RAV4, powertrain and radar bus", _repeat(frames), buses, dbc)
    else:
        dbc = ROOT / "config" / "dbc" / "simcar.dbc"
        _table("random frames of the simulated car", _repeat(_random_frames(dbc)), ["can0"], dbc)


def _table(title: str, frames: Frames, buses: list[str], dbc: Path) -> None:
    n = len(frames.t)
    decoder = Decoder(compile_all(load_dbc(dbc)))
    batches = [Frames(*(a[i : i + BATCH] for a in frames)) for i in range(0, n, BATCH)]
    samples = sum(len(decoder.decode(b, buses)) for b in batches)
    print(f"{title}: {n:,} frames, {samples:,} samples, {decoder.decoded / n:.0%} of the frames in the DBC")

    def ours() -> None:
        for batch in batches:
            decoder.decode(batch, buses)

    ours_s = _best(ours, RUNS)
    rows = [("ours, every signal into blocks", ours_s)]
    rows.append(("cantools decode_message, a dictionary a frame", _best(_cantools(frames, dbc), SLOW_RUNS)))
    with tempfile.TemporaryDirectory() as folder:
        rows.append(("asammdf extract_bus_logging, every signal read", _best(_asammdf(frames, dbc, folder), SLOW_RUNS)))
    rows.append(("limit: copying the same bytes in and out", _best(_copy(batches, samples), RUNS)))
    for name, seconds in rows:
        print(f"  {name:48} {n / seconds / 1e6:8.2f} M frames/s   ours is {seconds / ours_s:6.1f} x")


def _best(work: Callable[[], None], runs: int) -> float:
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def _cantools(frames: Frames, dbc: Path) -> Callable[[], None]:
    import cantools

    database = cantools.database.load_file(dbc, strict=False)
    known = {m.frame_id for m in database.messages}
    lengths = frames.len.tolist()
    rows = [(i, frames.data[k, : lengths[k]].tobytes()) for k, i in enumerate(frames.id.tolist())]

    def work() -> None:
        decode = database.decode_message
        for identifier, data in rows:
            if identifier in known:
                decode(identifier, data, decode_choices=False, allow_truncated=True)

    return work


def _asammdf(frames: Frames, dbc: Path, folder: str) -> Callable[[], None]:
    from asammdf import MDF, Signal
    from asammdf.blocks.v4_blocks import SourceInformation
    from asammdf.blocks.v4_constants import BUS_TYPE_CAN, SOURCE_BUS

    part = "CAN_DataFrame."
    layout = [("BusChannel", "u1"), ("ID", "<u4"), ("IDE", "u1"), ("DLC", "u1"), ("DataLength", "u1")]
    fields = [(part + name, kind) for name, kind in layout]
    rows = np.zeros(len(frames.t), [*fields, (part + "DataBytes", "(8,)u1"), (part + "Dir", "u1")])
    rows[part + "BusChannel"] = frames.bus + 1
    rows[part + "ID"] = frames.id
    rows[part + "IDE"] = frames.flags & EXTENDED
    rows[part + "DLC"] = rows[part + "DataLength"] = frames.len
    rows[part + "DataBytes"] = frames.data
    source = SourceInformation(source_type=SOURCE_BUS, bus_type=BUS_TYPE_CAN)
    log = Path(folder) / "frames.mf4"
    with MDF(version="4.10") as mdf:
        mdf.append(Signal(name="CAN_DataFrame", samples=rows, timestamps=frames.t / 1e9, source=source))
        mdf.save(log)
    buses = [(str(dbc), int(b) + 1) for b in np.unique(frames.bus)]

    def work() -> None:
        with MDF(log) as mdf, mdf.extract_bus_logging({"CAN": buses}) as signals:
            for g, group in enumerate(signals.groups):
                for c in range(len(group.channels)):
                    signals.get(group=g, index=c)

    return work


def _copy(batches: list[Frames], samples: int) -> Callable[[], None]:
    from agent.blocks import BLOCK

    buffers = [np.empty_like(a) for a in batches[0]]
    each = samples // len(batches)
    source, target = np.zeros(each, BLOCK), np.zeros(each, BLOCK)

    def work() -> None:
        for batch in batches:
            for buffer, column in zip(buffers, batch, strict=True):
                buffer[: len(column)] = column
            target.view(np.uint8)[:] = source.view(np.uint8)

    return work


def _repeat(frames: Frames) -> Frames:
    """Repeat a recording to `FRAMES` frames, one after the other in time."""
    times = -(-FRAMES // len(frames.t))
    span = int(frames.t[-1]) - int(frames.t[0]) + 1_000_000
    later = np.repeat(np.arange(times, dtype=np.int64) * span, len(frames.t))
    repeated = [np.concatenate([a] * times) for a in frames]
    return Frames(repeated[0] + later, *repeated[1:])


def _candump(path: Path) -> tuple[Frames, list[str]]:
    with lzma.open(path, "rt") as lines:
        rows = [line.split() for line in lines]
    buses = sorted({bus for _, bus, _ in rows})
    frames = empty_frames(len(rows))
    for i, (stamp, bus, text) in enumerate(rows):
        identifier, _, data = text.partition("#")
        frames.t[i] = round(float(stamp[1:-1]) * 1e9)
        frames.bus[i], frames.id[i], frames.len[i] = buses.index(bus), int(identifier, 16), len(data) // 2
        frames.flags[i] = EXTENDED if len(identifier) == 8 else 0
        frames.data[i, : len(data) // 2] = np.frombuffer(bytes.fromhex(data), np.uint8)
    return frames, buses


def _random_frames(dbc: Path) -> Frames:
    """Make frames of the DBC's messages, each as often as the others, with random data."""
    messages = load_dbc(dbc).messages
    rng = np.random.default_rng(1)
    frames = empty_frames(100_000)
    which = rng.integers(0, len(messages), len(frames.t))
    frames.t[:] = np.arange(len(frames.t)) * 250_000  # a saturated 500 kbit/s bus: 4,000 frames/s
    frames.id[:] = np.array([m.id for m in messages])[which]
    frames.len[:] = np.array([m.length for m in messages])[which]
    frames.data[:] = rng.integers(0, 256, frames.data.shape)
    frames.data[:, 0] &= 1  # pages of the multiplexed message that exist
    frames.data[np.arange(8) >= frames.len[:, None]] = 0
    return frames
