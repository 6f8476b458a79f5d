"""Traffic is counted exactly, and a profile fits by what its values say, not by its identifiers alone."""

from pathlib import Path

import pytest

from agent.blocks import ERROR, FD, Frames
from agent.vehicle import traffic as traffic_module
from agent.vehicle.matching import Match, Matcher, match
from agent.vehicle.traffic import Key, Traffic
from drivers.recording import open_recording
from tests.vehicle_bus import CAR, MS, car_frames, frames

CONFIG = Path(__file__).parents[1] / "config"
CAN = Path(__file__).parents[1].parent / "shared" / "data" / "can"


def named(matches: list[Match], name: str) -> Match:
    return next(m for m in matches if m.name == name)


def cut(whole: Frames, size: int) -> list[Frames]:
    return [Frames(*(c[i : i + size] for c in whole)) for i in range(0, len(whole.t), size)]  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_rates_jitter_and_load_do_not_depend_on_how_frames_come_in_batches(size: int) -> None:
    rows = [(t * 10 * MS + (t % 2) * MS, 0x100, b"12345678") for t in range(101)]
    rows += [(t * 100 * MS + 5000, 0x18FEF100, b"1234") for t in range(11)]
    seen = Traffic()
    for part in cut(frames(sorted(rows)), size):
        seen.add(part, ["can0"])
    fast, slow = seen.ids[Key("can0", 0x100, False)], seen.ids[Key("can0", 0x18FEF100, True)]
    assert (fast.frames, fast.shortest_ns, fast.longest_ns, fast.most_bytes) == (101, 9 * MS, 11 * MS, 8)
    assert fast.rate_hz == pytest.approx(100.0)
    assert fast.jitter_s == pytest.approx(0.001)
    assert (slow.frames, slow.least_bytes, slow.rate_hz) == (11, 4, pytest.approx(10.0))
    bus = seen.buses["can0"]
    # 47 + 64 bits and 67 + 32 bits; at worst one stuff bit after each four of 34 + 64 and 54 + 32
    assert bus.bits == 101 * 111 + 11 * 99
    assert bus.stuffed == 101 * (111 + 97 // 4) + 11 * (99 + 85 // 4)
    load = bus.load(500_000)
    assert load is not None
    assert load[0] == pytest.approx((101 * 111 + 11 * 99) / bus.lasted_s / 500_000)


def test_error_frames_are_counted_apart_and_fd_frames_have_no_known_load() -> None:
    seen = Traffic()
    seen.add(frames([(0, 0x20000004, bytes(8))], ERROR), ["can0"])
    assert (seen.frames, seen.buses["can0"].errors, seen.ids) == (0, 1, {})
    seen.add(frames([(MS, 0x100, bytes(8)), (2 * MS, 0x100, bytes(8))], FD), ["can0"])
    assert seen.buses["can0"].load(500_000) is None
    assert seen.buses["can0"].likely_bit_rate is None


def test_a_bus_of_random_identifiers_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_module, "MOST_IDS", 50)
    seen = Traffic()
    seen.add(frames([(t, 0x10000000 + t, b"") for t in range(80)]), ["can0"])
    assert (len(seen.ids), seen.uncounted, seen.frames) == (50, 30, 80)


@pytest.mark.parametrize(("rate", "stuffing"), [(500_000, 1.0), (250_000, 1.1), (125_000, 1.18)])
def test_the_bit_rate_shows_in_bursts_of_frames_back_to_back(rate: int, stuffing: float) -> None:
    t, rows = 0.0, []
    for burst in range(50):
        t = burst * 50e6
        for i in range(20):
            t += 111 * stuffing / rate * 1e9
            rows.append((round(t), 0x100 + i, bytes(8)))
    seen = Traffic()
    seen.add(frames(rows), ["can0"])
    assert seen.buses["can0"].likely_bit_rate == rate


def test_frames_that_come_evenly_or_all_at_once_tell_no_bit_rate() -> None:
    even, bunched = Traffic(), Traffic()
    even.add(frames([(t * 5 * MS, 0x100, bytes(8)) for t in range(1000)]), ["can0"])
    bunched.add(frames([(t // 40 * 50 * MS, 0x100, bytes(8)) for t in range(2000)]), ["can0"])
    assert even.buses["can0"].likely_bit_rate is None
    assert bunched.buses["can0"].likely_bit_rate is None


@pytest.mark.parametrize("size", [53, 100_000])
def test_the_cars_own_profile_fits_and_tells_what_would_be_gained(size: int) -> None:
    batches = [(part, ["can0"]) for part in cut(car_frames(3, (0x555, 100, "00")), size)]
    best = match(batches)[0]
    assert (best.name, best.fits, best.seen, best.mapped) == ("simcar", True, 9, 16)
    assert (best.ids, best.of_ids, best.of_frames - best.frames) == (9, 10, 30)
    assert not best.conflicts
    gains = {g.channel: g for g in best.gains}
    speed = gains["Vehicle.Speed"]
    assert (speed.values, speed.expected, speed.least, speed.most) == (60, 60, pytest.approx(25.0), pytest.approx(25.0))
    assert gains["Vehicle.Powertrain.CombustionEngine.Speed"].most == 2000.0


def test_a_bus_that_is_called_otherwise_is_tried_all_the_same_and_the_name_is_told() -> None:
    best = match([(car_frames(1), ["slcan0"])])[0]
    assert best.fits
    assert best.conflicts == (
        "the profile is for a bus called can0, this one is slcan0; set bus = 'can0' for it in agent.toml",
    )


def test_values_that_cannot_be_speak_against_a_profile_and_so_do_frames_that_are_too_short() -> None:
    spoiled = {0x3E9: "FFFF", 0x2F0: "00"}
    found = named(match([(car_frames(2, spoiled=spoiled), ["can0"])]), "simcar")
    told = " | ".join(found.conflicts)
    assert found.fits  # most channels are still right
    whole = {i: "FF" * (len(data) // 2) for i, _, data in CAR}
    assert not named(match([(car_frames(2, spoiled=whole), ["can0"])]), "simcar").fits
    assert "KINEMATICS (2F0): frames have 1 bytes, the DBC needs 6" in told
    assert "Vehicle.Speed: only 0 of 40 values of SPEED.VehicleSpeed are possible ones" in told


def test_a_stranger_dbc_is_ranked_by_frames_of_the_length_that_it_says(tmp_path: Path) -> None:
    good, bad, broken = (tmp_path / name for name in ("good.dbc", "bad.dbc", "broken.dbc"))
    good.write_text('BO_ 201 A: 8 X\n SG_ S : 0|8@1+ (1,0) [0|0] "" X\n')
    bad.write_text('BO_ 201 A: 3 X\n SG_ S : 0|8@1+ (1,0) [0|0] "" X\nBO_ 241 B: 3 X\n')
    broken.write_text("nothing of the kind")
    matcher = Matcher(tmp_path, [good, bad, broken])
    matcher.add(car_frames(1), ["can0"])
    found = matcher.matches()
    assert [(m.name, m.seen, m.mapped, m.frames) for m in found] == [("good", 1, 1, 100), ("bad", 1, 2, 50)]
    assert found[1].conflicts == ("A (0C9): frames have 8 bytes, the DBC says 3",)
    assert matcher.unreadable[0].startswith(str(broken))


def test_a_broken_profile_does_not_keep_the_others_from_being_tried(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "dbc").symlink_to(CONFIG / "dbc")
    (tmp_path / "profiles" / "simcar.toml").write_text((CONFIG / "profiles" / "simcar.toml").read_text())
    (tmp_path / "profiles" / "broken.toml").write_text("name = 1")
    matcher = Matcher(tmp_path)
    matcher.add(car_frames(1), ["can0"])
    assert [m.name for m in matcher.matches()] == ["simcar"]
    assert "broken.toml" in matcher.unreadable[0]


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "profile", "described", "rate"),
    [
        ("rav4/rav4_60s.candump.log.xz", "toyota-rav4", 21_846, 500_000),
        ("trip164/trip164.candump.log.xz", "canmod", 253_843, None),
    ],
)
def test_the_right_profile_fits_a_real_recording_and_no_other(
    file: str, profile: str, described: int, rate: int | None
) -> None:
    if not (CAN / file).exists():
        pytest.skip("../shared/data is absent")
    recording = open_recording(CAN / file)
    matcher = Matcher(CONFIG)
    for batch in recording.batches():
        assert isinstance(batch, Frames)
        matcher.add(batch, recording.buses)
    found = matcher.matches()
    assert [m.name for m in found if m.fits] == [profile]
    assert (found[0].share, found[0].frames) == (1.0, described)
    assert all(g.plausible for g in found[0].gains)
    assert matcher.traffic.buses["can0"].likely_bit_rate == rate
    assert matcher.unknown_uncounted == 0
