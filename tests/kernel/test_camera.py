"""The dashcam on a camera of the kernel's: vivid, through V4L2; pictures kept, unplugged, plugged in again."""

import json
import signal
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.kernel.cache import HERE
from tests.kernel.channel import Process
from tests.kernel.conftest import Figure, NewGuest
from tests.kernel.guest import Guest
from tests.kernel.wholecar import DASHCAM, PROGRAMS, STORE, Car

LIMIT_S: Final = 300.0
VIDEO: Final = "/root/video"
CONFIG: Final = f"{DASHCAM}\n[health]\nfrozen_s = 5.0\n"
HEALTH: Final = f"{VIDEO}/front/health.json"
PIECES: Final = f"ls {VIDEO}/front/*.mp4"


@pytest.fixture(scope="module")
def dashcam(guest: Guest) -> Process:
    """The dashcam with its camera."""
    guest.module("vivid")
    guest.until("test -c /dev/video0")
    guest.put("/root/dashcam.toml", CONFIG)
    guest.run(f"mkdir -p {VIDEO}/keep")
    return guest.start(f"exec roadwitness dashcam --config /root/dashcam.toml --dir {VIDEO}")


def known(guest: Guest) -> dict[str, Any]:
    return json.loads(guest.get(HEALTH))  # type: ignore[no-any-return]


@pytest.mark.short
def test_pictures_of_the_kernels_camera_are_kept_as_whole_segments(
    guest: Guest, dashcam: Process, figure: Figure
) -> None:
    guest.until(f"[ $({PIECES} | wc -l) -ge 3 ]", LIMIT_S)
    state = known(guest)
    assert (state["mode"], state["codec"], state["width"], state["height"]) == ("encode", "h264", 320, 180)
    count = "import av,sys; print(*(sum(1 for _ in av.open(name).decode(video=0)) for name in sys.argv[1:]))"
    whole = guest.run(PIECES).out.split()[:3]
    pictures = [int(n) for n in guest.run(["python3", "-c", count, *whole], limit_s=LIMIT_S).out.split()]
    assert min(pictures) >= 1
    spans = [[int(part) for part in name.removesuffix(".mp4").split("-")[-2:]] for name in whole]
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    lasting_s = sum(ends - begins for begins, ends in spans) / 1e6
    figure("pictures kept of a camera asked for 5 a second", sum(pictures) / lasting_s, "a second")


def test_an_unplugged_camera_is_told_and_comes_back(guest: Guest, dashcam: Process) -> None:
    """Unbinding the platform device is what pulling the plug is: a module in use does not unload."""
    before = guest.run(PIECES).out.split()
    guest.run("echo vivid.0 > /sys/bus/platform/drivers/vivid/unbind", limit_s=LIMIT_S)
    guest.until(f"grep -q '\"lost\"' {HEALTH}", LIMIT_S)
    guest.run("echo vivid.0 > /sys/bus/platform/drivers/vivid/bind", limit_s=LIMIT_S)
    guest.until("test -c /dev/video0", LIMIT_S)
    guest.until(f"[ $({PIECES} | wc -l) -gt {len(before) + 1} ] && ! grep -q '\"lost\"' {HEALTH}", LIMIT_S)


def test_a_camera_that_says_the_same_for_ever_is_told(guest: Guest, dashcam: Process) -> None:
    guest.run("v4l2-ctl -d /dev/video0 -c osd_text_mode=2")  # the test picture without its running clock
    guest.until(f"grep -q '\"frozen\"' {HEALTH}", LIMIT_S)
    guest.run("v4l2-ctl -d /dev/video0 -c osd_text_mode=0")
    guest.until(f"! grep -q '\"frozen\"' {HEALTH}", LIMIT_S)


def test_the_dashcam_ends_with_every_segment_whole(guest: Guest, dashcam: Process) -> None:
    dashcam.kill(signal.SIGTERM)
    assert dashcam.wait(LIMIT_S).code == 0, dashcam.said[-2000:]
    assert guest.run(f"find {VIDEO} -name '*.part'").out == ""


def test_a_camera_that_compresses_is_copied(guest: Guest) -> None:
    formats = guest.run("v4l2-ctl -d /dev/video0 --list-formats").out
    if "MJPG" not in formats and "H264" not in formats:
        # what may still be shown here: the agent's own words for it
        guest.put("/root/copying.toml", CONFIG.replace("[cameras.front]", '[cameras.front]\nmode = "copy"'))
        copying = guest.start(f"exec roadwitness dashcam --config /root/copying.toml --dir {VIDEO}")
        copying.until_says("the camera offers neither H.264 nor MJPEG", LIMIT_S)
        copying.kill(signal.SIGTERM)
        assert copying.wait(LIMIT_S).code == 0
        pytest.skip("this kernel's vivid compresses nothing: copying is shown by tests/test_dashcam_process.py alone")
    raise AssertionError(f"vivid has learned to compress: copy it here\n{formats}")


def test_the_clip_of_a_collision_shows_the_seconds_around_it(new_guest: NewGuest, figure: Figure) -> None:
    """The camera turns red at the moment at which the sensor feels the blow."""
    guest = new_guest(icount=0)  # a busy host would stretch the blow
    guest.boot()
    car = Car(guest)
    for name in ("collide.py", "redness.py"):
        guest.put(f"/root/{name}", (HERE / "programs" / name).read_bytes())
    car.unit("dashcam", *PROGRAMS["dashcam"])
    guest.until(f"ls {STORE}/video/front/*.mp4", LIMIT_S)
    car.unit("agent", *PROGRAMS["agent"])
    said = guest.run("python3 /root/collide.py 18 16", limit_s=LIMIT_S).out
    zero_ns = json.loads(said)["zero_ns"]
    packages = f"{STORE}/packages"
    guest.until(f"ls {packages}/*/manifest.json", LIMIT_S)
    (folder,) = guest.run(f"ls -d {packages}/*").out.split()
    verified = guest.run(f"roadwitness verify {folder} --json", check=False, limit_s=LIMIT_S)
    assert json.loads(verified.out)["whole"], verified
    (camera,) = json.loads(guest.get(f"{folder}/video.json"))["cameras"]
    (clip,) = camera["clips"]
    start_ns, end_ns = int(clip["start_ns"]), int(clip["end_ns"])
    assert start_ns <= zero_ns - 14.5e9
    assert end_ns >= zero_ns + 9.5e9
    seen = json.loads(guest.run(f"python3 /root/redness.py {folder}/{clip['file']}", limit_s=LIMIT_S).out)
    turned = [red for _, red in seen].index(True)
    assert all(red == (n >= turned) for n, (_, red) in enumerate(seen))
    off_s = start_ns / 1e9 + seen[turned][0] - zero_ns / 1e9
    figure("pictures of the clip", len(seen))
    figure("the picture of the collision comes after it by", off_s, "s")
    assert -0.05 <= off_s <= 0.6  # 5 pictures a second, and the one that was being exposed
