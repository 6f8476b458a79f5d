"""Live CAN: share of a core at 4,000 frames/s, and frames lost at 8,000, beside python-can recv() + cantools.

This machine's kernel has no CAN, so SocketCAN's receive paths (ours and python-can's own code) read loopback
datagrams with the same bytes, and slcan's a pty. Another process is the bus and sends one frame at a time, evenly.
"""

import os
import pty
import socket
import struct
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.blocks import Frames
from benchmarks.decode import _random_frames
from drivers.can.socketcan import SocketCan
from drivers.can.wire import CanSettings
from drivers.canbus import CanBus
from drivers.decode.profile import load_profile

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config"
DBC = CONFIG / "dbc" / "simcar.dbc"
FRAME = struct.Struct("=IB3x8s")
RATE, SECONDS = 4_000, 4
FULL_RATE, FULL_SECONDS = 8_000, 60
PACKETS = 20_000
WARM_S = 0.5  # of each run, not counted


def main() -> None:
    """Print CPU shares with ratios to python-can on the same wire, then losses at the higher rate."""
    frames = _mapped(_random_frames(DBC))
    with tempfile.TemporaryDirectory() as folder:
        packed, text = Path(folder) / "packed", Path(folder) / "text"
        _write(packed, [FRAME.pack(*f) for f in _rows(frames)])
        _write(text, [f"t{i:03X}{n}{d[:n].hex().upper()}\r".encode() for i, n, d in _rows(frames)])
        print(f"simcar profile, {RATE:,} frames/s for {SECONDS} s each; % of one core, receiving and decoding")
        theirs = _table("datagram socket", "python-can SocketcanBus.recv() + cantools", _their_socket(packed))
        for window_ms in (5, 10, 20):
            _ours(f"ours, window {window_ms} ms", theirs, _our_socket(packed, window_ms))
        theirs = _table("pty", "python-can slcanBus.recv() + cantools", _their_slcan(text))
        for window_ms in (10, 20):
            _ours(f"ours, window {window_ms} ms", theirs, _our_slcan(text, window_ms))
        print(f"nothing lost? {FULL_RATE:,} frames/s for {FULL_SECONDS} s, window 20 ms")
        for name, run in (("datagram socket", _our_socket), ("pty", _our_slcan)):
            share, sent, got = run(packed if run is _our_socket else text, 20, FULL_RATE, FULL_SECONDS)()
            print(f"  {name:44} sent {sent:,}, received {got:,}, lost {sent - got:,}; {share:.2%} of a core")


Result = tuple[float, int, int]  # share of a core, frames sent, frames received


def _table(wire: str, name: str, run: Callable[[], Result]) -> float:
    share, sent, got = run()
    print(f"  {wire}\n    {name:44} {share:8.2%}            {got / sent:.1%} of the frames received")
    return share


def _ours(name: str, theirs: float, run: Callable[[], Result]) -> None:
    share, sent, got = run()
    print(f"    {name:44} {share:8.2%}   1/{theirs / share:<6.1f}  {got / sent:.1%}")


def _mapped(frames: Frames) -> Frames:
    """Keep the frames of messages that the profile maps, as a kernel's filter does for both sides."""
    ids = [e.message.id for e in load_profile("simcar", CONFIG).entries if e.takes]
    keep = [i for i, identifier in enumerate(frames.id.tolist()) if identifier in ids][:PACKETS]
    return Frames(*(column[keep] for column in frames))


def _rows(frames: Frames) -> list[tuple[int, int, bytes]]:
    return [(i, n, d.tobytes()) for i, n, d in zip(frames.id.tolist(), frames.len.tolist(), frames.data, strict=True)]


def _write(path: Path, packets: list[bytes]) -> None:
    path.write_bytes(b"".join(len(p).to_bytes(4, "little") + p for p in packets))


def _bus(fd: int, packets: Path, rate: int, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, str(Path(__file__).with_name("_cansend.py")), str(fd), str(packets)]
    return subprocess.Popen([*command, str(rate), str(seconds)], pass_fds=[fd], stdout=subprocess.PIPE, text=True)


def _measured(bus: "subprocess.Popen[str]", read: Callable[[], int]) -> Result:
    """Read until the bus has ended and nothing comes any more; the share is of the time between first and last."""
    got = since = 0
    began = cpu = wall = used = 0.0
    while True:
        n = read()
        got += n
        now = time.perf_counter()
        if n:
            began = began or now
            if not since and now - began > WARM_S:
                since, cpu, wall = got, time.thread_time(), now
            used, last = time.thread_time(), now
        elif bus.poll() is not None:
            break
    assert bus.stdout is not None
    sent = int(bus.stdout.read())
    return (used - cpu) / (last - wall), sent, got


def _pair() -> tuple[socket.socket, socket.socket]:
    inner, outer = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    inner.bind(("127.0.0.1", 0))
    outer.bind(("127.0.0.1", 0))
    outer.connect(inner.getsockname())
    return inner, outer


def _our_socket(packets: Path, window_ms: int, rate: int = RATE, seconds: float = SECONDS) -> Callable[[], Result]:
    def run() -> Result:
        inner, outer = _pair()
        settings = CanSettings(profile="simcar", window_s=window_ms / 1000)
        driver = CanBus(settings, CONFIG, lambda s: SocketCan(s, lambda name, filters: inner))
        driver.open()
        with outer:
            result = _measured(_bus(outer.fileno(), packets, rate, seconds), _reading(driver))
        driver.close()
        return result

    return run


def _our_slcan(packets: Path, window_ms: int, rate: int = RATE, seconds: float = SECONDS) -> Callable[[], Result]:
    def run() -> Result:
        master, slave = pty.openpty()
        tty.setraw(slave)
        channel = os.ttyname(slave)
        os.write(master, b"\r" * 8)  # taken for the adapter's answers
        settings = CanSettings("slcan", channel, profile="simcar", bit_rate=500_000, window_s=window_ms / 1000)
        driver = CanBus(settings, CONFIG)
        driver.open()
        result = _measured(_bus(master, packets, rate, seconds), _reading(driver))
        driver.close()
        os.close(slave)
        os.close(master)
        return result

    return run


def _reading(driver: CanBus) -> Callable[[], int]:
    def read() -> int:
        before = driver.frames
        driver.read(0.3)
        return driver.frames - before

    return read


def _their_socket(packets: Path) -> Callable[[], Result]:
    import logging

    from can.interfaces.socketcan import socketcan

    def run() -> Result:
        inner, outer = _pair()
        socketcan.create_socket = lambda: inner
        socketcan.bind_socket = lambda *_: None
        logging.getLogger(socketcan.__name__).setLevel(logging.CRITICAL)  # options that only CAN sockets have
        bus = socketcan.SocketcanBus("can0")
        with outer:
            result = _measured(_bus(outer.fileno(), packets, RATE, SECONDS), _usual(bus))
        bus.shutdown()
        return result

    return run


def _their_slcan(packets: Path) -> Callable[[], Result]:
    import can

    def run() -> Result:
        master, slave = pty.openpty()
        tty.setraw(slave)
        bus = can.Bus(interface="slcan", channel=os.ttyname(slave), sleep_after_open=0)
        result = _measured(_bus(master, packets, RATE, SECONDS), _usual(bus))
        bus.shutdown()
        os.close(slave)
        os.close(master)
        return result

    return run


def _usual(bus: Any) -> Callable[[], int]:
    """Receive one message and decode it, as scripts with python-can and cantools do."""
    decode = their_decoder()

    def read() -> int:
        message = bus.recv(0.3)
        if message is None:
            return 0
        decode(message)
        return 1

    return read


def their_decoder() -> Callable[[Any], dict[str, Any]]:
    """Return what decodes with cantools the signals of a python-can message that the profile takes."""
    import cantools

    taken = {e.message.id: e for e in load_profile("simcar", CONFIG).entries if e.takes}
    messages = {}
    for message in cantools.database.load_file(DBC, strict=False).messages:
        entry = taken.get(message.frame_id)
        if entry is None:
            continue
        wanted = {s.name for t in entry.takes for s in (t.signal, *t.plus, *(v.signal for v in t.valid))}
        signals = [s for s in message.signals if s.name in wanted or s.is_multiplexer]
        messages[message.frame_id] = cantools.database.Message(
            message.frame_id, message.name, message.length, signals, strict=False
        )

    def decode(message: Any) -> dict[str, Any]:
        known = messages.get(message.arbitration_id)
        if known is None:
            return {}
        return dict(known.decode(message.data, decode_choices=False, allow_truncated=True))

    return decode
