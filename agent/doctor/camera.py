"""The cameras: what the dashcam says of each, or, where no dashcam runs, what each gives when it is opened."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from agent import clock
from agent.clock import NS_PER_S
from agent.dashcam.settings import CameraSettings
from agent.dashcam.state import SILENT_NS, CameraState, Trouble, read_state
from agent.dashcam.watch import VIDEO
from agent.dashcam.withholding import is_withheld
from agent.doctor.finding import Facts, Finding, State, ill, well
from agent.doctor.seen import Seen
from agent.errors import DriverError
from drivers.camera import Camera, Wish, is_device, is_url

LOOK_S: Final = 2.5
RATE: Final = 0.8  # of the pictures asked for (dashcam.toml, slow_share)
RAW_ONLY: Final = "neither H.264 nor MJPEG"  # as drivers.camera.packets says it
# trouble that stands -> state, row of advice
TROUBLES: Final[dict[Trouble, tuple[State, str]]] = {
    "lost": ("fail", "camera_lost"),
    "frozen": ("fail", "camera_frozen"),
    "blind": ("fail", "camera_blind"),
    "blurred": ("warn", "camera_blurred"),
    "slow": ("warn", "camera_slow"),
    "disk": ("fail", "camera_disk"),
    "keys": ("warn", "camera_keys"),
}


def examine(seen: Seen) -> Iterator[Finding]:
    """Judge every configured camera."""
    if seen.dashcam is None or not seen.dashcam.cameras:
        if not seen.dashcam_trouble:
            yield well("camera.configured", "no camera is configured", cameras=0)
        return
    folder = seen.context.store / VIDEO
    if not os.access(seen.context.store, os.X_OK):
        text = f"{seen.context.store}: this user may not look into it"
        yield ill("unknown", "camera.dashcam", "not_permitted", text)
        return
    if is_withheld(folder):
        yield ill("warn", "camera.consent", "camera_withheld", "the owner does not agree to video")
        return
    for name, camera in seen.dashcam.cameras.items():
        state = read_state(folder, name)
        fresh = state is not None and state.boot == seen.boot and clock.monotonic_ns() - state.t_ns <= SILENT_NS
        if state is not None and fresh and state.state != "ended":
            yield from _filming(name, camera, state)
        else:
            yield from _ourselves(seen, name, camera)


def _filming(name: str, camera: CameraSettings, state: CameraState) -> Iterator[Finding]:
    """Tell what the dashcam knows."""
    device = f"camera:{name}"
    how = state.encoder or ("copied" if state.mode == "copy" else "")
    shape = f"{state.width}×{state.height}, {state.fps:.0f} of {camera.fps:g} pictures a second"
    text = ", ".join(part for part in (shape, state.codec, how) if part)
    facts: Facts = {"codec": state.codec, "encoder": state.encoder, "mode": state.mode, "fps": round(state.fps, 2)}
    if state.state == "resting":
        yield ill("unknown", "camera.picture", "device_rests", "rests while the car is parked", device=device, **facts)
        return
    for trouble, problem in sorted(state.problems.items()):
        how_bad, code = TROUBLES[trouble]
        yield ill(how_bad, "camera.picture", code, problem.detail, device=device, source=camera.source, **facts)
    if state.problems:
        return
    if state.state == "starting":
        yield ill("unknown", "camera.picture", "camera_starting", "starts", device=device, **facts)
    else:
        yield well("camera.picture", text, device=device, **facts)


def _ourselves(seen: Seen, name: str, camera: CameraSettings) -> Iterator[Finding]:
    """No dashcam films: say so, open the camera, and judge what it gives."""
    device = f"camera:{name}"
    yield ill("fail", "camera.dashcam", "dashcam_not_running", "no dashcam films it", device=device)
    if is_device(camera.source) and not Path(camera.source).exists():
        text = f"{camera.source} is not there"
        yield ill("fail", "camera.picture", "camera_missing", text, device=device, source=camera.source)
        return
    if seen.context.inside:
        return
    wish = Wish(camera.source, camera.width, camera.height, camera.fps, pace=camera.pace, loop=True)
    try:
        yield _looked(seen, wish, camera, device)
    except DriverError as error:
        code = "camera_missing" if is_device(camera.source) or is_url(camera.source) else "camera_file"
        yield ill("fail", "camera.picture", code, str(error), device=device, source=camera.source)


def _looked(seen: Seen, wish: Wish, camera: CameraSettings, device: str) -> Finding:
    from agent.dashcam.camera import make_camera
    from agent.dashcam.health import Looking
    from agent.dashcam.pictures import Decoding, luma_of

    source: Camera = make_camera(wish, False)
    seen.release.append(source.close)
    try:
        offer = source.open()
    except DriverError as error:
        if RAW_ONLY not in str(error):
            raise
        source = make_camera(wish, True)
        seen.release.append(source.close)
        offer = source.open()
    decoding, looking, look, frames = Decoding(offer), Looking(), None, 0
    begun_ns = clock.monotonic_ns()
    first_ns = last_ns = 0
    try:
        while clock.monotonic_ns() - begun_ns < min(LOOK_S, seen.left_s()) * NS_PER_S:
            picture = source.read(0.25)
            if picture is None:
                continue
            first_ns, last_ns, frames = first_ns or picture.t_ns, picture.t_ns, frames + 1
            decoded: list[Any] = decoding.frames(picture)
            if decoded and (look is None or frames % 5 == 0):
                look = looking.look(picture.t_ns, luma_of(decoded[-1]))
    finally:
        source.close()
    fps = (frames - 1) * NS_PER_S / (last_ns - first_ns) if frames > 1 and last_ns > first_ns else 0.0
    text = f"{offer.codec} {offer.width}×{offer.height}, {fps:.0f} of {camera.fps:g} pictures a second"
    facts: Facts = {"source": camera.source, "codec": offer.codec, "fps": round(fps, 2), "frames": frames}
    if not frames:
        return ill("fail", "camera.picture", "camera_lost", "gives no picture", device=device, **facts)
    limits = seen.dashcam.health if seen.dashcam is not None else None
    if look is not None and limits is not None and look.contrast < limits.blind_levels:
        kind = "dark" if look.brightness < 40 else "covered"
        return ill("fail", "camera.picture", "camera_blind", f"nothing to see: {kind}", device=device, **facts)
    if look is not None and look.changed is not None and limits is not None and look.changed < limits.frozen_share:
        return ill("fail", "camera.picture", "camera_frozen", "the same picture again", device=device, **facts)
    if 0 < fps < RATE * camera.fps:
        return ill("warn", "camera.picture", "camera_slow", text, device=device, **facts)
    return well("camera.picture", text, device=device, **facts)
