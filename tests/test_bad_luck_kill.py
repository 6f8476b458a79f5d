"""`kill -9` of the real daemon 100 times at any moment, on one store, over ten boots.

Recovery: each next life stores samples again within START_S; a drive that was cut goes on as one trip in the same boot,
and is closed once after a power cut.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import clock
from agent.records import Event
from agent.settings import AgentConfig
from agent.spine import Spine
from agent.store import Store

S = 1_000_000_000
ROOT = Path(__file__).resolve().parents[1]
KILLS = 100
BOOTS = 10
START_S = 20.0  # from the fork, whatever else the machine does; some 0.1 s on an idle one


class Lives:
    """The process that forks the lives."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.killed_daemon", str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.durable: dict[str, int] = {}  # lane -> sequence that the daemon called stored
        self.lives: list[tuple[str, int, int, int]] = []  # that stored samples: boot, from, number, up to

    def live(
        self, boot: str, start_ns: int, most_s: float, number: int = signal.SIGKILL, *, since: str = "born"
    ) -> tuple[int, int]:
        """Let one life begin and send it a signal; return its status and its end.

        It comes `most_s` of real time after the process is born or, on a machine as slow as it likes, after samples of
        this life are durable ("upto").
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"boot": boot, "start_ns": start_ns}) + "\n")
        self.process.stdin.flush()
        spoke, end = False, None
        while True:
            kind, *rest = self.process.stdout.readline().split()
            if kind == "born":
                pid, born_ns = int(rest[0]), clock.monotonic_ns()
            elif kind == "seq":
                self.durable[rest[0]] = max(int(rest[1]), self.durable.get(rest[0], 0))
            elif kind == "upto":
                if not spoke:
                    assert clock.monotonic_ns() - born_ns < START_S * S
                    self.lives.append((boot, start_ns, 0, 0))
                spoke = True
                self.lives[-1] = (boot, start_ns, int(rest[0]), int(rest[1]))
            elif kind == "gone":
                assert end is not None, "it ended by itself"
                end.join()
                return int(rest[0]), int(rest[1])
            if kind == since and end is None:
                end = threading.Timer(most_s, os.kill, (pid, number))
                end.start()

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=60)


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    made = Lives(tmp_path)
    yield made
    made.end()


def test_killed_100_times_at_any_moment_it_keeps_what_it_called_stored_and_recovers_each_trip_once(
    tmp_path: Path, lives: Lives
) -> None:
    chance = random.Random(3)
    start_ns = 1000 * S
    for turn in range(KILLS):
        boot = f"{turn * BOOTS // KILLS:032x}"
        since = chance.choice(["born", "upto"])
        status, end_ns = lives.live(boot, start_ns, chance.uniform(0.0, 0.3), since=since)
        assert status == signal.SIGKILL
        start_ns = end_ns + chance.randrange(S, 3 * S)
    status, _ = lives.live(f"{BOOTS:032x}", start_ns, 1.0, signal.SIGTERM, since="upto")
    assert status == 0
    assert len(lives.lives) > KILLS // 4, "too few lives got so far as to store anything"
    s = AgentConfig()
    with Store.open(tmp_path, read_only=True) as store:
        report = store.verify()
        assert report.ok, report
        assert {lane: seq for lane, seq in lives.durable.items() if store.heads()[lane] < seq} == {}
        for boot, from_ns, n, upto_ns in lives.lives:
            assert len(store.read_block(from_ns + 1, upto_ns + 1, boot)) == n
        trips = store.trips()
        found = 0
        for boot in sorted({life[0] for life in lives.lives}):
            spine = Spine(s.fusion, s.detection, s.trips)
            block = store.read_block(0, start_ns * 10, boot)
            true = [*spine.step(block).trips, *spine.finish().trips]
            mine = [kept.record for kept in trips if kept.boot == boot]
            found += len(true)
            assert len(mine) == len(true), (boot, mine, true)
            for trip, other in zip(mine, true, strict=True):
                assert abs(trip.start_ns - other.start_ns) <= 2 * S
                assert abs(trip.end_ns - other.end_ns) <= 2 * S
            events = [kept.record for kept in store.records(Event, boot)]
            assert len({(e.kind, e.t_ns // S) for e in events}) == len(events)
        assert found >= BOOTS // 2
