"""Time on a machine without a clock battery: 1970, NTP, satellites, steps; nothing that happened ever moves."""

import os
from pathlib import Path

import pytest

from agent import clock
from agent.blocks import Block, make_block
from agent.boottime import BootTime
from agent.channels import number
from agent.clock import kernel_error_ns
from agent.records import Clock
from agent.settings import AgentConfig
from agent.spine import Spine
from agent.store import Store
from agent.timekeeping import Timekeeper, floors_ns

S = 1_000_000_000
MS = 1_000_000
UTC_NS = 1_790_000_000 * S  # September 2026: what it really was at monotonic 0
TIME, ACCURACY, SPEED = number("Gnss.Time"), number("Gnss.TimeAccuracy"), number("Vehicle.Speed")


class Machine:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self.wall_ns = 30 * S  # at monotonic 0: it boots in 1970
        self.error_ns: int | None = None
        self.floor_ns = UTC_NS - 200 * 86_400 * S  # when its systemd was built

    def keeper(self, boot_time: BootTime, folder: Path) -> Timekeeper:
        return Timekeeper(
            boot_time,
            folder,
            wall_minus_monotonic_ns=lambda: self.wall_ns,
            kernel_error_ns=lambda: self.error_ns,
            floors_ns=lambda: [self.floor_ns],
        )


def fixes(start_s: int, n: int, late_ms: int = 180, accuracy_s: float | None = None) -> Block:
    """Return one fix a second, stamped `late_ms` after its time."""
    samples = []
    for k in range(start_s, start_s + n):
        t_ns = k * S + late_ms * MS
        samples.append((t_ns, TIME, (UTC_NS + k * S) / S))
        if accuracy_s is not None:
            samples.append((t_ns, ACCURACY, accuracy_s))
    return make_block(samples)


def test_a_boot_in_1970_knows_nothing_and_a_fix_after_90_s_dates_all_of_it(tmp_path: Path) -> None:
    s = AgentConfig()
    boot_time = BootTime()
    keeper = Machine().keeper(boot_time, tmp_path)
    spine = Spine(s.fusion, s.detection, s.trips, boot_time=boot_time)
    with Store.open(tmp_path) as store:
        store.begin_boot("a" * 32)
        assert keeper.begin(5 * S) is None
        assert keeper.look(6 * S) is None
        assert keeper.utc_ns(7 * S) is None
        store.append(spine.step(fixes(90, 5)).records)
        utc = store.utc_of("a" * 32, 2 * S)
    assert utc is not None
    assert utc.quality == "gnss"
    assert abs(utc.utc_ns - (UTC_NS + 2 * S)) <= 300 * MS
    assert utc.uncertainty_ns == 300 * MS
    assert keeper.utc_ns(100 * S) is not None


def test_with_a_pulse_per_second_the_boot_is_dated_to_50_ms_and_says_so() -> None:
    boot_time = BootTime()
    said = boot_time.learn(fixes(90, 5, late_ms=0, accuracy_s=0.002))
    assert said[-1].uncertainty_ns <= 50 * MS
    assert abs(said[-1].offset_ns - UTC_NS) <= 2 * MS
    assert boot_time.learn(fixes(100, 100, late_ms=0, accuracy_s=0.002)) == []


def test_any_split_of_fixes_and_accuracies_teaches_the_same() -> None:
    block = fixes(90, 8, late_ms=3, accuracy_s=0.01)
    whole = BootTime().learn(block)
    one_by_one = BootTime()
    assert [c for i in range(len(block)) for c in one_by_one.learn(block[i : i + 1])] == whole


def test_a_plausible_wall_clock_is_restored_but_nobody_vouches_for_it(tmp_path: Path) -> None:
    machine = Machine()
    machine.wall_ns = UTC_NS
    boot_time = BootTime()
    keeper = machine.keeper(boot_time, tmp_path)
    clock = keeper.begin(5 * S)
    assert clock == Clock(t_ns=5 * S, offset_ns=UTC_NS, quality="restored", uncertainty_ns=86_400 * S)
    assert keeper.utc_ns(6 * S) is None  # not sure enough to throw anything away by age


def test_a_board_without_a_clock_does_not_take_the_day_of_systemds_build_for_the_time(tmp_path: Path) -> None:
    machine = Machine()
    machine.wall_ns = machine.floor_ns - 8 * S  # set eight seconds after the kernel's start
    assert machine.keeper(BootTime(), tmp_path).begin(30 * S) is None
    (tmp_path / "last-utc").write_text(str(UTC_NS))
    restored = machine.keeper(BootTime(), tmp_path).begin(30 * S)
    assert restored is not None
    assert (restored.quality, restored.offset_ns + 30 * S) == ("restored", UTC_NS)
    machine.wall_ns = machine.floor_ns + 3600 * S  # somebody set it
    (tmp_path / "last-utc").unlink()
    assert machine.keeper(BootTime(), tmp_path).begin(30 * S) is not None


def test_the_floor_of_this_machines_systemd_is_in_the_past(tmp_path: Path) -> None:
    file = tmp_path / "clock-epoch"
    file.touch()
    os.utime(file, ns=(5 * S, 5 * S))
    assert floors_ns((file, tmp_path / "none")) == [5 * S]
    assert all(floor_ns < clock.wall_ns() for floor_ns in floors_ns())


def test_a_saved_time_is_restored_where_the_wall_clock_is_behind_it(tmp_path: Path) -> None:
    before = BootTime()
    before.learn(fixes(10, 3, late_ms=0))
    Machine().keeper(before, tmp_path).save(100 * S)
    boot_time = BootTime()
    clock = Machine().keeper(boot_time, tmp_path).begin(4 * S)
    assert clock is not None
    assert clock.quality == "restored"
    assert clock.offset_ns + 4 * S == UTC_NS + 100 * S


@pytest.mark.parametrize("content", ["", "yesterday", "-5"])
def test_a_damaged_saved_time_is_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "last-utc").write_text(content)
    assert Machine().keeper(BootTime(), tmp_path).begin(S) is None


def test_ntp_is_believed_when_the_kernel_says_that_it_is_kept_and_readings_agree(tmp_path: Path) -> None:
    machine = Machine()
    boot_time = BootTime()
    keeper = machine.keeper(boot_time, tmp_path)
    machine.wall_ns = UTC_NS
    assert [keeper.look(t * S) for t in range(1, 10)] == [None] * 9
    machine.error_ns = 25 * MS
    said = [keeper.look(t * S) for t in range(10, 20)]
    assert [c for c in said if c] == [Clock(t_ns=12 * S, offset_ns=UTC_NS, quality="ntp", uncertainty_ns=25 * MS)]
    assert keeper.utc_ns(20 * S) == UTC_NS + 20 * S


@pytest.mark.parametrize("years", [-20, 20])
@pytest.mark.parametrize("quality", ["ntp", "gnss"])
def test_a_wall_clock_that_steps_in_mid_drive_moves_nothing(years: int, quality: str, tmp_path: Path) -> None:
    machine = Machine()
    boot_time = BootTime()
    keeper = machine.keeper(boot_time, tmp_path)
    machine.wall_ns, machine.error_ns = UTC_NS, 5 * MS
    for t in range(1, 5):
        keeper.look(t * S)
    if quality == "gnss":
        boot_time.learn(fixes(5, 4, late_ms=100))
    known_ns = boot_time.offset_ns
    machine.wall_ns, machine.error_ns = (
        UTC_NS + years * 365 * 86_400 * S,
        None,
    )  # settimeofday clears the kernel's trust
    assert [keeper.look(t * S) for t in range(10, 3600)] == [None] * 3590
    assert (boot_time.offset_ns, boot_time.quality) == (known_ns, quality)


def test_ntp_that_corrects_itself_is_believed_and_counted(tmp_path: Path) -> None:
    machine = Machine()
    boot_time = BootTime()
    keeper = machine.keeper(boot_time, tmp_path)
    machine.wall_ns, machine.error_ns = UTC_NS - 3600 * S, 5 * MS
    for t in range(1, 5):
        keeper.look(t * S)
    machine.wall_ns = UTC_NS
    said = [c for t in range(5, 20) if (c := keeper.look(t * S))]
    assert [(c.offset_ns, c.uncertainty_ns) for c in said] == [(UTC_NS, 10 * MS)]
    assert boot_time.steps == 1


def test_an_agent_restarted_within_a_boot_keeps_what_it_knew(tmp_path: Path) -> None:
    before = BootTime()
    said = before.learn(fixes(10, 5, late_ms=20, accuracy_s=0.002))
    boot_time = BootTime()
    for known in said:
        boot_time.resume(known)
    assert (boot_time.offset_ns, boot_time.quality) == (before.offset_ns, "gnss")
    assert boot_time.learn(fixes(60, 5, late_ms=20, accuracy_s=0.002)) == []


def test_the_kernel_answers() -> None:
    error_ns = kernel_error_ns()
    assert error_ns is None or error_ns >= 0
