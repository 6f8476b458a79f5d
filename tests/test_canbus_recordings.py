"""A recorded drive put on the live wires gives what its replay gives, and chooses its profile by itself."""

from pathlib import Path

import numpy as np
import pytest

from agent.blocks import EXTENDED, Frames
from agent.clock import NS_PER_S
from drivers import canbus
from drivers.can.socketcan import SocketCan
from drivers.can.wire import CanSettings
from drivers.canbus import CanBus
from drivers.decode.decode import Decode
from drivers.decode.profile import load_profile
from drivers.recording import open_recording
from drivers.recording.batch import join
from tests.can_peers import Adapter, Datagrams, can_frame

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
RAV4 = ROOT.parent / "shared" / "data" / "can" / "rav4" / "rav4_60s.candump.log.xz"
N = 6_000

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def drive() -> Frames:
    """The first frames of the powertrain bus."""
    if not RAV4.exists():
        pytest.skip("the RAV4 recording is absent")
    recording = open_recording(RAV4)
    parts, have = [], 0
    for batch in recording.batches():
        assert isinstance(batch, Frames)
        keep = np.flatnonzero(batch.bus == recording.buses.index("can0"))
        parts.append(Frames(*(column[keep] for column in batch)))
        have += len(keep)
        if have >= N:
            break
    recording.close()
    whole = join(parts)
    return Frames(*(column[:N] for column in whole))


def rows(frames: Frames) -> list[tuple[int, bytes]]:
    return [(i, d[:n].tobytes()) for i, n, d in zip(frames.id.tolist(), frames.len.tolist(), frames.data, strict=True)]


def values(block) -> list[tuple[int, float]]:
    return list(zip(block["channel"].tolist(), block["value"].tolist(), strict=True))


def replayed(frames: Frames) -> list[tuple[int, float]]:
    frames = frames._replace(bus=np.zeros_like(frames.bus))
    return values(Decode(load_profile("toyota-rav4", CONFIG), CONFIG)(frames, ["can0"]))


def read_all(driver: CanBus, put, frames: Frames, at_once: int) -> list[tuple[int, float]]:
    blocks, said = [], rows(frames)
    for begin in range(0, len(said), at_once):
        put(said[begin : begin + at_once])
        while driver.frames < min(begin + at_once, len(said)):
            blocks.append(driver.read(1.0))
    samples = np.concatenate(blocks)
    assert np.all(np.diff(samples["t"]) >= 0)
    return values(samples)


def test_the_drive_on_datagrams_gives_the_samples_of_its_replay(drive):
    wire = Datagrams()
    settings = CanSettings(profile="toyota-rav4", window_s=0.0)
    driver = CanBus(settings, CONFIG, lambda s: SocketCan(s, lambda *_: wire.inner.dup()))
    driver.open()
    live = read_all(driver, lambda part: wire.put(*(can_frame(*row) for row in part)), drive, 100)
    assert live == replayed(drive) != []
    driver.close()
    wire.close()


def test_the_drive_on_an_slcan_line_gives_the_samples_of_its_replay(drive):
    adapter = Adapter()
    driver = CanBus(CanSettings("slcan", adapter.path, profile="toyota-rav4", bit_rate=500_000, window_s=0.0), CONFIG)
    driver.open()

    def put(part):
        adapter.put(b"".join(f"t{i:03X}{len(d)}{d.hex()}\r".encode() for i, d in part))

    assert not np.any(drive.flags & EXTENDED)
    assert read_all(driver, put, drive, 100) == replayed(drive)
    assert driver.counts["garbage"] == 0
    driver.close()
    adapter.close()


def test_the_drive_chooses_its_profile_by_itself(drive):
    class Wire:
        name, notes, bit_rate, counts = "recorded", [], None, {}
        at = 0

        def open(self, filters):
            self.filters = filters

        filter = open

        def read(self, timeout_s):
            part = Frames(*(column[self.at : self.at + 50] for column in drive))
            self.at += 50
            return part._replace(bus=np.zeros_like(part.bus))

        def close(self):
            pass

    wire = Wire()
    driver = CanBus(CanSettings(), CONFIG, lambda settings: wire)
    driver.open()
    while wire.at < N and driver.profile is None:
        driver.read(0.1)
    assert driver.profile is not None
    assert driver.profile.name == "toyota-rav4"
    assert driver.last_frame_ns - int(drive.t[0]) < (canbus.LISTEN_S + 0.1) * NS_PER_S
    assert wire.filters
    assert len(driver.read(0.1)) > 0
