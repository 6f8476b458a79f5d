"""What stands outside the box: gpsd restarted under the feed, and a broker that is gone for a day.

Recovery: fixes come again within 10 s of gpsd's return; sync asks the broker again at the latest after retry_cap_s,
and then sends the whole day in order.
"""

import os
import random
import shutil
import subprocess
import threading
import tracemalloc
import tty
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import reduce
from itertools import groupby
from operator import xor
from pathlib import Path
from typing import Protocol

import pytest

from agent import clock, messages
from agent.channels import number
from agent.feed import Feed, FeedSettings
from agent.intake import Intake
from agent.link import Arrived, Down, Up
from agent.messages import Ack
from agent.records import Health
from agent.store import Store
from agent.sync import Sync, SyncSettings
from drivers.gps import Gps
from sim.gpsd import FakeGpsd, Report
from tests.sample_records import some
from tests.syncing import free_port
from tests.test_sync import FakeUplink

S = 1_000_000_000
LATITUDE = number("Gnss.Latitude")
BACK_S = 30.0  # so long a machine that does much else may take
PATIENCE_S = 30.0


class Receiver(Protocol):
    """A receiver behind a gpsd that can be stopped and started."""

    port: int

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def fix(self) -> None: ...


class Fake:
    """The simulator's gpsd."""

    def __init__(self) -> None:
        self._gpsd = FakeGpsd()
        self._gpsd.start()
        self.port = self._gpsd.address[1]

    def start(self) -> None:
        self._gpsd.start()

    def stop(self) -> None:
        self._gpsd.stop()

    def fix(self) -> None:
        self._gpsd.report(Report(t_ns=clock.monotonic_ns(), utc_ns=clock.wall_ns(), latitude=48.1, longitude=11.5))


class Real:
    """Debian's gpsd, with a receiver that speaks NMEA on a pseudo terminal."""

    def __init__(self) -> None:
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = ["gpsd", "-N", "-n", "-S", str(self.port), os.ttyname(self._theirs)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def fix(self) -> None:
        now = datetime.fromtimestamp(clock.wall_ns() / S, UTC)
        at = f"{now:%H%M%S}.{now.microsecond // 10000:02d}"
        place = "4806.0000,N,01130.0000,E"
        for body in (
            f"GPRMC,{at},A,{place},010.0,090.0,{now:%d%m%y},,,A",
            f"GPGGA,{at},{place},1,08,1.0,500.0,M,46.0,M,,",
        ):
            line = f"${body}*{reduce(xor, body.encode()):02X}\r\n"
            try:
                os.write(self._ours, line.encode())
            except BlockingIOError:
                return  # nobody reads: gpsd is down

    def close(self) -> None:
        self.stop()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture(params=["fake", "real"])
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    if request.param == "fake":
        fake = Fake()
        yield fake
        fake.stop()
        return
    if shutil.which("gpsd", path=f"{os.defpath}:/usr/sbin:/sbin") is None:
        pytest.skip("Debian package gpsd is absent")
    real = Real()
    yield real
    real.close()


def test_gpsd_restarted_again_and_again_is_told_each_time_and_fixes_go_on(receiver: Receiver) -> None:
    intake, told = Intake(100_000, S), list[Health]()
    feed = Feed(lambda: Gps(port=receiver.port), intake, FeedSettings(retry_s=0.1, retry_cap_s=1.0))
    never, fixes = threading.Event(), [0]

    def until(enough: Callable[[], bool]) -> float:
        began_ns, turn = clock.monotonic_ns(), 0
        while not enough():
            assert clock.monotonic_ns() - began_ns < PATIENCE_S * S, told
            intake.raise_bug()
            block, said = intake.take(clock.monotonic_ns(), everything=True)
            told.extend(h for h in said if h.source == feed.name)
            fixes[0] += int((block["channel"] == LATITUDE).sum())
            turn += 1
            if turn % 5 == 0:
                receiver.fix()
            never.wait(0.02)
        return (clock.monotonic_ns() - began_ns) / S

    feed.start()
    try:
        until(lambda: fixes[0] >= 3)
        told[:] = told[-1:]  # gpsd may have been slower to start than the feed
        for _ in range(3):
            receiver.stop()
            until(lambda: told[-1].state == "lost")
            receiver.start()
            fixes[0] = 0
            assert until(lambda: fixes[0] >= 3) < BACK_S
    finally:
        feed.stop()
        feed.join(PATIENCE_S)
    # gpsd says that it lets the receiver go before it closes the connection: both are told
    assert [state for state, _ in groupby(h.state for h in told)] == ["ok", "lost"] * 3 + ["ok"]
    assert len(told) <= 10


class Far:
    """A receiver that acknowledges what comes in order, and what it held when it was asked."""

    def __init__(self, store: Store, uplink: FakeUplink) -> None:
        self._store, self._uplink = store, uplink
        self.held: dict[str, int] = {}
        self.most_in_flight = self.most_bytes = 0

    def answer(self) -> list[Arrived]:
        """Take what was published; return the acknowledgement."""
        published, self._uplink.published = self._uplink.published, []
        births = [messages.decode_birth(p) for t, p, _ in published if t.endswith("/birth")]
        payloads = [p for t, p, _ in published if "/up/" in t]
        self.most_in_flight = max(self.most_in_flight, len(payloads))
        for payload in payloads:
            batch = messages.decode_batch(payload)
            self.most_bytes = max(self.most_bytes, len(payload))
            assert batch.first_seq == self.held.get(batch.lane, 0) + 1, "out of order"
            self.held[batch.lane] = batch.last_seq
        self._session = births[-1].session if births else self._session
        if not births and not payloads:
            return []
        ack = Ack(
            device=self._store.device,
            state="accepted",
            lineage=self._store.lineage,
            session=self._session,
            lanes=dict(self.held),  # type: ignore[arg-type]
        )
        return [Arrived(messages.topic(self._store.device, "ack"), messages.encode_ack(ack), False)]


def test_a_broker_that_is_gone_for_a_day_costs_no_memory_few_attempts_and_no_record(tmp_path: Path) -> None:
    settings = SyncSettings()
    with Store.open(tmp_path) as store:
        store.begin_boot("b" * 32)
        uplink = FakeUplink()
        sync = Sync(store, uplink, settings, boot="b" * 32, rng=random.Random(1))
        now_ns, next_record_ns, grown = 0, 0, [0, 0]
        gone_until_ns = 86_400 * S
        connects = 0
        tracemalloc.start()
        while now_ns < gone_until_ns:
            if uplink.connects > connects:
                connects = uplink.connects
                uplink.happened.append(Down("no route to host"))
            due_ns = sync.step(now_ns)
            assert due_ns > now_ns
            if now_ns >= next_record_ns:
                next_record_ns += 600 * S
                store.append(some(20))
                grown[0 if now_ns < 7200 * S else 1] = tracemalloc.get_traced_memory()[0]
            now_ns = min(due_ns, next_record_ns) if not uplink.happened else now_ns + 1
        tracemalloc.stop()
        assert grown[1] - grown[0] < 200_000  # bytes, over 22 hours
        assert connects <= 86_400 / (settings.retry_cap_s / 2) + 12
        assert uplink.published == []
        assert sync.status.trouble == "offline"
        heads = store.heads()
        assert sum(heads.values()) == 144 * 20

        far = Far(store, uplink)
        back_ns = None
        for _ in range(2000):
            if uplink.connects > connects:
                connects = uplink.connects
                back_ns = now_ns
                uplink.happened.append(Up("5"))
            uplink.happened.extend(far.answer() if uplink.up else [])
            due_ns = sync.step(now_ns)
            if store.positions() == heads:
                break
            now_ns = now_ns + 1 if uplink.happened or uplink.published else due_ns
        assert back_ns is not None
        assert (back_ns - gone_until_ns) / S <= settings.retry_cap_s
        assert store.positions() == heads
        assert far.held == {lane: seq for lane, seq in heads.items() if seq}
        assert far.most_in_flight <= settings.window
        assert far.most_bytes <= messages.MAX_PAYLOAD
        assert sync.status.trouble == ""
        assert sync.status.behind == 0
