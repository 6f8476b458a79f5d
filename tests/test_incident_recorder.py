"""The recorder: what the final files hold depends on the samples alone; each crash has its own."""

import csv
import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import Block, empty_block, make_block
from agent.channels import number
from agent.fuse.fusion import Fusion
from agent.fuse.settings import FusionSettings
from agent.incident.fields import BEFORE, TABLES
from agent.incident.recorder import Draft, Recorder, Storm
from agent.incident.rings import ROW, Ring, Rings
from agent.incident.settings import IncidentSettings
from agent.incident.tables import before, cut, imu, track
from agent.records import Crash, Mount
from agent.state import empty_state
from tests.crashing import BOOT, MS, S, StubDetector, X, channel, collision, crash_at, pieces

DRIVE = collision()


def drafts_of(blocks: Sequence[Block], mount: Mount | None = None) -> tuple[list[Draft], list[Draft]]:
    """Return the drafts made on the way, and those made at the end of the recording."""
    recorder = Recorder(IncidentSettings(), BOOT)
    if mount is not None:
        recorder.mount_known(mount)
    detector, fusion = StubDetector(None, BOOT), Fusion(FusionSettings())
    made: list[Draft] = []
    for block in blocks:
        rows = fusion.step(block)
        crashes = [c for c in detector.step(block, rows) if isinstance(c, Crash)]
        made += recorder.step(block, [rows], crashes)
    return made, recorder.finish()


def table(draft: Draft, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(draft.files[name].decode())))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9),
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=25), min_size=1, max_size=12),
)
def test_a_ring_keeps_the_newest_in_order(size: int, batches: list[list[int]]) -> None:
    ring, said, t = Ring(size, ROW), [], 0
    for batch in batches:
        new = np.zeros(len(batch), ROW)
        new["t"] = t + np.arange(len(batch))
        new["speed"] = batch
        t += len(batch)
        ring.take(new)
        said += batch
    assert ring.between(0, t)["speed"].tolist() == said[-size:]
    assert ring.between(t - 1, t)["t"].tolist() == [t - 1]
    assert len(ring.between(t, t + 5)) == 0


def test_rings_keep_what_the_tables_need_and_nothing_else() -> None:
    rings = Rings()
    rings.take(make_block([(1, X, 1.0), (2, number("Obd.FuelLevel"), 2.0), (3, number("Obd.Speed"), 3.0)]))
    rings.take(empty_block())
    assert rings.newest_ns == 3
    assert rings.imu.between(0, 9)["value"].tolist() == [1.0]
    assert rings.car.between(0, 9)["value"].tolist() == [3.0]
    wanted = {
        n
        for columns in TABLES.values()
        for c in columns
        if c.name != "speed_mps" or c in TABLES["track.csv"]
        for n in c.numbers
    }
    assert all(rings.ring_of(n) for n in wanted)


def test_a_record_holds_what_the_car_said_before_and_the_sensor_around_time_zero() -> None:
    mount = Mount(t_ns=5 * S, gravity=(0, 0, 1), forward=(1, 0, 0), confidence=0.9)
    made, left = drafts_of(pieces(DRIVE, range(0, len(DRIVE), 197)), mount)
    assert left == []
    first, measured, final = made
    assert (first.record.final, first.record.crash.complete) == (False, False)
    assert (measured.record.final, measured.record.crash.complete) == (False, True)
    assert (final.record.final, final.record.complete) == (True, True)
    assert final.record.reached_s == pytest.approx(10.0, abs=0.005)
    assert final.record.gaps_s == []
    assert final.record.mount == mount
    assert final.record.boot == BOOT
    t0_s = final.record.t0_ns / S
    assert t0_s == pytest.approx(70.01, abs=0.005)
    rows = table(final, "before.csv")
    assert [float(r["t_s"]) for r in rows] == [round(-20.0 + i / 10, 1) for i in range(201)]
    assert {r["speed_indicated_mps"] for r in rows[:-1]} == {"15.00"}
    assert rows[-1]["speed_indicated_mps"] == "0.00"
    assert [r["brake_on"] for r in rows].index("1") == pytest.approx(190, abs=1)
    assert {r["belt_driver"] for r in rows} == {""}
    assert float(rows[100]["speed_mps"]) == pytest.approx(15.0, abs=0.1)
    assert all(1800 <= int(r["engine_rpm"]) <= 1870 for r in rows)
    (part,) = [p for p in final.record.tables if p.file == "before.csv"]
    assert part.sources["engine_rpm"] == "Obd.EngineSpeed"
    assert part.sources["belt_driver"] == ""
    axes = table(final, "imu.csv")
    assert (float(axes[0]["t_s"]), float(axes[-1]["t_s"])) == (
        pytest.approx(-5, abs=0.005),
        pytest.approx(5, abs=0.005),
    )
    assert len(axes) == pytest.approx(2000, abs=1)
    own = DRIVE[(DRIVE["channel"] == X) & (np.abs(DRIVE["t"] - final.record.t0_ns) <= 5 * S)]
    assert [float(r["x_mps2"]) for r in axes] == pytest.approx(own["value"].tolist(), abs=0.00051)
    assert {r["clipped_axes"] for r in axes} == {""}
    fixes = table(final, "track.csv")
    assert len(fixes) == 71
    assert [round(float(b["t_s"]) - float(a["t_s"]), 3) for a, b in pairwise(fixes)] == [1.0] * 70
    assert float(fixes[0]["longitude_deg"]) == pytest.approx(114.0 + 15.0 * (t0_s - 60.88) / 96_000, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(DRIVE)), max_size=30))
def test_any_split_of_the_samples_gives_the_same_final_files(cuts: list[int]) -> None:
    (whole,) = [d for d in drafts_of([DRIVE])[0] if d.record.final]
    (split,) = [d for d in drafts_of(pieces(DRIVE, cuts))[0] if d.record.final]
    assert split.files == whole.files


def test_two_crashes_three_seconds_apart_each_have_their_own_minute() -> None:
    both = collision((70.0, 73.0))
    made, _ = drafts_of(pieces(both, range(0, len(both), 1500)))
    first, second = [d for d in made if d.record.final]
    assert second.record.t0_ns - first.record.t0_ns == pytest.approx(3 * S, abs=6 * MS)
    assert first.id != second.id
    assert len(table(first, "imu.csv")) == pytest.approx(len(table(second, "imu.csv")), abs=1)
    by_time = {round(float(r["t_s"]) + 3.0, 3): r["x_mps2"] for r in table(second, "imu.csv")}
    shared = [(r["x_mps2"], by_time[t]) for r in table(first, "imu.csv") if (t := round(float(r["t_s"]), 3)) in by_time]
    assert len(shared) > 1300
    assert all(a == b for a, b in shared)
    # the second saw the car stand, the first only at its end
    assert table(second, "before.csv")[-10]["speed_indicated_mps"] == "0.00"
    assert table(first, "before.csv")[-10]["speed_indicated_mps"] == "15.00"


def test_a_recording_that_ends_after_the_crash_leaves_a_final_record_that_is_not_complete() -> None:
    cut = DRIVE[DRIVE["t"] < 72 * S]
    made, (final,) = drafts_of(pieces(cut, range(0, len(cut), 400)))
    assert not any(d.record.final for d in made)
    assert final.record.final
    assert not final.record.complete
    assert final.record.reached_s == pytest.approx(1.99, abs=0.01)
    assert float(table(final, "imu.csv")[-1]["t_s"]) == pytest.approx(1.98, abs=0.02)


@pytest.mark.parametrize(("off_s", "on_s", "complete"), [(65, 68, True), (72, 75, False), (75, 82, False)])
def test_a_silence_is_told_and_after_time_zero_the_record_is_not_complete(
    off_s: float, on_s: float, complete: bool
) -> None:
    heard = DRIVE[(DRIVE["t"] < off_s * S) | (DRIVE["t"] >= on_s * S)]
    finals = []
    for step in (len(heard), 333):
        (final,) = [d for d in drafts_of(pieces(heard, range(0, len(heard), step)))[0] if d.record.final]
        finals.append(final)
    assert finals[0].files == finals[1].files
    record = finals[0].record
    assert record.complete == complete
    assert record.gaps_s == [(pytest.approx(off_s - 70.01, abs=0.02), pytest.approx(on_s - 70.01, abs=0.02))]


def test_a_crash_that_is_measured_late_waits_with_the_tables_of_its_window() -> None:
    recorder = Recorder(IncidentSettings(), BOOT)
    recorder.step(DRIVE[DRIVE["t"] < 71 * S], [], [crash_at(70 * S)])
    assert recorder.step(DRIVE[DRIVE["t"] >= 71 * S], [], []) == []
    recorder.step(channel(X, np.arange(90.0, 200.0, 0.001), np.zeros(110_000)), [], [])
    (final,) = recorder.step(empty_block(), [], [crash_at(70 * S, complete=True)])
    assert final.record.complete
    assert len(table(final, "imu.csv")) == 2001
    assert len(table(final, "track.csv")) == 71


def test_an_update_after_the_end_or_of_an_unknown_kind_changes_nothing() -> None:
    recorder = Recorder(IncidentSettings(), BOOT)
    crash = crash_at(70 * S, complete=True)
    assert recorder.resume(crash, growing=False)
    assert recorder.step(DRIVE, [], [crash]) == []
    assert recorder.drafts() == []


def test_a_storm_keeps_the_first_packages_of_an_hour_and_counts_the_rest() -> None:
    recorder = Recorder(IncidentSettings(per_hour=4), BOOT)
    times = [i * 120 * S for i in range(30)]  # 30 crashes an hour
    drafts = [d for t in times for d in recorder.step(empty_block(), [], [crash_at(t)])]
    assert len(drafts) == 4
    assert recorder.counts == {"packages": 4, "only_record": 26}
    (later,) = recorder.step(empty_block(), [], [crash_at(3601 * S)])
    assert later.record.t0_ns == 3601 * S


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20_000), max_size=40, unique=True), st.integers(1, 5))
def test_no_hour_begins_more_packages_than_allowed(times: list[int], per_hour: int) -> None:
    storm = Storm(per_hour)
    begun = [t for t in sorted(times) if storm.admit(t * S)]
    assert all(sum(t - 3600 < other <= t for other in begun) <= per_hour for t in begun)
    assert storm.turned_away == len(times) - len(begun)


def rings_of(samples: list[tuple[float, str, float]]) -> Rings:
    rings = Rings()
    rings.take(make_block((round(t * S), number(name), value) for t, name, value in sorted(samples)))
    return rings


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_what_is_too_old_is_left_empty() -> None:
    rings = rings_of([(88.0, "Vehicle.Speed", 20.0), (97.5, "Obd.Speed", 19.0), (100.0, "Gnss.Speed", np.nan)])
    rows = rows_of(before(rings, 100 * S).data)
    assert [i for i, r in enumerate(rows) if r["speed_indicated_mps"]] == list(range(80, 91))  # a second of the bus
    assert [i for i, r in enumerate(rows) if r["speed_obd_mps"]] == list(range(175, 201))
    assert not any(r["speed_gnss_mps"] for r in rows)


def test_the_preferred_channel_is_used_where_it_speaks() -> None:
    both = [(99.0, "Vehicle.Powertrain.CombustionEngine.Speed", 2000.0), (99.0, "Obd.EngineSpeed", 1990.0)]
    assert rows_of(before(rings_of(both), 100 * S).data)[195]["engine_rpm"] == "2000"
    made = before(rings_of(both[1:]), 100 * S)
    assert rows_of(made.data)[195]["engine_rpm"] == "1990"
    assert made.part.sources["engine_rpm"] == "Obd.EngineSpeed"


def test_an_axis_that_is_missing_is_empty_and_clipping_holds_until_it_is_said_again() -> None:
    x, z, clipped = "Imu.Acceleration.X", "Imu.Acceleration.Z", "Imu.Clipped"
    samples = [(99.0, x, 1.0), (99.0, z, 9.8), (99.5, x, -0.0001), (100.0, clipped, 2.0), (100.0, x, 157.0)]
    samples += [(100.1, x, 157.0), (100.2, clipped, 0.0), (100.2, x, 3.0)]
    made = imu(rings_of(samples), 100 * S)
    rows = rows_of(made.data)
    assert [r["clipped_axes"] for r in rows] == ["0", "0", "2", "2", "0"]
    assert [r["z_mps2"] for r in rows] == ["9.800", "", "", "", ""]
    assert [r["y_mps2"] for r in rows] == [""] * 5
    assert rows[1]["x_mps2"] == "0.000"
    assert [r["t_s"] for r in rows] == ["-1.0000", "-0.5000", "0.0000", "0.1000", "0.2000"]
    assert (made.part.first_s, made.part.last_s, made.part.rows) == (-1.0, 0.2, 5)


def test_a_track_takes_the_newest_fix_of_each_second_and_the_cars_own_where_there_is_no_receiver() -> None:
    fixes: list[tuple[float, str, float]] = []
    for i in range(40):
        t = 98.0 + i / 10
        fixes += [(t, "Gnss.Latitude", 30.0 + i / 1000), (t, "Gnss.Longitude", 114.0), (t, "Gnss.Satellites", i)]
    rows = rows_of(track(rings_of(fixes), 100 * S).data)
    assert [(r["t_s"], r["satellites"]) for r in rows] == [
        ("-2.000", "0"), ("-1.000", "10"), ("0.000", "20"), ("1.000", "30"), ("1.900", "39"),
    ]  # fmt: skip
    own = [(99.7, f"Vehicle.CurrentLocation.{n}", v) for n, v in (("Latitude", 31.0), ("Longitude", 115.0))]
    made = track(rings_of(own), 100 * S)
    assert [(r["t_s"], r["latitude_deg"], r["longitude_deg"]) for r in rows_of(made.data)] == [
        ("-0.300", "31.0000000", "115.0000000")
    ]
    assert made.part.sources["latitude_deg"] == "Vehicle.CurrentLocation.Latitude"


def test_without_any_sample_the_tables_are_empty_but_whole() -> None:
    rings = Rings()
    rings.take_rows(empty_state())
    assert len(rows_of(before(rings, 100 * S).data)) == 201
    assert rows_of(imu(rings, 100 * S).data) == rows_of(track(rings, 100 * S).data) == []
    assert set(before(rings, 100 * S).part.sources) == {c.name for c in BEFORE}


def test_what_the_car_said_of_the_crash_is_told_with_its_time() -> None:
    airbag, fuel = "Vehicle.Cabin.Seat.Row1.DriverSide.Airbag.IsDeployed", "Vehicle.Safety.IsFuelCutOff"
    said = [(98.0, fuel, 1.0), (99.5, airbag, 0.0), (100.04, airbag, 1.0), (100.08, airbag, 1.0)]
    assert cut(rings_of(said), 100 * S).flags_s == {
        "airbag_driver_s": 0.04, "airbag_passenger_s": None, "crash_flag_s": None, "fuel_cut_s": None,
    }  # fmt: skip


def test_fused_speed_lies_between_its_rows_and_does_not_bridge_a_gap() -> None:
    rings, rows = Rings(), empty_state(4)
    rows["t"] = [99 * S, 99 * S + 100 * MS, 99 * S + 200 * MS, 99 * S + 900 * MS]
    rows["speed"] = [10.0, 12.0, 14.0, 20.0]
    rings.take_rows(rows)
    at: dict[str, Any] = {r["t_s"]: r["speed_mps"] for r in rows_of(before(rings, 100 * S + 50 * MS).data)}
    assert (at["-1.0"], at["-0.9"], at["-0.8"], at["-0.5"]) == ("11.00", "13.00", "", "")
