"""What watching costs: the spine with and without somebody who looks, an answer's size, bytes a second on a terminal.

The terminal is a pty of the given size; ten seconds of a car in motion, of which every value changes each second. The
named alternative is the same view, all of it drawn anew each second.
"""

import fcntl
import math
import os
import pty
import select
import signal
import struct
import tempfile
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agent import clock
from agent.blocks import make_block
from agent.boottime import BootTime
from agent.channels import CHANNELS
from agent.feed import FeedSettings
from agent.feeds import Feeds
from agent.intake import Intake
from agent.ladder import Ladder
from agent.local.desk import Desk
from agent.local.messages import Device, Fused, Lane, Power, Tick, Utc, Value, encode
from agent.local.screen import Live
from agent.local.server import tick_of
from agent.local.view import Parts
from agent.patience import PatientStore
from agent.pipeline import Pipeline
from agent.settings import AgentConfig
from agent.spine import Spine
from agent.store import Store

S = 1_000_000_000
ROUNDS = 200  # of a tenth of a second
PER_ROUND = 400  # samples
SECONDS = 10
SETTLE = 4  # seconds of the first screens
SHOWN = [c for c in CHANNELS if c.number < 100]


def main() -> None:
    """Print both tables."""
    _spine()
    _terminals()


def _spine() -> None:
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name)) as store:
        store.begin_boot("b")
        s, intake = AgentConfig(), Intake(1000, S)
        ladder = Ladder(Path(name), "b", s.daemon.crashes)
        desk = Desk(
            Path(name), "b", None, ladder, recording=False, call=lambda: None, on_bug=lambda bug: print(f"bug: {bug}")
        )
        spine = Spine(s.fusion, s.detection, s.trips, boot_time=BootTime())
        keeper = PatientStore(store, clock.monotonic_ns)
        pipeline = Pipeline(spine, keeper)
        desk.show(Parts(store, pipeline, keeper, Feeds([], intake, FeedSettings(), patient=False)), intake.tell, 300.0)
        numbers = [SHOWN[i % len(SHOWN)].number for i in range(PER_ROUND)]
        block = make_block([(S + i, n, 1.0) for i, n in enumerate(numbers)])
        block["value"] = np.random.default_rng(1).normal(size=len(block))
        print(f"{'the desk, in a second of 4000 samples':44} {'µs':>8}")
        usual_us = _second_us(desk, block, watched=False)
        print(f"{'nobody looks':44} {usual_us:8.1f}")
        watched_us = _second_us(desk, block, watched=True)
        print(f"{'somebody looks: one snapshot':44} {watched_us:8.1f}   {watched_us / 1e4:.2f} % of a core")
        shown = desk._board.shown
        assert shown is not None
        print(f"{'an answer: status, tick (bytes)':44} {len(encode(shown.status))}, {len(encode(tick_of(shown, 0)))}")
        desk.stop()


def _second_us(desk: Desk, block: np.ndarray, *, watched: bool) -> float:
    now_ns, took_ns = clock.monotonic_ns(), 0
    for i in range(ROUNDS):
        at_ns = now_ns + i * S // 10
        if watched:
            desk._board.want(at_ns)
        begun_ns = clock.monotonic_ns()
        desk.take(block, [])
        desk.step(at_ns, "normal")
        took_ns += clock.monotonic_ns() - begun_ns
    return took_ns / 1000 / (ROUNDS / 10)


def _ticks() -> Iterator[Tick]:
    never = threading.Event()
    for n in range(1000):
        t_ns = clock.monotonic_ns()
        yield Tick(
            t_ns=t_ns,
            device="rw-0123456789abcdef",
            level="normal",
            utc=Utc(quality="gnss", offset_ns=1_795_000_000 * S),
            values=[Value(c.number, 10.0 + 5 * math.sin(n / 5 + i), 0.1) for i, c in enumerate(SHOWN)],
            fused=Fused(t_ns=t_ns, speed_mps=10.0 + n % 7),
            devices=[
                Device(name=f"canbus:can{i}", kind="canbus", state="open", since_ns=0, samples=1100 * n)
                for i in range(4)
            ],
            power=Power(
                state="driving", since_ns=0, volts_of_12=14.1, charging=True, taken_wh=0.0, running=True, moving=True
            ),
            lanes=[Lane(name="event", head=9 + n, acknowledged=n, oldest_s=float(n))],
        )
        clock.wait(never, 1.0)


def _terminals() -> None:
    print(f"\n{'terminal':10} {'a second':>10} {'drawn anew':>11}   bytes")
    for columns, rows in ((120, 40), (80, 24), (45, 20)):
        mean, whole = _bytes(columns, rows, Live), _bytes(columns, rows, _Whole)
        print(f"{columns}x{rows:<6} {mean:10,.0f} {whole:11,.0f}   {whole / mean:.1f} times")


class _Whole(Live):
    """The same view, drawn anew each second."""

    def take(self, tick: Tick) -> None:
        super().take(tick)
        for widget in self.query("*"):
            widget.refresh()


def _bytes(columns: int, rows: int, view: type[Live]) -> float:
    """Return the bytes that the view writes in a second, once its first screens are drawn."""
    size = struct.pack("HHHH", rows, columns, 0, 0)
    child, descriptor = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, size)
        os.putenv("TERM", "xterm-256color")
        view(_ticks).run()
        os._exit(0)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)
    counted = [0] * SECONDS
    begun_ns = clock.monotonic_ns()
    while (second := (clock.monotonic_ns() - begun_ns) // S) < SECONDS:
        if select.select([descriptor], [], [], 0.2)[0]:
            counted[second] += len(os.read(descriptor, 65536))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(descriptor)
    return sum(counted[SETTLE:]) / (SECONDS - SETTLE)
