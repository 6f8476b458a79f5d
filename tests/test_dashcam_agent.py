"""Agent and dashcam together: what one sees of a camera, the other stores; what one knows, the other may write."""

import threading
from pathlib import Path

import msgspec

from agent import clock
from agent.blocks import empty_block
from agent.daemon import Daemon, Place
from agent.dashcam import segments
from agent.dashcam.shown import FILE, Now
from agent.dashcam.state import CameraState, Problem, write_state
from agent.dashcam.watch import VIDEO
from agent.link import BrokerSettings
from agent.records import Event, Health
from agent.settings import AgentConfig
from agent.store import Store
from tests.agreed import AGREED
from tests.dashcam_making import BOOT, S, config, fast, film, run_whole


class Silent:
    """A device that has nothing to say."""

    name = "silent"

    def open(self) -> None:
        pass

    def read(self, timeout_s: float):
        clock.wait(threading.Event(), min(timeout_s, 0.1))
        return empty_block()

    def close(self) -> None:
        pass


def agent_for(folder: Path, seconds: float) -> None:
    settings = AgentConfig(broker=BrokerSettings(url="mqtt://127.0.0.1:1"), consent=AGREED)  # nobody listens at port 1
    daemon = Daemon(settings, Place(folder, boot=BOOT), [Silent])
    threading.Timer(seconds, daemon.stop).start()
    daemon.run()


def test_a_camera_in_trouble_is_one_event_in_the_store_also_over_a_restart(tmp_path: Path) -> None:
    video = tmp_path / VIDEO
    run_whole(config(fast(film(tmp_path / "s.mp4", "mjpeg", 0.5))), video)
    (video / segments.KEEP).mkdir()
    since_ns = clock.monotonic_ns() - 20 * S
    write_state(
        video,
        CameraState(
            camera="front",
            boot=BOOT,
            t_ns=clock.monotonic_ns(),
            state="degraded",
            problems={"blind": Problem(since_ns, 1.5, "nothing to see: covered, contrast 1.5")},
            overlay=True,
        ),
    )
    agent_for(tmp_path, 2.5)
    agent_for(tmp_path, 2.5)
    with Store.open(tmp_path, read_only=True) as store:
        events = [s.record for s in store.records(Event, BOOT) if s.record.kind.startswith("camera")]
        told = [s.record for s in store.records(Health, BOOT) if s.record.source == "camera:front"]
    (blind,) = events
    assert (blind.kind, blind.severity, blind.peak, blind.unit) == ("camera_blind", "moderate", 1.5, "level")
    assert abs(blind.t_ns - since_ns) <= 1_000_000
    assert {(h.state, h.detail) for h in told} == {("degraded", "nothing to see: covered, contrast 1.5")}
    said = msgspec.json.decode((video / segments.KEEP / FILE).read_bytes(), type=Now)
    assert said.boot == BOOT
    assert said.utc_minus_monotonic_ns is not None
    assert said.speed_mps is None


def test_the_state_of_a_camera_that_is_configured_no_more_goes_and_its_video_stays(tmp_path: Path) -> None:
    source = film(tmp_path / "s.mp4", "mjpeg", 0.5)
    run_whole(config({"side": fast(source)}), tmp_path / "video")
    run_whole(config({"front": fast(source)}), tmp_path / "video")
    assert not (tmp_path / "video" / "side" / "health.json").exists()
    assert len(segments.names(tmp_path / "video", "side")) == 1
    assert len(segments.names(tmp_path / "video", "front")) == 1
