"""Box and car guarded by the real daemon on real files: facts of drivers, restarts, power cuts; up to the pages."""

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from html import unescape
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import BLOCK, Block, empty_block, make_block
from agent.boottime import BootTime
from agent.channels import number
from agent.config import config_dir
from agent.daemon import Daemon, Place
from agent.dashcam.settings import DashcamConfig
from agent.guard.ending import last_moments, tell_cut
from agent.guard.guard import Guard
from agent.guard.memory import SOURCE, Memory
from agent.guard.senses import Second, Senses
from agent.guard.settings import BoxSettings, GuardSettings, SupplySettings, TowSettings, VehicleSettings
from agent.guard.tow import OUTLIVES
from agent.ladder import Ladder, LadderSettings
from agent.pipeline import Pipeline
from agent.records import DRIVING_KINDS, Event, EventKind, Health, Trip
from agent.settings import AgentConfig
from agent.spine import Spine
from agent.state import State, empty_state
from agent.store import Store, StoreSettings
from agent.timekeeping import Timekeeper
from drivers.decode.decode import Decode
from drivers.decode.profile import load_profile
from drivers.replay import Replay
from receiver.texts import LANGUAGES, text
from sim.drive import simulate
from sim.record import write_drive
from tests.agreed import AGREED
from tests.guarding import Told, codes, fact
from tests.pages import client, clock_at, open_desk
from tests.virtual import START_NS, WALL_NS, VirtualTime, _Quiet

S = 1_000_000_000
OWN, OTHER = "LSVAB4186E2184847", "1M8GDM9AXKP042788"
QUICK = GuardSettings(
    supply=SupplySettings(hold_s=10.0, calm_s=20.0),
    tow=TowSettings(settle_s=5.0),
    box=BoxSettings(hot_s=5.0, calm_s=10.0, clock_s=15.0),
)
Gives = Mapping[str, Callable[[float], float]]
DRIVING: Gives = {
    "Vehicle.Speed": lambda t: 15.0,
    "Obd.EngineSpeed": lambda t: 2000.0,
    "Power.Voltage": lambda t: 14.0,
    "Power.BoardTemperature": lambda t: 50.0,
}


class Wire:
    """A driver in virtual time: ten samples a second of each channel, and facts."""

    def __init__(self, time: VirtualTime, name: str, gives: Gives, facts: Callable[[float], list[Health]]) -> None:
        self.name = name
        self._time, self._gives, self._facts = time, gives, facts
        self._closing = threading.Event()
        self._at_ns = 0

    def open(self) -> None:
        self._at_ns = self._time.now_ns

    def read(self, timeout_s: float) -> Block:
        self._time.wait(self._closing, min(timeout_s, 0.2))
        ticks = range(self._at_ns // (S // 10) + 1, self._time.now_ns // (S // 10) + 1)
        self._at_ns = self._time.now_ns
        rows = [
            (i * (S // 10), number(name), give((i * (S // 10) - START_NS) / S))
            for i in ticks
            for name, give in self._gives.items()
        ]
        return make_block(rows) if rows else empty_block()

    def close(self) -> None:
        self._closing.clear()

    def health(self) -> list[Health]:
        return self._facts((self._time.now_ns - START_NS) / S)


def live(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    seconds: float,
    gives: Gives = DRIVING,
    facts: Callable[[float], list[Health]] = lambda t: [],
    *,
    vin: str = "",
    boot: str = "a" * 32,
    after_s: float = 0.0,
) -> list[Event]:
    """Run the daemon for some seconds, `after_s` into the boot; return what events the store holds of all boots."""
    with monkeypatch.context() as patch:
        time = VirtualTime(patch)
        time.now_ns += round(after_s * S)
        patch.setattr(Daemon, "_send", lambda *_: _Quiet())
        keeper = partial(Timekeeper, wall_minus_monotonic_ns=lambda: WALL_NS, kernel_error_ns=lambda: None)
        patch.setattr("agent.daemon.Timekeeper", keeper)
        config = AgentConfig(consent=AGREED, guard=QUICK, vehicle=VehicleSettings(vin))
        wire = partial(Wire, time, "elm327:/dev/rfcomm0", gives, facts)
        daemon = Daemon(config, Place(folder, boot=boot), [wire])
        time.after(after_s + seconds, daemon.stop)
        daemon.run()
    with Store.open(folder, read_only=True) as store:
        assert store.verify().ok
        return [kept.record for kept in store.records(Event)]


def kinds(events: list[Event]) -> list[str]:
    return sorted(e.kind for e in events if e.kind not in DRIVING_KINDS)


def test_another_car_and_its_faults_are_told_once_over_a_restart_in_the_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # T-BIND-1
    def facts(t: float) -> list[Health]:
        return [
            fact("elm327:/dev/rfcomm0:vin", int(t * S), vin=OTHER),
            codes(OTHER, {"7E8 stored": ["P0301"], "7E8 pending": ["P0420"]}),
        ]

    first = live(monkeypatch, tmp_path, 25, facts=facts, vin=OWN)
    assert kinds(first) == ["clock_unknown", "dtc_set", "dtc_set", "vin_mismatch"]
    with Store.open(tmp_path, read_only=True) as store:
        (trip,) = [kept.record for kept in store.trips()]
        told = [kept.record for kept in store.records(Health) if kept.record.source.startswith("elm327")]
    mismatch = next(e for e in first if e.kind == "vin_mismatch")
    assert mismatch.trip_t_ns == trip.start_ns
    assert trip.start_ns <= mismatch.t_ns <= trip.end_ns
    assert mismatch.detail == f"{OTHER} ≠ {OWN}"
    assert {"vin": OTHER} in [h.facts for h in told]
    again = live(monkeypatch, tmp_path, 25, facts=facts, vin=OWN, after_s=400)
    assert kinds(again) == sorted([*kinds(first), "vin_mismatch"])  # another trip of the same boot
    cleared = live(
        monkeypatch, tmp_path, 25, facts=lambda t: [codes(OTHER, {"7E8 stored": [], "7E8 pending": []})], boot="b" * 32
    )
    assert [e.detail for e in cleared if e.kind == "dtc_cleared"] == ["P0301 P0420 (7E8)"]


def test_a_fault_that_comes_in_mid_drive_is_told_when_the_driver_learns_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts(t: float) -> list[Health]:
        return [codes(OWN, {"7E8 stored": ["P0301"] if t >= 10 else []})]

    (event,) = [e for e in live(monkeypatch, tmp_path, 20, facts=facts) if e.kind.startswith("dtc")]
    assert (event.kind, event.detail) == ("dtc_set", "P0301 (7E8)")
    with Store.open(tmp_path, read_only=True) as store:
        told = [kept.record for kept in store.records(Health) if kept.record.source.endswith(":dtc")]
    assert [h.facts["7E8 stored"] for h in told] == ["", "P0301"]


def test_heat_and_a_low_battery_are_told_once_over_restarts_and_boots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gives = {
        "Obd.EngineSpeed": lambda t: 0.0,
        "Power.Voltage": lambda t: 12.1,
        "Power.BoardTemperature": lambda t: 82.0,
    }
    for after_s, boot in ((0.0, "a" * 32), (40.0, "a" * 32), (0.0, "c" * 32)):
        events = live(monkeypatch, tmp_path, 30, gives, after_s=after_s, boot=boot)
        assert kinds(events) == ["low_battery", "over_temperature"]
    low, hot = sorted(events, key=lambda e: e.kind)
    assert (low.peak, low.unit, low.rule) == (12.1, "V", "low_battery/1")
    assert (hot.peak, hot.unit, hot.levels) == (82.0, "°C", (80.0, 85.0, 96.0))


def test_a_drive_that_ends_without_a_word_is_told_by_the_next_boot_and_a_crash_or_a_goodbye_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "power_lost" not in kinds(live(monkeypatch, tmp_path, 20))
    assert "power_lost" not in kinds(live(monkeypatch, tmp_path, 5, boot="b" * 32))  # said goodbye
    Ladder(tmp_path, "b" * 32, LadderSettings()).begin(0)  # killed, and started again in the same boot
    assert "power_lost" not in kinds(live(monkeypatch, tmp_path, 20, boot="b" * 32, after_s=10))
    Ladder(tmp_path, "b" * 32, LadderSettings()).begin(0)  # running, and then nothing
    events = live(monkeypatch, tmp_path, 5, {}, boot="d" * 32)
    (lost,) = [e for e in events if e.kind == "power_lost"]
    assert (lost.severity, lost.confirmed, lost.peak, lost.sources) == ("severe", False, 15.0, ["start"])
    with Store.open(tmp_path, read_only=True) as store:
        (where,) = [kept.boot for kept in store.records(Event) if kept.record.kind == "power_lost"]
        trips = [kept.record.start_ns for kept in store.records(Trip, "b" * 32)]
        span = store.span("b" * 32)
    assert where == "b" * 32
    assert span is not None
    assert abs(lost.t_ns - span[1]) < S
    assert lost.trip_t_ns == trips[-1]
    Ladder(tmp_path, "b" * 32, LadderSettings()).begin(0)  # even if the same is asked once more
    with Store.open(tmp_path) as store:
        assert tell_cut(store, "b" * 32, "b" * 32) is None


@pytest.mark.parametrize(
    ("speed", "rpm", "outlives", "told"),
    [
        (15.0, 2000.0, False, "severe"),
        (0.0, 800.0, True, "moderate"),
        (0.0, 800.0, False, None),  # the ignition took its power, as every day
        (0.0, 0.0, True, None),
        (2.0, 0.0, True, None),
    ],
)
def test_a_cut_while_standing_is_told_only_by_a_box_that_outlives_the_ignition(
    speed: float, rpm: float, outlives: bool, told: str | None, tmp_path: Path
) -> None:
    rows = [
        (i * S // 10, n, v)
        for i in range(300)
        for n, v in ((number("Obd.Speed"), speed), (number("Obd.EngineSpeed"), rpm))
    ]
    with Store.open(tmp_path) as store:
        store.begin_boot("a" * 32)
        if outlives:
            memory = Memory()
            memory.set(OUTLIVES, "yes")
            record = memory.record(S)
            assert record is not None
            store.append([(S, record)])
        store.append_block(make_block(rows), last=True)
        assert tell_cut(store, "a" * 32, "") is None
        found = tell_cut(store, "a" * 32, "a" * 32)
        assert (found.severity if found else None) == told
        assert len(store.events()) == (told is not None)


def test_the_last_moments_do_not_believe_old_values() -> None:
    block = make_block([(0, number("Obd.Speed"), 30.0), (9 * S, number("Gnss.Speed"), 0.2)])
    assert last_moments(block, 9 * S) == (pytest.approx(0.2), False)
    assert last_moments(np.empty(0, BLOCK), 0) == (0.0, False)


def test_the_ladder_tells_a_cut_from_a_crash_and_a_goodbye(tmp_path: Path) -> None:
    def begin(boot: str) -> Ladder:
        ladder = Ladder(tmp_path, boot, LadderSettings())
        ladder.begin(0)
        return ladder

    assert begin("a").cut == ""
    assert begin("a").cut == ""  # a crash of the agent
    assert begin("b").cut == "a"
    ladder = begin("b")
    ladder.ended()
    assert begin("c").cut == ""
    ladder = begin("c")
    ladder.crashed(5, "a bug")
    assert begin("d").cut == ""


def test_what_is_remembered_is_read_back_from_the_stores_own_records(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin_boot("a")
        memory = Memory.of(store)
        assert memory.record(S) is None
        memory.set("vin", OWN)
        memory.set_codes(OWN, {"7E8 stored": "P0301", "7E8 pending": ""})
        store.append([(S, r) for r in [memory.record(S)] if r])
        memory.set("vin", OTHER)
        store.append([(2 * S, r) for r in [memory.record(2 * S)] if r])
        store.begin_boot("replayed", recorded=True)
        store.append([(3 * S, Health(t_ns=3 * S, source=SOURCE, state="ok", detail="", facts={"vin": "none"}))])
    with Store.open(tmp_path) as store:
        store.begin_boot("b")
        back = Memory.of(store)
        assert back.facts["vin"] == OTHER
        assert back.codes(OWN) == {"7E8 stored": "P0301", "7E8 pending": "-"}
        assert back.record(S) is not None  # told again at every start, so that it never grows old
        assert back.record(2 * S) is None
        assert back.record(8 * 86_400 * S) is not None
        for name in list(back.facts):
            back.set(name, "")
        forgotten = back.record(9 * 86_400 * S)
        assert forgotten is not None
        assert forgotten.facts == {}


def test_a_damaged_memory_is_as_none() -> None:
    assert Memory({"told low_battery": "x", "told gnss_lost": "77"}).level("low_battery") == 0
    assert Memory({"told gnss_lost": "77"}).level("gnss_lost") == 0
    assert Told(facts={"told towed_tilt": "", "gnss": "?", "dtc": "", "dtc x": "P0301"}).drive(10).events == []


def test_a_disk_that_the_dashcam_fills_as_it_should_is_not_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = DashcamConfig().min_free_bytes - 10_000_000  # some seconds of video before the oldest go
    blocks = os.statvfs_result((4096, 4096, 64_000_000_000 // 4096, left // 4096, left // 4096, 0, 0, 0, 0, 255))
    with Store.open(tmp_path) as store:
        monkeypatch.setattr("agent.store.store.os.statvfs", lambda _: blocks)
        share = store.used_share(BoxSettings().least_free_bytes)
        assert share is not None
        assert share < BoxSettings().minor_share


def test_the_store_says_how_full_it_is(tmp_path: Path) -> None:
    with Store.open(tmp_path, StoreSettings(max_bytes=400_000, block_bytes=200_000)) as store:
        store.begin_boot("a")
        empty = store.used_share(0)
        assert empty is not None
        for i in range(100):
            store.append([(i, Health(t_ns=i, source="x", state="ok", detail="y" * 500))])
        full = store.used_share(0)
        assert full is not None
        assert 0 < empty < full <= 1
        everything = store.used_share(1 << 62)  # however much is free it counts
        assert everything is not None
        assert everything >= full


# seconds


def flow(seed: int) -> tuple[Block, State]:
    """Return half a minute of samples and rows that have nothing to do with each other but their time."""
    chance = np.random.default_rng(seed)
    names = (
        "Power.Voltage",
        "Obd.ControlModuleVoltage",
        "Power.BoardTemperature",
        "Power.Throttled",
        "Gnss.Satellites",
    )
    names += ("Gnss.FixType", "Imu.Acceleration.X", "Imu.Acceleration.Y", "Imu.Acceleration.Z", "Obd.Speed")
    block = np.zeros(3000, BLOCK)
    block["t"] = np.sort(chance.integers(0, 30 * S, len(block)))
    block["channel"] = chance.choice([number(n) for n in names], len(block))
    block["value"] = np.round(chance.uniform(0, 12, len(block)), 2)
    rows = empty_state(300)
    rows["t"] = np.arange(300) * (S // 10)
    for name in ("speed", "rpm", "latitude", "longitude", "accuracy", "speed_gnss"):
        rows[name] = np.where(chance.random(300) < 0.3, np.nan, chance.uniform(0, 30, 300))
    rows["ignition"] = chance.integers(-1, 2, 300)
    keep = chance.random(300) < 0.9
    return block, rows[keep]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.lists(st.integers(0, 3000), max_size=12), st.integers(0, 20))
def test_seconds_do_not_depend_on_how_samples_are_cut_into_blocks(seed: int, cuts: list[int], lag: int) -> None:
    block, rows = flow(seed)
    whole = Senses().step(block, [rows])
    senses, at, row, parts = Senses(), 0, 0, list[Second]()
    for cut in [*sorted(cuts), len(block)]:
        reached = int(block["t"][cut - 1]) - lag * S // 10 if cut else 0
        upto = len(rows) if cut == len(block) else int(np.searchsorted(rows["t"], reached))
        upto = max(upto, row)
        parts += senses.step(block[at:cut], [rows[row:upto]] if upto > row else [])
        at, row = cut, upto
    assert parts == whole
    assert [second.t_ns % S for second in whole] == [0] * len(whole)


def test_a_board_that_measures_its_own_five_volts_hides_no_battery() -> None:
    names = ("Power.Voltage", "Obd.ControlModuleVoltage")
    rows = empty_state(30)
    rows["t"] = np.arange(30) * (S // 10)

    def seen(*volts: float) -> tuple[float | None, float | None]:
        block = make_block([(1, number(name), v) for name, v in zip(names, volts, strict=False)])
        first = Senses().step(block, [rows])[0]
        return first.volts, first.supply_v

    assert seen(5.1, 12.4) == (12.4, 5.1)
    assert seen(12.5, 12.3) == (12.5, 12.5)
    assert seen(5.1) == (5.1, 5.1)
    assert seen() == (None, None)


def test_what_is_slow_is_carried_and_what_is_old_is_forgotten() -> None:
    senses = Senses()
    rows = empty_state(600)
    rows["t"] = np.arange(600) * (S // 10)
    block = make_block([(S // 2, number("Power.Voltage"), 12.4), (50 * S, number("Power.Throttled"), 1.0)])
    seconds = senses.step(block, [rows])
    assert [s.volts for s in seconds] == [12.4] * 31 + [None] * 28
    assert [s.throttled for s in seconds[49:52]] == [None, True, True]
    assert seconds[0].in_use is None
    assert seconds[0].place is None


# pages


def test_everything_that_can_befall_box_and_car_reaches_the_page_in_words(tmp_path: Path) -> None:
    desk = open_desk(tmp_path)
    source = desk.enrol()
    befallen = [k for k in get_args(EventKind) if k not in DRIVING_KINDS]
    told = [
        Event(
            kind=kind,
            severity="moderate",
            confirmed=True,
            t_ns=(i + 1) * S,
            duration_ns=S,
            peak=3.0,
            unit="",
            speed_before_mps=None,
            rule=f"{kind}/1",
            sources=["supply"],
            detail="P0301 (7E8)" if kind == "dtc_set" else "",
        )
        for i, kind in enumerate(befallen)
    ]
    desk.send(source, [clock_at(1_795_000_000 * S), *told, fact("elm327:x:vin", vin=OWN)])
    for lang in LANGUAGES:
        page = unescape(client(desk.engine).get(f"/vehicles/{source.device}/events", params={"lang": lang}).text)
        for kind in befallen:
            assert text(lang)(f"kind.{kind}") in page
        assert text(lang)("why.no_driving") in page
        assert "P0301 (7E8)" in page
        assert 'class="ignored"' in page
        assert 'class="counts"' not in page
    assert "kind." not in page


# drives


def guarded(recording: Path, profile: str = "") -> tuple[list[Event], BootTime]:
    """Return what the guard tells of a recording that is walked as if it were live."""
    config, time = AgentConfig(), BootTime(recorded=True)
    named = load_profile(profile, config_dir()) if profile else None
    source = Replay([recording], Decode(named, config_dir()), None)
    pipeline = Pipeline(Spine(config.fusion, config.detection, config.trips, boot_time=time))
    pipeline.guard = Guard(config.guard, config.vehicle, Memory(), time=lambda: time.quality)
    found: list[Event] = []
    source.open()
    while (block := source.read(1.0)) is not None:
        found += [r for _, r in pipeline.step(block).records if isinstance(r, Event) and r.kind not in DRIVING_KINDS]
    source.close()
    return found, time


@pytest.mark.parametrize("name", ["commute", "sensor-trouble"])
def test_an_ordinary_drive_tells_nothing_of_box_and_car(name: str, tmp_path: Path) -> None:
    write_drive(simulate(name, 5, 22), tmp_path / "drive.log")
    found, time = guarded(tmp_path / "drive.log", "simcar")
    assert found == []
    assert time.quality == "gnss"


def test_a_box_without_satellites_and_network_tells_that_it_has_no_time(tmp_path: Path) -> None:
    write_drive(simulate("obd-only", 5, 25), tmp_path / "drive.log")
    (event,) = guarded(tmp_path / "drive.log")[0]
    assert (event.kind, event.peak) == ("clock_unknown", 1200.0)
    assert event.trip_t_ns is not None


@pytest.mark.data
def test_forty_real_minutes_tell_nothing_of_box_and_car() -> None:
    log = Path(__file__).parents[1].parent / "shared" / "data" / "can" / "trip164" / "trip164.candump.log.xz"
    if not log.exists():
        pytest.skip("../shared/data is absent")
    assert guarded(log, "canmod")[0] == []
