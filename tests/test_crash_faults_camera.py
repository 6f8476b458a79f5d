"""Spine, recorder, dashcam, clipper, packager and verifier together, when the camera or the road is against them."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest

from agent.blocks import Block, join_blocks
from agent.channels import number
from agent.clerk import Clerk
from agent.dashcam.segments import segments
from agent.dashcam.state import CameraState, Problem, write_state
from agent.dashcam.watch import VIDEO, CameraWatch
from agent.errors import DriverError
from agent.evidence import verify_package
from agent.incident.folder import PACKAGES, incidents
from agent.incident.recorder import Recorder
from agent.incident.writer import IncidentWriter
from agent.pipeline import Pipeline
from agent.records import Clock, Crash, Health, Mount, Package
from agent.settings import AgentConfig
from agent.spine import Spine
from agent.store import Store
from drivers.camera import Offer, Picture
from sim.video import read_code, write_code
from tests.crashing import X, collision, shifted
from tests.dashcam_making import BOOT, S, Script, config, fast, film_h264, run_whole, scene

HIT_S = 70
FPS = 30
FROM_S = HIT_S - 20  # of the films


def coded(number: int) -> np.ndarray:
    """A picture whose pixels say when it is: its number, and the ms since `FROM_S`."""
    image = scene(number, 256, 144, noise=0.0)
    write_code(image, number, round(number * 1000 / FPS))
    return image


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 s of road."""
    return film_h264(tmp_path_factory.mktemp("film") / "film.mp4", 36, gop=FPS, size=(256, 144), picture=coded)


def drive_through(
    folder: Path, block: Block, told: Sequence[Health | Clock] = (), mount: Mount | None = None
) -> dict[str, Any]:
    """Drive the samples through one box; return the manifest of each package by its incident, all verified."""
    settings = AgentConfig()
    with Store.open(folder) as store:
        store.begin_boot(BOOT)
        spine = Spine(settings.fusion, settings.detection, settings.trips, crash=settings.crash, boot=BOOT, mount=mount)
        said: list[Health] = []
        writer = IncidentWriter(folder / PACKAGES, Recorder(settings.incident, BOOT), said.append)
        pipeline = Pipeline(spine, store, None, writer)
        for part in np.split(block, np.searchsorted(block["t"], np.arange(block["t"][0], block["t"][-1], S // 2))):
            pipeline.step(part)
        pipeline.finish()
        writer.finish()
        store.append([(h.t_ns, h) for h in [*told, *said]])
        now_ns = int(block["t"][-1]) + 60 * S
        bugs: list[BaseException] = []
        clerk = Clerk.of(store, folder, BOOT, settings, now_ns, lambda: None, bugs.append)
        clerk.finish(now_ns)
        assert not bugs
        assert store.verify().ok
        packages = {s.record.incident for s in store.records(Package) if s.record.complete}
        manifests = {}
        for incident in incidents(folder / PACKAGES):
            report = verify_package.verify(str(incident.folder), verify_package.read_key(store.device))
            assert report.exit_code == 0, report.faults
            manifests[incident.id] = json.loads((incident.folder / verify_package.MANIFEST).read_bytes())
        assert packages == set(manifests)
        return manifests


def missing(manifest: dict[str, Any]) -> dict[str, str]:
    return {gone["what"]: gone["why"] for gone in manifest["missing"]}


def seen(folder: Path, incident: str) -> list[tuple[float, int]]:
    """Return what the clip shows: time in s by the file, and the time (ms) in its pixels."""
    own = folder / PACKAGES / incident
    report = json.loads((own / "video.json").read_bytes())
    (clip,) = report["cameras"][0]["clips"]
    with av.open(str(own / clip["file"])) as container:
        frames = list(container.decode(video=0))
    found = []
    for frame in frames:
        code = read_code(frame.to_ndarray(format="bgr24"))
        assert code is not None
        assert frame.time is not None
        found.append((int(clip["start_ns"]) / S + frame.time, code[1]))
    return found


def test_without_a_camera_the_package_is_whole_and_says_so(tmp_path: Path) -> None:
    (manifest,) = drive_through(tmp_path, collision(imu_hz=100)).values()
    assert missing(manifest)["video"] == "no dashcam has ever filmed here"
    assert manifest["complete"]
    assert {"crash.json", "before.csv", "imu.csv", "track.csv"} <= {row["name"] for row in manifest["files"]}


def test_a_camera_unplugged_in_mid_drive_leaves_a_hole_that_is_named(tmp_path: Path, film: Path) -> None:
    with av.open(str(film)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
        extradata = bytes(container.streams.video[0].codec_context.extradata or b"")
    away = range(15 * FPS, 24 * FPS)  # from 5 s before the collision to 4 s after it
    sessions = [range(away.start), range(away.stop, len(packets))]

    def session(numbers: range, last: bool) -> Iterator[Any]:
        for i in numbers:
            t_ns = FROM_S * S + i * S // FPS
            yield Picture(t_ns, t_ns, packets[i])
        if not last:
            yield DriverError("front: read: No such device")

    offer = Offer("h264", 256, 144, FPS, extradata)

    def make(wish: Any, raw: bool) -> Script:
        return Script(wish, session(sessions.pop(0), not sessions), offer)

    run_whole(config(fast(film, mode="copy"), retry_s=0.01), tmp_path / VIDEO, make=make)
    ((incident, manifest),) = drive_through(tmp_path, collision(imu_hz=100)).items()
    assert "everything from -5.0 to 4.0 s after time zero" in missing(manifest)["video of camera front"]
    shown = seen(tmp_path, incident)
    assert all(abs(t - FROM_S - ms / 1000) < 0.002 for t, ms in shown)
    assert shown[0][0] <= HIT_S - 15
    assert shown[-1][0] >= HIT_S + 10 - 1 / FPS
    gaps = np.diff([ms for _, ms in shown])
    assert sorted(gaps)[-1] == pytest.approx(9000, abs=70)
    assert sorted(gaps)[-2] <= 40


def test_a_camera_that_gives_old_pictures_around_the_collision_is_named_in_the_package(
    tmp_path: Path, film: Path
) -> None:
    run_whole(config(fast(film, start_ns=FROM_S * S)), tmp_path / VIDEO)
    since_ns = (HIT_S - 6) * S
    problem = Problem(since_ns, 0.0, "gives the same picture again and again")
    watch = CameraWatch(tmp_path / VIDEO, BOOT, 0)
    state = CameraState(
        camera="front", boot=BOOT, t_ns=since_ns + 10 * S, state="degraded", problems={"frozen": problem}
    )
    write_state(tmp_path / VIDEO, state)
    told = list(watch.look(since_ns + 11 * S))
    (manifest,) = drive_through(tmp_path, collision(imu_hz=100), told).values()  # type: ignore[arg-type]
    ill = [h for h in manifest["sensor_health"] if h["source"] == "camera:front"]
    assert [(h["state"], h["detail"]) for h in ill] == [("degraded", "gives the same picture again and again")]
    assert "event" in {entry["kind"] for entry in manifest["chain"]["entries"]}


def test_two_crashes_three_seconds_apart_have_two_packages_whose_clips_overlap(tmp_path: Path, film: Path) -> None:
    run_whole(config(fast(film, start_ns=FROM_S * S)), tmp_path / VIDEO)
    manifests = drive_through(tmp_path, collision((HIT_S, HIT_S + 3), imu_hz=100))
    assert len(manifests) == 2
    zeros = []
    for incident, manifest in manifests.items():
        shown = seen(tmp_path, incident)
        zero_s = int(manifest["time_zero"]["t_ns"]) / S
        zeros.append(zero_s)
        assert shown[0][0] <= zero_s - 15
        assert shown[-1][0] >= zero_s + 10 - 1 / FPS
        assert np.diff([ms for _, ms in shown]).max() <= 40
        assert all(abs(t - FROM_S - ms / 1000) < 0.002 for t, ms in shown)
    assert max(zeros) - min(zeros) == pytest.approx(3.0, abs=0.05)
    assert segments(tmp_path / VIDEO, "front", BOOT, 0, 10**15)  # the clips are copies: the loop has its own


def test_thirty_crashes_an_hour_are_counted_and_ten_of_them_packed(tmp_path: Path) -> None:
    one = collision((HIT_S,), 86.0, start_s=56.0, imu_hz=100)
    hour = join_blocks([shifted(one, n * 120 * S) for n in range(30)])
    manifests = drive_through(tmp_path, hour)
    assert len(manifests) == AgentConfig().incident.per_hour == 10
    with Store.open(tmp_path, read_only=True) as store:
        crashes = [s.record for s in store.records(Crash)]
        storms = [s.record for s in store.records(Health) if s.record.source == "packages"]
    assert len({c.id for c in crashes}) == 30
    assert sum(c.complete for c in crashes) == 30
    assert len({c.id for c in crashes if not c.complete}) == 30
    (storm,) = storms
    assert storm.state == "degraded"
    assert "only their record" in storm.detail
    assert max(len(msgspec.json.encode(c)) for c in crashes) <= 4096
    size = sum(path.stat().st_size for path in (tmp_path / PACKAGES).rglob("*"))
    assert size < 10 * 1_000_000


def test_a_pulse_of_10_g_at_50_km_h_becomes_one_proved_package_of_everything(tmp_path: Path, film: Path) -> None:
    # T-CLAIM-1: and T-CLAIM-AUTO, for nobody asks for anything. The place is kept in WGS-84; what shows it adds GCJ-02
    run_whole(config(fast(film, start_ns=FROM_S * S)), tmp_path / VIDEO)
    block = collision(imu_hz=100)
    speeds = np.isin(block["channel"], [number("Vehicle.Speed"), number("Gnss.Speed")])
    block["value"][speeds & (block["t"] < HIT_S * S + S // 5)] = 50 / 3.6  # what tells of speed is a little late
    pulse = (block["channel"] == X) & (block["value"] < -1)
    block["value"][pulse] *= 10 * 9.80665 / 196
    clock = Clock(t_ns=S, offset_ns=1_790_000_000 * S, quality="gnss", uncertainty_ns=300_000_000)
    mount = Mount(t_ns=0, gravity=(0.0, 0.0, 1.0), forward=(1.0, 0.0, 0.0), confidence=0.9)
    ((incident, manifest),) = drive_through(tmp_path, block, [clock], mount).items()
    with Store.open(tmp_path, read_only=True) as store:
        crash = store.records(Crash)[-1].record
    assert (crash.id, crash.kind, crash.complete, crash.locked) == (incident, "impact", True, False)
    assert crash.delta_v_mps == pytest.approx(22.48 / 3.6, rel=0.1)
    assert crash.direction_clock == 12
    assert crash.speed_before_mps == pytest.approx(50 / 3.6, abs=0.5)
    assert (crash.latitude, crash.longitude) == (pytest.approx(30.0, abs=1e-6), pytest.approx(114.01, abs=1e-3))
    zero = manifest["time_zero"]
    assert int(zero["t_ns"]) == pytest.approx(HIT_S * S, abs=S // 50)
    assert int(zero["utc_ns"]) - int(zero["t_ns"]) == clock.offset_ns
    assert zero["uncertainty_ns"] == "300000000"
    before = (tmp_path / PACKAGES / incident / "before.csv").read_text().splitlines()
    assert len(before) in (201, 202)  # with the heading: 20 s at 10 Hz
    shown = seen(tmp_path, incident)
    t0_s = int(zero["t_ns"]) / S
    assert shown[0][0] <= t0_s - 10
    assert shown[-1][0] >= t0_s + 5
    assert np.diff([ms for _, ms in shown]).max() <= 40
    assert all(re.fullmatch("[0-9a-f]{64}", row["sha256"]) for row in manifest["files"])
