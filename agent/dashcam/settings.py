"""All that `dashcam.toml` may say."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from agent.config import build, read_toml, settings_file
from agent.dashcam.segments import CAMERA_NAME, KEEP
from agent.errors import ConfigError

MOST_CAMERAS: Final = 2

Mode = Literal["auto", "copy", "encode"]
Encoder = Literal["auto", "h264_v4l2m2m", "libx264", "mjpeg"]


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """From when a camera counts as ill; each limit's reason is in docs/sources.md, "Cameras"."""

    look_s: float = 1.0  # between two looks at a picture; when copying, at key frames
    lost_s: float = 5.0  # without a new picture
    frozen_s: float = 10.0  # the same picture again and again
    frozen_share: float = 2e-5  # of pixels that differ; less is the same picture
    blind_s: float = 10.0  # nothing to see
    blind_levels: float = 6.0  # standard deviation of brightness, of 256 levels; less is nothing to see
    blurred_s: float = 60.0  # without sharp edges
    blurred_share: float = 0.2  # of this camera's usual sharpness
    slow_s: float = 10.0  # fewer pictures than asked
    slow_share: float = 0.8  # of the pictures asked for

    def __post_init__(self) -> None:
        """Refuse what cannot be judged."""
        spans = (self.look_s, self.lost_s, self.frozen_s, self.blind_s, self.blurred_s, self.slow_s)
        shares = (self.frozen_share, self.blurred_share, self.slow_share)
        if min(spans) <= 0 or not all(0 < share < 1 for share in shares) or self.blind_levels <= 0:
            raise ValueError("times and blind_levels must be above 0, shares between 0 and 1")


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """One camera. Masks, rotation and overlay need pictures to be encoded here; so does a camera that cannot itself."""

    source: str = "/dev/video0"  # a V4L2 device, a URL that libav opens (rtsp://, http://, tcp://), or a video file
    mode: Mode = "auto"  # auto copies what the camera compressed, and encodes where it must
    width: int = 1280
    height: int = 720
    fps: float = 30.0
    encoder: Encoder = "auto"  # auto takes the first that works: h264_v4l2m2m, libx264, mjpeg
    encoder_threads: int = 2  # of the board's four cores
    bit_rate: int = 4_000_000  # bit/s when encoding: 1.8 GB an hour
    max_bytes: int = 8_589_934_592  # of all its segments, oldest go first: 4.7 h at bit_rate
    latency_s: float = 0.0  # from exposure to the time of arrival, where the camera's stamps are not the kernel's
    rotate_deg: Literal[0, 90, 180, 270] = 0  # clockwise
    masks: tuple[tuple[float, float, float, float], ...] = ()  # private places: left, top, width, height, as shares
    overlay: bool = False  # time and speed in the picture
    pace: float = 1.0  # files: 1 real time, 0 as fast as it goes
    loop: bool = False  # files: begin again at the end
    start_ns: int = 0  # files: monotonic time of the first picture; 0 is when it is opened

    def __post_init__(self) -> None:
        """Refuse what no camera can be asked for, and what copying cannot do."""
        if not self.source:
            raise ValueError("source is missing: a device, a URL or a file")
        if not (16 <= self.width <= 8192 and 16 <= self.height <= 8192 and 0 < self.fps <= 240):
            raise ValueError("width and height must be 16 to 8192, fps above 0 and at most 240")
        if self.width % 2 or self.height % 2:
            raise ValueError("width and height must be even: encoders halve the colour")
        if self.bit_rate < 50_000 or self.max_bytes < 1_048_576 or not 1 <= self.encoder_threads <= 16:
            raise ValueError("bit_rate must be 50,000 or more, max_bytes 1,048,576 or more, encoder_threads 1 to 16")
        if self.latency_s < 0 or self.pace < 0 or self.start_ns < 0:
            raise ValueError("latency_s, pace and start_ns must not be negative")
        for left, top, width, height in self.masks:
            if min(left, top) < 0 or min(width, height) <= 0 or left + width > 1 or top + height > 1:
                raise ValueError("a mask is left, top, width, height, as shares of the picture within 0 and 1")
        if self.mode == "copy" and self.alters:
            raise ValueError('masks, overlay and rotate_deg change the picture: use mode = "encode" or "auto"')

    @property
    def alters(self) -> bool:
        """Say whether pictures are changed before they are kept, so that they must be encoded here."""
        return bool(self.masks) or self.overlay or self.rotate_deg != 0


@dataclass(frozen=True, slots=True)
class DashcamConfig:
    """The dashcam's configuration."""

    segment_s: float = 2.0  # longest segment: what a power cut may cost
    sync_s: float = 1.0  # a segment that grows is made durable so often
    min_free_bytes: int = 1_073_741_824  # left on the disk for the agent's store and packages
    rest_parked: bool = True  # the cameras rest while the agent says that the car is parked, and spare its battery
    hang_s: float = 20.0  # a camera's driver, a codec or the disk that takes longer hangs: the process ends
    retry_s: float = 1.0  # first wait before a lost camera is opened again, doubled each time …
    retry_cap_s: float = 30.0  # … up to this
    health: HealthSettings = field(default_factory=HealthSettings)
    cameras: dict[str, CameraSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if not 0.2 <= self.segment_s <= 60 or self.sync_s <= 0 or self.min_free_bytes < 0:
            raise ValueError("segment_s must be 0.2 to 60, sync_s above 0, min_free_bytes not negative")
        if self.hang_s < 12 or not 0 < self.retry_s <= self.retry_cap_s:
            raise ValueError(
                "hang_s must be 12 or more (libraries wait for 10 s), retry_s above 0, not above retry_cap_s"
            )
        if len(self.cameras) > MOST_CAMERAS:
            raise ValueError(f"{len(self.cameras)} cameras; one process serves {MOST_CAMERAS}")
        for name in self.cameras:
            if not CAMERA_NAME.fullmatch(name) or name == KEEP:
                raise ValueError(f"camera '{name}': a name has small letters, digits, - and _, and is not '{KEEP}'")


def load_dashcam(path: Path | None = None) -> DashcamConfig:
    """Read `dashcam.toml` (`path`, or this machine's) over the defaults."""
    path = path or settings_file("dashcam.toml")
    return dashcam_of(read_toml(path), str(path))


def dashcam_of(table: dict[str, Any], where: str) -> DashcamConfig:
    """Read a dashcam.toml's table over the defaults; raise ConfigError naming `where` and the key that is wrong."""
    config = build(DashcamConfig, table, where)
    sources: dict[str, str] = {}
    for name, camera in config.cameras.items():
        if camera.source in sources:
            raise ConfigError(
                f"{where}: cameras {sources[camera.source]} and {name} are both {camera.source}; remove one"
            )
        sources[camera.source] = name
    return config
