"""The owner's word on the device: nothing is kept without it, and what is kept goes when it is withdrawn."""

import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import messages
from agent.blocks import Block, make_block
from agent.chain import public_bytes
from agent.commands.settings import CommandSettings
from agent.consent.consent import FILE, Consent
from agent.consent.settings import ConsentSettings
from agent.consentmessages import NO_WORD, OTHER_DEVICE, STALE, UNSIGNED, UNTRUSTED, Word, decode_word, encode_word
from agent.dashcam import segments
from agent.dashcam.process import Dashcam
from agent.dashcam.quota import Quota
from agent.dashcam.state import read_state
from agent.dashcam.watch import VIDEO, CameraWatch
from agent.dashcam.withholding import is_withheld
from agent.incident.folder import PACKAGES, Request, acknowledge, ask
from agent.incident.folder import Video as Range
from agent.link import Arrived, Up
from agent.messages import MessageError
from agent.records import KINDS, Crash, Event, Health, Package, PackageFile, Trip
from agent.settings import AgentConfig
from agent.store import Store
from agent.sync import Sync
from tests import sample_records
from tests.dashcam_making import config, fast, film_h264
from tests.syncing import until
from tests.test_dashcam_quota import BOOT, add, left
from tests.test_sync import Bench, FakeUplink
from tests.virtual import START_NS, S, VirtualTime, World, drive

KEY, STRANGER = Ed25519PrivateKey.from_private_bytes(b"k" * 32), Ed25519PrivateKey.from_private_bytes(b"s" * 32)
TRUSTED = public_bytes(KEY).hex()
DEVICE = "rw-0123456789abcdef"
ALL = {"recording": "C1 2026-11-22", "video": "C2 2026-11-22", "clip": "C3 2026-11-22"}


def word(issued: int, purposes: dict[str, str], device: str = DEVICE, key: Ed25519PrivateKey = KEY) -> bytes:
    return encode_word(Word(device=device, issued_utc_ns=issued, purposes=purposes), key)


def consent(folder: Path, sheet: str = "", told: list[Health] | None = None) -> Consent:
    folder.mkdir(exist_ok=True)
    return Consent(folder, DEVICE, ConsentSettings(sheet=sheet), [TRUSTED], [].append if told is None else told.append)


class Wires:
    """The daemon in virtual time on devices that work, with a receiver's words put in as time passes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        with Store.open(folder) as store:
            self.device = store.device
        self.world = World(VirtualTime(monkeypatch))
        self.consents: list[Consent] = []
        self.stored_s: list[float] = []  # when samples were handed to the store
        monkeypatch.setattr("agent.daemon.Consent", self._make)
        append = Store.append_block

        def noted(store: Store, block: Block, **how: Any) -> None:
            if len(block):
                self.stored_s.append(self.world.time.now_s)
            append(store, block, **how)

        monkeypatch.setattr(Store, "append_block", noted)

    def _make(self, *given: Any) -> Consent:
        self.consents.append(Consent(*given))
        return self.consents[-1]

    def hears(self, at_s: float, purposes: dict[str, str]) -> None:
        said = word(round(at_s * 10), purposes, self.device)
        self.world.time.after(at_s, lambda: self.consents[-1].put(said))

    def drive(self, end_s: float, sheet: str = "") -> None:
        config = AgentConfig(consent=ConsentSettings(sheet=sheet), commands=CommandSettings(keys=(TRUSTED,)))
        drive(self.world, self.folder, self._patch, end_s, config)

    def kinds(self) -> set[str]:
        with Store.open(self.folder, read_only=True) as store:
            assert store.verify().ok
            return {kind for kind, cls in KINDS.items() if store.records(cls)}

    def samples_s(self) -> tuple[float, float] | None:
        """Return the first and the last time of the samples in the store."""
        with Store.open(self.folder, read_only=True) as store:
            block = store.read_block(0, START_NS * 1000, "b" * 32)
        return None if not len(block) else tuple((block["t"][[0, -1]] - START_NS) / S)


def test_t_priv_1_without_consent_nothing_but_health_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # T-PRIV-1
    box = Wires(tmp_path, monkeypatch)
    box.drive(12.0)
    assert box.stored_s == []
    assert box.samples_s() is None
    assert box.kinds() == {"clock", "health"}  # what the time is says nothing of anybody
    with Store.open(tmp_path, read_only=True) as store:
        told = store.last_health("consent")
    assert told is not None
    assert (told.state, told.detail) == ("degraded", "nobody has agreed yet: nothing but health is kept")
    assert not (tmp_path / PACKAGES).exists()


def test_t_priv_2_withdrawn_it_stops_within_a_second_and_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # T-PRIV-2
    box = Wires(tmp_path, monkeypatch)
    box.hears(2.0, ALL)
    box.hears(12.0, {})
    box.drive(16.0)
    assert min(box.stored_s) >= 2.0
    assert 11.5 <= max(box.stored_s) <= 13.0
    assert box.samples_s() is None
    assert box.kinds() <= {"clock", "health", "mount"}


def test_agreed_again_it_records_again_and_nothing_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = Wires(tmp_path, monkeypatch)
    (tmp_path / FILE).write_bytes(word(120, {}, again.device))
    again.hears(6.0, ALL)  # older than the withdrawal: refused
    again.hears(20.0, ALL)
    again.drive(28.0)
    span = again.samples_s()
    assert span is not None
    assert span[0] >= 19.5
    assert span[1] >= 26.0
    assert again.consents[-1].counts == {STALE: 1}
    with Store.open(tmp_path, read_only=True) as store:
        (trip,) = [kept.record for kept in store.trips()]
    assert trip.start_ns >= START_NS + 19 * S  # nothing of before goes over


def test_a_sheet_of_paper_counts_until_the_receiver_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Wires(tmp_path, monkeypatch)
    box.hears(8.0, {})
    box.drive(12.0, sheet="sheet 4711")
    assert min(box.stored_s) < 2.0
    assert box.samples_s() is None


def test_the_newest_word_counts_over_restarts_and_older_ones_never_again(tmp_path: Path) -> None:
    told: list[Health] = []
    one = consent(tmp_path, told=told)
    assert not one.allows("recording")
    assert not one.withdrawn  # nobody was asked yet: nothing is erased
    one.put(word(5, ALL))
    assert one.step(0)
    assert all(map(one.allows, ALL))
    one.put(word(7, {"recording": "C1 x", "clip": "C3 x"}))
    assert one.step(0)
    assert [p for p in ALL if one.allows(p)] == ["recording"]  # a clip rests on video
    for old in (word(5, ALL), word(7, ALL)):
        one.put(old)
    assert not one.step(0)
    assert one.counts == {STALE: 2}
    later = consent(tmp_path, sheet="a sheet")
    assert [p for p in ALL if later.allows(p)] == ["recording"]
    later.put(word(8, {}))
    assert later.step(0)
    assert consent(tmp_path, sheet="a sheet").withdrawn
    assert [h.state for h in told] == ["ok", "ok", "degraded"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (word(9, ALL, key=STRANGER), UNTRUSTED),
        (word(9, ALL, device="rw-0000000000000000"), OTHER_DEVICE),
        (word(9, ALL).replace(b"C1 2026", b"C9 2026"), UNSIGNED),
        (b"{", NO_WORD),
        (b"[" * 4000, NO_WORD),
    ],
)
def test_what_no_trusted_receiver_says_of_this_device_changes_nothing(
    tmp_path: Path, payload: bytes, reason: str
) -> None:
    one = consent(tmp_path)
    one.put(payload)
    assert not one.step(0)
    assert one.counts == {reason: 1}
    assert not (tmp_path / FILE).exists()


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_refused_with_a_reason(payload: bytes) -> None:
    with pytest.raises(MessageError):
        decode_word(payload, [TRUSTED])


@pytest.mark.parametrize("damaged", [b"", b"{}", word(5, ALL, key=STRANGER)])
def test_a_word_that_cannot_be_proved_any_more_permits_nothing(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / FILE).write_bytes(damaged)
    one = consent(tmp_path, sheet="a sheet")
    assert not one.allows("recording")
    assert not one.withdrawn
    one.put(word(1, ALL))
    assert one.step(0)
    assert one.allows("recording")


def filled(folder: Path) -> Store:
    """Return a store with every kind of record, the first half acknowledged, and samples."""
    store = Store.open(folder)
    store.begin_boot("b" * 32)
    kinds = ("clock_record", "event", "trip", "track", "health", "mount", "crash", "reply")
    for n in (1, 2):
        store.append([(n * S, getattr(sample_records, kind)(n)) for kind in kinds if (kind, n) != ("clock_record", 2)])
        if n == 1:
            store.acknowledge(store.heads(), {})
    store.append_block(make_block((n * S, 1, 0.5) for n in range(99)))
    return store


def test_what_is_erased_is_gone_from_the_file_and_the_chains_hold(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        lineage, heads = store.lineage, store.heads()
        assert store.to_erase()
        store.erase(set())
        assert not store.to_erase()
        assert store.lineage != lineage
        assert store.verify().ok
        assert store.records(Event) == store.records(Trip) == []
        assert store.utc_of("b" * 32, S) is not None
        assert len(store.records(Crash)) == 1  # the receiver does not hold it yet
        assert heads["trip"] > 0 == store.heads()["trip"]
        renewed = store.lineage
        store.acknowledge(store.heads(), {})
        assert store.to_erase()
        store.erase(set())
        assert store.lineage == renewed  # all was acknowledged: nothing had to be sealed anew
        assert store.records(Crash) == []
        assert store.verify().ok
        whole = b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))
        assert [word for word in (b"distance_by_source_m", b"harsh_braking", b"dlat_e7") if word in whole] == []
        assert b"gravity" in whole  # how the box sits tells nothing of anybody


def test_an_erasure_that_is_cut_leaves_the_lanes_whole_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(tmp_path) as store:
        before = store.heads()
        monkeypatch.setattr("agent.store.lanes.seal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.erase(set())
        monkeypatch.undo()
        assert store.heads() == before
    with Store.open(tmp_path) as store:
        assert store.verify().ok
        store.erase(set())
        assert store.verify().ok
        assert not store.to_erase()


def test_asked_clips_go_at_once_and_nobody_waits_for_their_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Wires(tmp_path, monkeypatch)
    video = Range(from_ns=0, to_ns=S)
    for incident in ("a" * 16, "b" * 16):
        ask(tmp_path / PACKAGES, Request(incident=incident, boot="c" * 32, t_ns=S, video=video, reason="command"))
    acknowledge(tmp_path / PACKAGES, "b" * 16)
    with Store.open(tmp_path) as store:
        store.begin_boot("c" * 32)
        named = PackageFile(name="request.json", size=1, sha256="0" * 64)
        store.append([(S, Package(incident="a" * 16, t_ns=S, complete=True, files=[named]))])
    box.hears(2.0, {})
    box.drive(5.0, sheet="a sheet")
    with Store.open(tmp_path, read_only=True) as store:
        assert store.uploads.packages() == []
        assert store.records(Package) == []
        assert store.verify().ok
    assert list((tmp_path / PACKAGES).iterdir()) == []


def test_an_owner_who_does_not_agree_to_video_is_not_filmed_and_the_loop_goes(tmp_path: Path) -> None:
    folder = tmp_path / VIDEO
    for number in range(3):
        add(folder, "front", number)
    segments.keep(folder, "crash", BOOT, 4 * S, 5 * S)
    watch = CameraWatch(folder, BOOT, 0)
    watch.withhold(True)
    assert is_withheld(folder)
    source = film_h264(tmp_path / "film.mp4", 2)
    dashcam = Dashcam(config(fast(source, loop=True)), folder, boot=BOOT)
    running = threading.Thread(target=dashcam.run)
    running.start()
    try:
        until(lambda: left(folder) == [2], "all but the crash is erased")
        until(lambda: (s := read_state(folder, "front")) is not None and s.state == "resting", "the camera rests")
        (health,) = [r for r in watch.look(S) if isinstance(r, Health)] or [None]
        assert health is None or "does not agree" in health.detail
        segments.release(folder, "crash")
        until(lambda: left(folder) == [], "the crash's video is erased when its clip is cut")
        watch.withhold(False)
        until(lambda: left(folder) != [], "films again")
    finally:
        dashcam.stop()
        running.join(30)
    assert not running.is_alive()


def test_a_video_folder_that_may_not_be_looked_at_is_told_once_and_ends_no_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder of other modes refuses nothing to root, a name that is too long does: seen as a crash on a real box."""
    watch = CameraWatch(tmp_path / ("x" * 300), BOOT, 0)
    for withheld in (False, True, True):
        watch.withhold(withheld)
    assert len(caplog.records) == 1
    assert "cannot be changed" in caplog.text


def test_a_disk_that_refuses_to_delete_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, "front", 0)
    quota = Quota(tmp_path, {"front": 1 << 40}, 0)
    quota.begin()
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(5, "I/O error")))
    assert quota.erase() == 0
    monkeypatch.setattr(Path, "unlink", unlink)
    quota.erase()
    assert quota.erase() == 0
    assert left(tmp_path) == []


def test_a_word_reaches_whoever_asks_for_it_and_disturbs_nobody_else() -> None:
    bench = Bench()
    bench.connect()
    topic = messages.topic(bench.source.device, "consent")
    bench.step(Arrived(topic, word(1, ALL), retained=True))
    assert bench.sync.status.ignored == 0  # a recording is not asked whether it may be replayed
    heard: list[bytes] = []
    uplink = FakeUplink()
    sync = Sync(bench.source, uplink, boot="boot-1", on_consent=heard.append)
    sync.step(0)
    other = messages.topic("rw-0000000000000000", "consent")
    uplink.happened.extend([Up("5"), Arrived(topic, b"theirs"), Arrived(other, b"another's")])
    sync.step(1)
    assert heard == [b"theirs"]
    assert sync.status.ignored == 1
