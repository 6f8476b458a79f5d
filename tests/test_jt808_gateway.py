"""The JT/T 808 gateway against a platform on a real socket: told once and in order, whatever the platform does."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from agent import clock
from agent.records import Event, Track
from receiver import db
from receiver.gcj02 import from_wgs84
from receiver.jt808 import alarms, messages, tables
from receiver.jt808.frame import Message, encode
from receiver.jt808.gateway import Gateway
from receiver.jt808.messages import Answer, Location
from receiver.jt808.settings import TerminalSettings
from tests.pages import SPEEDING, Desk, S, braking, clock_at, drive
from tests.platforms import CUT, Platform, general, listening, settings, telling, terminal, until
from tests.sample_records import crash
from tests.syncing import ListSource, new_database, postgresql

NOW = clock.wall_ns()
BEGIN = NOW - 86_400 * S  # when the boot's monotonic clock was at one second
DRIVE = drive(seconds=3000)  # 101 points: three batches
SPEEDS = braking(700 * S, **SPEEDING)  # 25 s


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """A desk on each database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'receiver.db'}"
    else:
        cluster: str = request.getfixturevalue("cluster")
        url = new_database(cluster)
    desk = Desk(db.open_database(url))
    yield desk
    desk.engine.dispose()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(db.open_database(f"sqlite:///{tmp_path / 'receiver.db'}"))
    yield desk
    desk.engine.dispose()


def driven(desk: Desk, *more: Any, at: int = NOW - 3600 * S) -> ListSource:
    source = desk.enrol()
    desk.send(source, [clock_at(BEGIN), *DRIVE, *more], at=at)
    return source


def row(engine: Engine, device: str) -> Any:
    with db.reading(engine) as connection:
        return tables.row_of(connection, device)


def track_of(records: list[Any] = DRIVE) -> Track:
    return next(r for r in records if isinstance(r, Track))


def times(track: Track) -> list[int]:
    """Return the UTC seconds of a track's points."""
    at, found = track.start_ns, []
    for dt_ms in track.dt_ms:
        at += dt_ms * 1_000_000
        found.append((at + BEGIN - S) // S)
    return found


def test_a_terminal_registers_authenticates_and_tells_its_stored_track_once(both: Desk) -> None:
    source = driven(both)
    device = source.device

    async def scenario() -> None:
        async with listening(Platform()) as platform:
            configured = settings(platform.port, {device: terminal()})
            async with telling(both.engine, configured):
                await platform.until(lambda: len(platform.kept) == 101)
                await until(lambda: row(both.engine, device).told == 101)
                assert row(both.engine, device).state == "online"
            assert platform.ids()[:3] == [messages.REGISTER, messages.AUTHENTICATE, messages.LOCATIONS]
            [asked] = platform.registrations
            assert (asked.province, asked.city, asked.maker, asked.terminal) == (37, 100, "RW", "RW0001")
            assert (asked.plate, asked.plate_colour, asked.model) == ("鲁A12345", 1, "roadwitness")
            assert platform.heard[0].phone == "00000000013912344329"
            assert [m.serial for m in platform.heard] == list(range(len(platform.heard)))
            assert set(platform.batches) == {messages.BLIND_AREA}  # received before the link was there
            assert row(both.engine, device).state == "stopped"
            # Another process: known code, nothing to tell again, then what is new, which did not wait for a link.
            async with telling(both.engine, configured):
                await platform.until(lambda: platform.ids().count(messages.AUTHENTICATE) == 2)
                await until(lambda: row(both.engine, device).state == "online")
                later = drive(start_ns=5000 * S, seconds=300)
                both.send(source, later, at=clock.wall_ns() + S)
                await platform.until(lambda: len(platform.kept) == 112)
            assert len(platform.registrations) == 1
            assert platform.batches[-1] == messages.NORMAL
        kept = [x.utc_s for x in platform.kept]
        assert kept == times(track_of()) + times(track_of(later))
        first = platform.kept[0]
        assert first.status == messages.ACC | messages.FIXED
        assert (first.latitude_e6, first.longitude_e6) == (31_230_000, 121_470_000)
        assert max(x.speed_kmh10 for x in platform.kept) == round(max(track_of().speed_cmps) * 0.36)
        assert 38 <= platform.kept[1].direction_deg <= 48

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cut_links_lose_nothing_and_repeat_only_what_was_not_confirmed(both: Desk, seed: int) -> None:
    device = driven(both, *drive(start_ns=4000 * S, seconds=6000)).device
    rng = random.Random(seed)
    cuts: list[int] = []

    def script(platform: Platform, message: Message) -> Any:
        if len(cuts) < 25 and rng.random() < 0.5:
            cuts.append(message.id)
            if rng.random() < 0.5:
                platform.keep(message)  # taken, and the answer lost with the link
            return CUT
        return None

    async def scenario() -> Platform:
        async with listening(Platform(script)) as platform:
            configured = settings(platform.port, {device: terminal()})
            async with telling(both.engine, configured):
                await until(lambda: (r := row(both.engine, device)) is not None and r.told == 101 + 201)
        return platform

    platform = asyncio.run(scenario())
    expected = times(track_of()) + times(track_of(drive(start_ns=4000 * S, seconds=6000)))
    kept = [x.utc_s for x in platform.kept]
    assert sorted(set(kept)) == sorted(expected)
    assert len(kept) - len(expected) <= 34 * len(cuts)
    assert len(cuts) > 5
    assert set(platform.batches) == {messages.BLIND_AREA}
    with db.reading(both.engine) as connection:
        lanes = {r.lane: (r.seq, r.part) for r in connection.execute(tables.sent.select())}
    assert lanes["track"][1] == 0


def test_a_platform_that_is_away_is_tried_again_and_then_told(desk: Desk) -> None:
    device = driven(desk).device

    async def scenario() -> None:
        async with listening(Platform()) as platform:
            pass  # a port that nobody listens on any more
        async with telling(desk.engine, settings(platform.port, {device: terminal()})):
            await until(lambda: (r := row(desk.engine, device)) is not None and r.state == "broken")
            assert "cannot connect" in row(desk.engine, device).detail
            async with listening(platform):
                await platform.until(lambda: len(platform.kept) == 101)

    asyncio.run(scenario())


def test_a_slow_answer_is_asked_for_again_with_the_same_number_and_counts_once(desk: Desk) -> None:
    device = driven(desk).device
    held: list[Message] = []

    def script(platform: Platform, message: Message) -> Any:
        if message.id == messages.LOCATIONS and len(held) < 2:
            held.append(message)
            platform.keep(message) if len(held) == 1 else None
            # silent the first time, then both answers at once
            return b"" if len(held) == 1 else general(message, 0) + general(message, 0)
        return None

    async def scenario() -> None:
        async with listening(Platform(script)) as platform:
            configured = settings(platform.port, {device: terminal()}, answer_timeout_s=1.0)
            async with telling(desk.engine, configured):
                await until(lambda: (r := row(desk.engine, device)) is not None and r.told == 101)
            assert held[0] == held[1]
            assert platform.links == 1
            assert len(platform.kept) == 101

    asyncio.run(scenario())


def test_wrong_answers_move_nothing(desk: Desk) -> None:
    device = driven(desk).device
    lies: list[bytes] = []

    def script(platform: Platform, message: Message) -> Any:
        if message.id != messages.LOCATIONS or len(lies) >= 5:
            return None
        right = general(message, 0)
        other = encode(Message(messages.PLATFORM_ANSWER, "1" * 20, 0, Answer(message.serial, message.id, 0).encode()))
        short = encode(Message(messages.PLATFORM_ANSWER, message.phone, 0, b"\0"))
        lie = [
            general(message, 0, serial=message.serial + 1),
            general(message, 0, id=messages.LOCATION),
            other,
            short,
            right[:-3] + b"\xff\xff\x7e",
        ][len(lies)]
        lies.append(lie)
        return lie + bytes(9000)

    async def scenario() -> None:
        async with listening(Platform(script)) as platform:
            configured = settings(platform.port, {device: terminal()}, answer_timeout_s=0.05)
            async with telling(desk.engine, configured):
                await until(lambda: len(lies) == 5)
                await until(lambda: row(desk.engine, device).told == 101)
            assert len(platform.kept) == 101

    asyncio.run(scenario())


def test_what_the_platform_asks_is_answered_as_unsupported_also_when_it_comes_twice(desk: Desk) -> None:
    device = driven(desk).device
    command = 0x8103

    def script(platform: Platform, message: Message) -> Any:
        if message.id != messages.LOCATIONS or len(platform.batches) != 1:
            return None
        asked = encode(Message(command, message.phone, 77, b"\x01\0\0\0\x55\x04\0\0\0\x78"))
        platform.keep(message)
        return asked + asked + general(message, 0)

    async def scenario() -> None:
        async with (
            listening(Platform(script)) as platform,
            telling(desk.engine, settings(platform.port, {device: terminal()})),
        ):
            await platform.until(lambda: platform.ids().count(messages.TERMINAL_ANSWER) == 2)
            await platform.until(lambda: len(platform.kept) == 101)
            said = [Answer.decode(m.body) for m in platform.heard if m.id == messages.TERMINAL_ANSWER]
            assert said == [Answer(77, command, messages.UNSUPPORTED)] * 2

    asyncio.run(scenario())


def test_one_position_that_the_platform_calls_wrong_does_not_hold_up_the_others(desk: Desk) -> None:
    device = driven(desk).device
    bad = times(track_of())[50]

    def script(platform: Platform, message: Message) -> Any:
        if message.id == messages.LOCATIONS:
            found = messages.decode_batch(message.body)[1]
        elif message.id == messages.LOCATION:
            found = [Location.decode(message.body)]
        else:
            return None
        return messages.WRONG if any(x.utc_s == bad for x in found) else None

    async def scenario() -> None:
        async with listening(Platform(script)) as platform:
            async with telling(desk.engine, settings(platform.port, {device: terminal()})):
                await until(lambda: (r := row(desk.engine, device)) is not None and r.told == 100)
            assert row(desk.engine, device).refused == 1
            assert [x.utc_s for x in platform.kept] == [t for t in times(track_of()) if t != bad]

    asyncio.run(scenario())


def test_a_platform_without_batches_gets_single_positions_and_a_failing_one_gets_them_later(desk: Desk) -> None:
    device = driven(desk).device
    failures: list[int] = []

    def script(platform: Platform, message: Message) -> Any:
        if message.id == messages.LOCATIONS:
            return messages.UNSUPPORTED
        if message.id == messages.LOCATION and len(failures) < 3:
            failures.append(message.serial)
            return messages.FAILED
        return None

    async def scenario() -> None:
        async with listening(Platform(script)) as platform:
            async with telling(desk.engine, settings(platform.port, {device: terminal()})):
                await until(lambda: (r := row(desk.engine, device)) is not None and r.told == 101)
            assert platform.links == 4
            assert row(desk.engine, device).refused == 0
            assert [x.utc_s for x in platform.kept] == times(track_of())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("result", "told"),
    [(1, "vehicle registered already"), (2, "this vehicle"), (3, "terminal"), (4, "its id"), (9, "9")],
)
def test_a_refused_registration_is_told_and_sends_nothing(desk: Desk, result: int, told: str) -> None:
    device = driven(desk).device

    def script(platform: Platform, message: Message) -> Any:
        return result if message.id == messages.REGISTER else None

    async def scenario() -> None:
        async with listening(Platform(script)) as platform:
            async with telling(desk.engine, settings(platform.port, {device: terminal()})):
                await platform.until(lambda: len(platform.registrations) == 2)
                await until(lambda: row(desk.engine, device).state == "refused")
            assert set(platform.ids()) == {messages.REGISTER}
            assert told in row(desk.engine, device).detail

    asyncio.run(scenario())


def test_a_code_that_the_platform_forgot_is_replaced_by_a_new_registration(desk: Desk) -> None:
    device = driven(desk).device

    async def scenario() -> None:
        async with listening(Platform(code="old")) as platform:
            configured = settings(platform.port, {device: terminal()})
            async with telling(desk.engine, configured):
                await until(lambda: (r := row(desk.engine, device)) is not None and r.told == 101)
            platform.code = "new"
            async with telling(desk.engine, configured):
                await until(
                    lambda: row(desk.engine, device).code == "new" and row(desk.engine, device).state == "online"
                )
            assert len(platform.registrations) == 2
            platform.script = lambda p, m: messages.FAILED if m.id == messages.AUTHENTICATE else None
            async with telling(desk.engine, configured):
                await until(lambda: row(desk.engine, device).state == "refused")
            assert "authentication code" in row(desk.engine, device).detail
            assert row(desk.engine, device).told == 101

    asyncio.run(scenario())


def test_only_what_the_owner_agreed_to_is_told_and_then_the_terminal_signs_off(desk: Desk) -> None:
    device = driven(desk).device
    seconds = times(track_of())
    moment = {n: datetime.fromtimestamp(seconds[n], UTC) for n in (10, 90)}

    async def scenario() -> None:
        async with listening(Platform()) as platform:
            silent = {device: terminal(consent_from=None)}
            async with telling(desk.engine, settings(platform.port, silent)) as running:
                await asyncio.wait_for(running, 60)
            assert platform.links == 0
            assert row(desk.engine, device).state == "off"

            open_end = {device: terminal(consent_from=moment[10])}
            async with telling(desk.engine, settings(platform.port, open_end)):
                await until(lambda: row(desk.engine, device).told == 91)
            assert [x.utc_s for x in platform.kept] == seconds[10:]

            ended = {device: terminal(consent_from=moment[10], consent_until=moment[90])}
            async with telling(desk.engine, settings(platform.port, ended)) as running:
                await asyncio.wait_for(running, 60)
            assert platform.ids()[-2:] == [messages.AUTHENTICATE, messages.DEREGISTER]
            assert (row(desk.engine, device).state, row(desk.engine, device).code) == ("signed_off", None)
            assert len(platform.kept) == 91

            links = platform.links
            async with telling(desk.engine, settings(platform.port, ended)) as running:
                await asyncio.wait_for(running, 60)
            assert platform.links == links

    asyncio.run(scenario())


class Wall:
    """The wall clock of the gateway, which a test may set on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_ns, real = 0, clock.wall_ns
        monkeypatch.setattr(clock, "wall_ns", lambda: real() + self.ahead_ns)


HOUR = 3600 * S


def ending_in_an_hour() -> TerminalSettings:
    return terminal(consent_until=datetime.fromtimestamp(clock.wall_ns() // S + 3600, UTC))


def test_nothing_after_the_end_of_consent_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    future = replace(track_of(), start_ns=clock.wall_ns() - BEGIN + 2 * HOUR)  # beyond the end
    device, wall = driven(desk, future).device, Wall(monkeypatch)

    async def scenario() -> None:
        async with listening(Platform()) as platform:
            configured = settings(platform.port, {device: ending_in_an_hour()}, heartbeat_s=0.05)
            async with telling(desk.engine, configured) as running:
                await platform.until(lambda: messages.HEARTBEAT in platform.ids())  # there is nothing more to tell
                assert [x.utc_s for x in platform.kept] == times(track_of())
                wall.ahead_ns = 2 * HOUR
                await asyncio.wait_for(running, 60)
            assert len(platform.kept) == 101
            assert platform.ids()[-1] == messages.DEREGISTER

    asyncio.run(scenario())


@pytest.mark.parametrize("answered", [True, False])
def test_what_waits_when_consent_ends_is_not_told_and_nothing_is_repeated(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    device, wall = driven(desk).device, Wall(monkeypatch)

    def script(platform: Platform, message: Message) -> Any:
        if message.id != messages.LOCATIONS:
            return None
        wall.ahead_ns = 2 * HOUR  # the first batch is on its way; two more wait
        return None if answered else b""

    async def scenario() -> None:
        async with listening(Platform(script)) as platform:
            configured = settings(platform.port, {device: ending_in_an_hour()}, answer_timeout_s=0.2)
            async with telling(desk.engine, configured) as running:
                await asyncio.wait_for(running, 60)
            assert platform.ids()[-2:] == [messages.LOCATIONS, messages.DEREGISTER]
            assert platform.ids().count(messages.LOCATIONS) == 1
            assert (0 < row(desk.engine, device).told < 101) == answered

    asyncio.run(scenario())


def test_a_terminal_that_the_platform_forgot_does_not_register_again_when_consent_has_ended(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, wall = driven(desk).device, Wall(monkeypatch)

    async def scenario() -> None:
        async with listening(Platform()) as platform:
            configured = settings(platform.port, {device: ending_in_an_hour()})
            async with telling(desk.engine, configured):
                await until(lambda: (r := row(desk.engine, device)) is not None and r.told == 101)
            platform.code = "new"
            wall.ahead_ns = 2 * HOUR
            async with telling(desk.engine, configured) as running:
                await asyncio.wait_for(running, 60)
            assert platform.ids()[-1] == messages.AUTHENTICATE
            assert len(platform.registrations) == 1
        assert (row(desk.engine, device).state, row(desk.engine, device).code) == ("off", None)

    asyncio.run(scenario())


def test_alarms_stand_on_the_positions_of_their_time_and_come_first(desk: Desk) -> None:
    lone = braking(2020 * S, kind="power_lost", unit="s", latitude=None, longitude=None)
    weak = replace(SPEEDS, t_ns=900 * S, confirmed=False)
    hit = replace(crash(), t_ns=2500 * S, latitude=31.3, longitude=121.5, heading_deg=270.0, complete=False)
    source = driven(desk, SPEEDS, weak, lone, braking(1000 * S), hit, replace(hit, complete=True))

    async def scenario() -> list[Location]:
        async with listening(Platform()) as platform:
            configured = settings(platform.port, {source.device: terminal()})
            async with telling(desk.engine, configured):
                await until(lambda: (r := row(desk.engine, source.device)) is not None and r.told == 105)
        return platform.kept

    collision, speeding, warning, power, *track = asyncio.run(scenario())
    assert collision.alarm == alarms.COLLISION == 1 << 29
    assert (collision.latitude_e6, collision.longitude_e6, collision.direction_deg) == (31_300_000, 121_500_000, 270)
    assert speeding.alarm == alarms.OVERSPEED == 1 << 1
    assert speeding.items == ((messages.OVERSPEED, b"\0"),)
    assert warning.alarm == alarms.OVERSPEED_WARNING == 1 << 13
    assert power.alarm == alarms.POWER_CUT == 1 << 8
    assert not power.status & messages.FIXED
    assert (power.latitude_e6, power.longitude_e6) == (0, 0)
    flagged = {x.utc_s: x.alarm for x in track if x.alarm}
    at = (BEGIN - S) // S
    # A point every 30 s from 100 s on: 700 is within 700..725, 910 within 900..925.
    assert flagged == {at + 700: alarms.OVERSPEED, at + 910: alarms.OVERSPEED_WARNING, at + 2020: alarms.POWER_CUT}


def test_every_alarm_is_of_a_known_kind_and_one_bit() -> None:
    kinds = set(Event.__annotations__["kind"].__args__)
    for table in (alarms.CONFIRMED, alarms.UNCONFIRMED, alarms.CRASH):
        assert all(bits.bit_count() == 1 and bits < 2**32 for bits in table.values())
    assert set(alarms.KINDS) <= kinds
    assert alarms.of_event("harsh_braking", True) == 0


def test_gcj02_is_sent_only_where_configured_and_says_so(desk: Desk) -> None:
    device = driven(desk).device

    async def scenario() -> Location:
        async with listening(Platform()) as platform:
            configured = settings(platform.port, {device: terminal()}, datum="gcj02")
            async with telling(desk.engine, configured):
                await platform.until(lambda: len(platform.kept) == 101)
        return platform.kept[0]

    first = asyncio.run(scenario())
    assert first.status & messages.SHIFTED
    assert (first.latitude_e6 / 1e6, first.longitude_e6 / 1e6) == pytest.approx(from_wgs84(31.23, 121.47), abs=1e-6)


def test_a_boot_without_a_time_waits_and_is_passed_over_when_a_later_one_has_begun(desk: Desk) -> None:
    source = desk.enrol()
    desk.send(source, DRIVE, boot="dark")

    async def scenario() -> None:
        async with listening(Platform()) as platform:
            configured = settings(platform.port, {source.device: terminal()})
            async with telling(desk.engine, configured):
                await until(lambda: (r := row(desk.engine, source.device)) is not None and r.state == "online")
                assert platform.kept == []
                desk.send(source, [clock_at(BEGIN, quality="restored")], boot="dark")
                desk.send(source, [clock_at(BEGIN), *DRIVE], boot="lit")
                await platform.until(lambda: len(platform.kept) == 101)
                await until(lambda: row(desk.engine, source.device).told == 101)
                with db.reading(desk.engine) as connection:
                    done = {r.lane: r.seq for r in connection.execute(tables.sent.select())}
                assert done["track"] == 3  # the track of each boot, and one curve between them

    asyncio.run(scenario())


def test_a_live_position_and_a_fresh_crash_go_out_at_once_as_single_positions(desk: Desk) -> None:
    source = driven(desk)
    moment = clock.wall_ns()

    async def scenario() -> None:
        async with listening(Platform()) as platform:
            configured = settings(platform.port, {source.device: terminal()}, heartbeat_s=0.2)
            async with telling(desk.engine, configured):
                await platform.until(lambda: len(platform.kept) == 101)
                await platform.until(lambda: messages.HEARTBEAT in platform.ids())
                with desk.engine.begin() as connection:
                    live = db.live.c
                    now = {live.position_boot: "boot-1", live.position_t_ns: moment - BEGIN + S}
                    place = {live.latitude: 31.5, live.longitude: 121.6, live.speed_mps: 10.0}
                    known = connection.execute(db.live.update().values({**now, **place}))
                    assert known.rowcount == 1
                await platform.until(lambda: len(platform.kept) == 102)
                t_ns = moment - BEGIN + S
                desk.send(source, [replace(crash(), t_ns=t_ns, kind="rollover")], at=clock.wall_ns() + S)
                await platform.until(lambda: len(platform.kept) == 103)
            live_one, hit = platform.kept[-2:]
            assert (live_one.latitude_e6, live_one.speed_kmh10, live_one.utc_s) == (31_500_000, 360, moment // S)
            assert hit.alarm == alarms.ROLLOVER
            assert platform.ids().count(messages.LOCATION) == 2

    asyncio.run(scenario())


def test_messages_go_no_faster_than_configured(desk: Desk) -> None:
    device = driven(desk).device

    async def scenario() -> float:
        async with listening(Platform(lambda p, m: messages.UNSUPPORTED if m.id == messages.LOCATIONS else None)) as p:
            begun_ns = clock.monotonic_ns()
            async with telling(desk.engine, settings(p.port, {device: terminal()}, messages_per_s=100.0)):
                await p.until(lambda: len(p.kept) == 101)
            return (clock.monotonic_ns() - begun_ns) / S

    assert asyncio.run(scenario()) >= 1.0  # 101 positions and what comes before them


def test_two_devices_have_a_link_each_and_a_broken_body_stops_neither(desk: Desk) -> None:
    first = driven(desk)
    second = desk.enrol(2)
    desk.send(second, [clock_at(BEGIN), *DRIVE])
    with desk.engine.begin() as connection:
        connection.execute(
            db.entry.update().where(db.entry.c.device == first.device, db.entry.c.kind == "track").values(body=b"{]")
        )
    desk.send(first, drive(start_ns=5000 * S, seconds=300))

    async def scenario() -> Platform:
        async with listening(Platform()) as platform:
            both = {first.device: terminal(), second.device: terminal(phone="13900000002", terminal="RW0002")}
            async with telling(desk.engine, settings(platform.port, both)):
                await platform.until(lambda: len(platform.kept) == 101 + 11)
        return platform

    platform = asyncio.run(scenario())
    assert platform.links == 2
    assert {m.phone for m in platform.heard} == {"00000000013912344329", "00000000013900000002"}


def test_a_database_that_is_away_for_a_while_ends_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    device = driven(desk).device
    failures = [0, 0]

    async def scenario() -> None:
        async with listening(Platform()) as platform:
            real_ask, real_note = Gateway.ask, Gateway.note

            def failing(real: Any, which: int) -> Any:
                async def call(self: Gateway, work: Any) -> Any:
                    if platform.batches and failures[which] < 3:
                        failures[which] += 1
                        raise OperationalError("gone", None, Exception("server closed the connection"))
                    return await real(self, work)

                return call

            monkeypatch.setattr(Gateway, "ask", failing(real_ask, 0))
            monkeypatch.setattr(Gateway, "note", failing(real_note, 1))
            async with telling(desk.engine, settings(platform.port, {device: terminal()})):
                await until(lambda: (r := row(desk.engine, device)) is not None and r.told == 101)
            kept = [x.utc_s for x in platform.kept]
            assert list(dict.fromkeys(kept)) == times(track_of())

    asyncio.run(scenario())
    assert failures == [3, 3]


def test_a_platform_that_floods_and_never_reads_costs_one_link_and_bounded_memory(desk: Desk) -> None:
    device = driven(desk).device
    floods: list[int] = []

    def script(platform: Platform, message: Message) -> Any:
        if message.id == messages.LOCATIONS and not floods:
            floods.append(1)
            command = encode(Message(0x8104, message.phone, 5, b""))
            return bytes(200_000) + command * 2000 + b"\x7e" + b"\x55" * 200_000
        return None

    async def scenario() -> None:
        async with listening(Platform(script)) as platform:
            configured = settings(platform.port, {device: terminal()}, answer_timeout_s=0.3, retransmissions=1)
            async with telling(desk.engine, configured):
                await until(lambda: (r := row(desk.engine, device)) is not None and r.told == 101)

    asyncio.run(scenario())
