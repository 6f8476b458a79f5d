"""The IMU driver against a device tree that looks like the kernel's: batches, units, axes, faults, unplugging."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.blocks import Block, join_blocks
from agent.channels import BY_NAME, number
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError
from drivers.iio.scan import Element, ScanLayout, parse_type
from drivers.imu import Imu
from sim.iio import FakeIio, Format

WAIT_S = 30.0
UP = np.array([0.3, -0.2, 9.8])
TURN = np.array([0.5, -1.5, 20.0])


@pytest.fixture
def device(tmp_path: Path) -> Iterator[FakeIio]:
    fake = FakeIio(tmp_path)
    fake.plug()
    yield fake
    fake.unplug()


def imu_of(fake: FakeIio, **more: object) -> Imu:
    return Imu(sysfs=fake.sysfs, dev=fake.dev, **more)  # type: ignore[arg-type]


def times(n: int, rate_hz: float = 100.0) -> np.ndarray:
    """The times of `n` samples of which the last is now."""
    return monotonic_ns() - np.arange(n - 1, -1, -1) * round(NS_PER_S / rate_hz)


def give(
    device: FakeIio, t: np.ndarray, accel: np.ndarray = UP, gyro: np.ndarray = TURN, degrees: float = 25.0
) -> None:
    device.write(t, np.broadcast_to(accel, (len(t), 3)), np.broadcast_to(gyro, (len(t), 3)), degrees)


def read_until(imu: Imu, enough: Callable[[list[Block]], bool]) -> Block:
    blocks: list[Block] = []
    end = monotonic_ns() + round(WAIT_S * NS_PER_S)
    while not enough(blocks):
        assert monotonic_ns() < end, imu.counts
        blocks.append(imu.read(0.05))
    return join_blocks(blocks)


def next_batch(imu: Imu) -> Block:
    before = imu.counts["samples"]
    return read_until(imu, lambda _: imu.counts["samples"] > before)


def of(block: Block, name: str) -> np.ndarray:
    return block["value"][block["channel"] == number(name)]


def axes(block: Block, stem: str) -> np.ndarray:
    return np.column_stack([of(block, f"{stem}.{axis}") for axis in "XYZ"])


@pytest.mark.parametrize(
    "form",
    [
        Format(),
        Format("le", 12, 16, 4, accel_range_g=2.0, gyro_range_dps=250.0),
        Format("be", 20, 32, 12, accel_range_g=8.0),
        Format("le", 24, 32, 0),
    ],
    ids=str,
)
def test_batches_are_in_units_axes_and_kernel_time(tmp_path: Path, form: Format) -> None:
    turned = ((0, 1, 0), (-1, 0, 0), (0, 0, 1))
    device = FakeIio(tmp_path, form=form, mount=turned)
    device.plug()
    imu = imu_of(device, rate_hz=200.0)
    imu.open()
    assert device.rate_hz == imu.rate_hz == 200.0
    t = times(40, 200.0)
    give(device, t)
    block = next_batch(imu)
    assert block["t"][block["channel"] == number("Imu.Acceleration.X")].tolist() == t.tolist()
    lsb = 2 / (1 << form.bits)
    np.testing.assert_allclose(axes(block, "Imu.Acceleration") - UP, 0, atol=form.accel_range_g * 9.81 * lsb)
    np.testing.assert_allclose(axes(block, "Imu.AngularVelocity") - TURN, 0, atol=form.gyro_range_dps * lsb)
    assert np.all(np.diff(block["t"]) >= 0)
    assert len(block) == 40 * 6 + 1  # and one temperature
    assert imu.counts == {"samples": 40, "lost": 0, "clipped": 0, "bad_times": 0, "out_of_range": 0}
    imu.close()
    device.unplug()


def test_the_temperature_comes_from_the_scan(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    give(device, times(3), degrees=41.5)
    assert of(next_batch(imu), "Imu.Temperature") == pytest.approx([41.5], abs=0.01)
    give(device, times(3), degrees=41.5)
    assert not len(of(next_batch(imu), "Imu.Temperature"))
    imu.close()


@pytest.mark.parametrize(("asked", "given"), [(100, 100), (101, 200), (5, 10), (4000, 1000)])
def test_the_next_offered_rate_is_taken(device: FakeIio, asked: float, given: float) -> None:
    imu = imu_of(device, rate_hz=asked)
    imu.open()
    assert imu.rate_hz == device.rate_hz == given
    imu.close()


@pytest.mark.parametrize(
    ("offered_g", "asked_g", "given_g"),
    [((2, 4, 8, 16), 16, 16), ((2, 4, 8, 16), 5, 8), ((2, 4, 8), 16, 8), ((100, 200, 400), 16, 100)],
)
def test_the_narrowest_offered_range_that_is_wide_enough_is_taken(
    tmp_path: Path, offered_g: tuple[int, ...], asked_g: float, given_g: int
) -> None:
    """Sensors start at their narrowest: ±2 g would say little of a collision."""
    device = FakeIio(tmp_path, form=Format(accel_range_g=offered_g[0]))
    device.plug()
    folder = device.sysfs / "iio:device0"
    (folder / "in_accel_scale_available").write_text(" ".join(f"{g * 9.80665 / 32768:.9f}" for g in offered_g) + "\n")
    imu = imu_of(device, range_g=asked_g)
    imu.open()
    scale = float((folder / "in_accel_scale").read_text())
    assert scale == pytest.approx(given_g * 9.80665 / 32768, rel=1e-4)
    assert f"up to ±{given_g} g" in next(h.detail for h in imu.health() if h.source == imu.name)
    times_three = times(3)
    give(device, times_three, np.array([0.0, 0.0, 9.8]))
    counts = 9.8 / (offered_g[0] * 9.80665 / 32768)  # what the fake wrote, at its own scale
    assert of(next_batch(imu), "Imu.Acceleration.Z") == pytest.approx(counts * scale, rel=0.01)
    imu.close()
    device.unplug()


def test_the_device_is_set_up_for_batches_and_switched_off_at_close(device: FakeIio) -> None:
    folder = device.sysfs / "iio:device0"
    (folder / "scan_elements" / "in_magn_x_en").write_text("1")
    imu = imu_of(device, rate_hz=200.0, batch_s=0.25)
    imu.open()
    assert (folder / "buffer" / "enable").read_text() == "1"
    assert (folder / "buffer" / "watermark").read_text() == "50"
    assert int((folder / "buffer" / "length").read_text()) >= 100
    assert (folder / "current_timestamp_clock").read_text() == "monotonic"
    assert (folder / "scan_elements" / "in_magn_x_en").read_text() == "0"
    imu.close()
    imu.close()
    assert (folder / "buffer" / "enable").read_text() == "0"


def test_a_trigger_is_named_and_paced(device: FakeIio) -> None:
    trigger = device.sysfs / "trigger3"
    trigger.mkdir()
    (trigger / "name").write_text("hr100\n")
    (trigger / "sampling_frequency").write_text("10\n")
    current = device.sysfs / "iio:device0" / "trigger" / "current_trigger"
    current.parent.mkdir()
    current.write_text("")
    imu = imu_of(device, trigger="hr100")
    imu.open()
    assert current.read_text() == "hr100"
    assert (trigger / "sampling_frequency").read_text() == "100"
    imu.close()
    with pytest.raises(DriverError, match="trigger 'hr200' does not exist"):
        imu_of(device, trigger="hr200").open()


def test_clipping_is_flagged_when_it_begins_and_ends(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    t = times(5)
    forces = np.array([[0, 0, 9.8], [400, 0, 9.8], [-400, 300, 9.8], [0, 0, 9.8], [0, 0, 9.8]], np.float64)
    device.write(t, forces, np.zeros((5, 3)))
    block = next_batch(imu)
    flags = block[block["channel"] == number("Imu.Clipped")]
    assert flags["t"].tolist() == t[1:4].tolist()
    assert flags["value"].tolist() == [1, 2, 0]
    assert imu.counts["clipped"] == 2
    assert {f.source: f.state for f in imu.health()}[f"{imu.name}:clipping"] == "degraded"
    assert axes(block, "Imu.Acceleration")[1][0] == pytest.approx(16 * 9.80665, rel=1e-3)
    device.fault("clipped")
    give(device, times(2))
    assert of(next_batch(imu), "Imu.Clipped").tolist() == [1]
    imu.close()


def test_missing_samples_are_estimated_from_the_kernels_times(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    t = times(60)
    give(device, np.delete(t[:40], [10, 11, 12, 25]))
    next_batch(imu)
    assert imu.counts["lost"] == 4
    give(device, t[45:])  # five are missing between batches
    next_batch(imu)
    assert imu.counts["lost"] == 9
    imu.close()


def test_where_the_kernel_is_often_late_nothing_is_called_lost(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    late_ms = np.tile([0, 4, 3, 2, 1], 80)  # most gaps are 9 ms, some 14: together still 10
    t = times(400) + late_ms * 1_000_000
    for at in range(0, 400, 20):
        give(device, t[at : at + 20])
        next_batch(imu)
    assert imu.counts["lost"] == 0
    assert imu.counts["samples"] == 400
    imu.close()


def test_a_late_sample_is_not_a_lost_one(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    t = times(40)
    t[[7, 19]] += 8_000_000  # one in a batch, one at its end
    give(device, t[:20])
    next_batch(imu)
    give(device, t[20:])
    next_batch(imu)
    assert imu.counts["lost"] == 0
    imu.close()


def test_a_device_that_goes_without_waking_its_reader_is_noticed(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    with (device.dev / "iio:device0").open("wb", buffering=0):
        (device.sysfs / "iio:device0").rename(device.sysfs / "gone")
        with pytest.raises(DriverError, match="disappeared"):
            imu.read(0.01)
    imu.close()


def test_impossible_times_are_dropped_and_never_go_back(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    t = times(10)
    t[4] = t[2] - 1
    t[6] += 3600 * NS_PER_S
    t[8] = 0
    give(device, t)
    block = next_batch(imu)
    assert imu.counts["bad_times"] == 3
    assert np.all(np.diff(block["t"]) >= 0)
    assert len(of(block, "Imu.Acceleration.X")) == 7
    imu.close()


def test_a_kernel_with_another_clock_is_stamped_on_arrival(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    last = 0
    for _ in range(4):
        give(device, times(10) + 10**18)
        block = next_batch(imu)
        if len(block):
            assert block["t"][0] >= last
            assert block["t"][-1] <= monotonic_ns()
            last = int(block["t"][-1])
    assert imu.counts["bad_times"] == 30
    assert last > 0
    assert {f.source: f.state for f in imu.health()}[f"{imu.name}:time"] == "degraded"
    imu.close()


def test_a_device_without_times_is_stamped_on_arrival(device: FakeIio) -> None:
    for path in (device.sysfs / "iio:device0" / "scan_elements").glob("in_timestamp_*"):
        path.unlink()
    device.sysfs.joinpath("iio:device0/scan_elements/in_timestamp_en").write_text("0")  # the writer looks
    for what, text in (("index", "7"), ("type", "le:s64/64>>0")):
        device.sysfs.joinpath(f"iio:device0/scan_elements/in_timestamp_{what}").write_text(text)
    device.sysfs.joinpath("iio:device0/current_timestamp_clock").unlink()
    imu = imu_of(device)
    imu.open()
    give(device, times(10))
    block = next_batch(imu)
    t = block["t"][block["channel"] == number("Imu.Acceleration.X")]
    assert np.all(np.diff(t) == NS_PER_S // 100)
    assert 0 <= monotonic_ns() - t[-1] < 20 * NS_PER_S
    imu.close()


def test_a_stuck_sensor_is_said(device: FakeIio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.imu.STUCK_NS", 0)
    imu = imu_of(device)
    imu.open()
    give(device, times(3), UP)
    next_batch(imu)
    device.fault("stuck")
    give(device, times(3), UP * 2)
    next_batch(imu)
    assert imu.health()[0].state == "degraded"
    device.fault("stuck", on=False)
    give(device, times(3), UP * 3)
    next_batch(imu)
    assert imu.health()[0].state == "ok"
    imu.close()


def test_a_scan_that_is_cut_waits_for_its_rest(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    whole = bytes(range(14)) + bytes(2) + struct.pack("<q", monotonic_ns())
    with (device.dev / "iio:device0").open("wb", buffering=0) as pipe:
        pipe.write(whole[:9])
        assert not len(imu.read(0.05))
        pipe.write(whole[9:] + whole[:3])
        block = next_batch(imu)
    assert len(of(block, "Imu.Acceleration.X")) == 1
    imu.close()


@settings(max_examples=30, deadline=None)
@given(noise=st.binary(min_size=24, max_size=400))
def test_garbage_in_the_buffer_raises_nothing_and_stays_in_range(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    device = FakeIio(tmp_path_factory.mktemp("iio"))
    device.plug()
    imu = imu_of(device)
    imu.open()
    with (device.dev / "iio:device0").open("wb", buffering=0) as pipe:
        pipe.write(noise)
        block = next_batch(imu)
        assert imu.counts["samples"] == len(noise) // 24
    for sample in block:
        channel = next(c for c in BY_NAME.values() if c.number == sample["channel"])
        assert channel.low <= sample["value"] <= channel.high
    imu.close()
    device.unplug()


def test_a_time_out_gives_an_empty_block(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    assert len(imu.read(0.01)) == 0
    assert len(imu.read(0.0)) == 0
    imu.close()


def test_unplugging_raises_driver_error_and_plugging_in_again_works(device: FakeIio) -> None:
    imu = imu_of(device)
    imu.open()
    give(device, times(5))
    first = next_batch(imu)
    device.unplug()
    with pytest.raises(DriverError, match="disappeared"):
        read_until(imu, lambda _: False)
    imu.close()
    with pytest.raises(DriverError, match=r"an accelerometer is not below .*devices there: none"):
        imu.open()
    device.plug()
    imu.open()
    give(device, times(2))
    assert next_batch(imu)["t"][0] >= first["t"][-1]
    imu.close()
    imu.close()
    with pytest.raises(DriverError, match="not open"):
        imu.read(0.01)


def test_a_silent_device_is_trouble(device: FakeIio) -> None:
    imu = imu_of(device, silent_s=0.05)
    imu.open()
    device.fault("silent")
    give(device, times(3))
    with pytest.raises(DriverError, match=r"no sample for 0\.05 s"):
        read_until(imu, lambda _: False)
    imu.close()


def test_a_device_is_found_by_name_or_number(tmp_path: Path) -> None:
    first, second = FakeIio(tmp_path, name="bmi160"), FakeIio(tmp_path, name="lsm6dso", number=12)
    first.plug()
    second.plug()
    for wanted, state in (("lsm6dso", "iio:device12"), ("iio:device12", "iio:device12"), (None, "iio:device0")):
        imu = imu_of(first, device=wanted)
        imu.open()
        assert imu.health()[0].detail.startswith(f"{state} ")
        imu.close()
    with pytest.raises(DriverError, match=r"'mpu9250' is not below .*iio:device0 \(bmi160\), iio:device12 \(lsm6dso\)"):
        imu_of(first, device="mpu9250").open()
    first.unplug()
    second.unplug()


def test_a_device_without_buffer_is_polled(tmp_path: Path) -> None:
    device = FakeIio(tmp_path, buffer=False, mount=((0, 0, 1), (1, 0, 0), (0, 1, 0)))
    device.plug()
    give(device, times(1))
    imu = imu_of(device, poll_hz=200.0)
    imu.open()
    start_ns = monotonic_ns()
    block = read_until(imu, lambda _: imu.counts["samples"] >= 6)
    assert monotonic_ns() - start_ns >= 5 * NS_PER_S // 200
    np.testing.assert_allclose(axes(block, "Imu.Acceleration") - UP, 0, atol=0.01)
    assert of(block, "Imu.Temperature") == pytest.approx([25.0], abs=0.01)
    assert np.all(np.diff(block["t"]) >= 0)
    (device.sysfs / "iio:device0" / "in_anglvel_y_raw").write_text("busy")
    with pytest.raises(DriverError, match=r"in_anglvel_y_raw: 'busy' is no number"):
        read_until(imu, lambda _: False)
    device.unplug()
    with pytest.raises(DriverError, match="is the device still there"):
        read_until(imu, lambda _: False)
    imu.close()


@pytest.mark.parametrize(
    ("attribute", "text", "match"),
    [
        ("in_accel_scale", "none", "in_accel_scale is missing"),
        ("in_mount_matrix", "1, 0; 0, 1", "no 3 × 3 matrix"),
        ("scan_elements/in_accel_x_type", "le:s24/24>>0", "storage must be"),
        ("scan_elements/in_accel_x_type", "middle", "no scan type"),
        ("scan_elements/in_accel_x_index", "first", "is no number"),
    ],
)
def test_a_broken_attribute_is_named(device: FakeIio, attribute: str, text: str, match: str) -> None:
    (device.sysfs / "iio:device0" / attribute).write_text(text)
    imu = imu_of(device)
    with pytest.raises(DriverError, match=match):
        imu.open()
    imu.close()


def test_a_reader_that_sleeps_loses_samples_and_counts_them(device: FakeIio) -> None:
    imu = imu_of(device, rate_hz=1000.0)
    imu.open()
    first = times(6000, 1000.0)
    for start in range(0, 6000, 100):
        give(device, first[start : start + 100])
    kept = 6000 - device.overruns
    assert device.overruns > 0
    read_until(imu, lambda _: imu.counts["samples"] == kept)
    give(device, times(5, 1000.0))
    next_batch(imu)
    assert imu.counts["lost"] >= device.overruns
    imu.close()


# --- the scan format against struct -------------------------------------------------------------------------------


@st.composite
def elements(draw: st.DrawFn) -> list[Element]:
    made = []
    for index in range(draw(st.integers(1, 8))):
        storage = draw(st.sampled_from([8, 16, 32, 64]))
        bits = draw(st.integers(1, storage))
        text = (
            f"{draw(st.sampled_from(['be', 'le']))}:{draw(st.sampled_from('su'))}{bits}/{storage}"
            f">>{draw(st.integers(0, storage - bits))}"
        )
        made.append(parse_type(f"in_{index}", index, text))
    return made


@settings(max_examples=150, deadline=None)
@given(elements(), st.data())
def test_scans_decode_as_struct_reads_them(made: list[Element], data: st.DataObject) -> None:
    layout = ScanLayout(made[::-1])
    n = data.draw(st.integers(0, 4))
    scans = data.draw(st.binary(min_size=n * layout.size, max_size=n * layout.size))
    decoded = layout.decode(scans)
    for scan in range(n):
        at = 0
        for element in made:
            at += -at % element.size
            code = {8: "B", 16: "H", 32: "I", 64: "Q"}[element.storage_bits]
            (stored,) = struct.unpack_from((">" if element.big_endian else "<") + code, scans, scan * layout.size + at)
            at += element.size
            value = (stored >> element.shift) % (1 << element.bits)
            if element.signed and value >= 1 << (element.bits - 1):
                value -= 1 << element.bits
            assert int(decoded[element.name][scan]) % 2**64 == value % 2**64
    assert layout.size % max(e.size for e in made) == 0


def test_a_scan_is_padded_like_the_kernels() -> None:
    made = [parse_type(f"a{n}", n, "le:s16/16>>0") for n in range(3)] + [parse_type("t", 3, "le:s64/64>>0")]
    assert ScanLayout(made).size == 16
    assert ScanLayout(made[:3]).size == 6
    assert ScanLayout([parse_type("q", 0, "le:s16/32X4>>0")]).size == 16


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20) | st.from_regex(r"(be|le):[su]\d{1,3}/\d{1,3}(X\d)?(>>\d{1,2})?", fullmatch=True))
def test_a_type_is_read_or_refused(text: str) -> None:
    try:
        element = parse_type("in_accel_x", 0, text)
    except ValueError:
        return
    assert element.bits + element.shift <= element.storage_bits
    assert element.rails[0] <= element.rails[1]
