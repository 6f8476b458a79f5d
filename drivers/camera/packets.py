"""Pictures as the camera compressed them, not decoded, by libav: V4L2 (H.264 or MJPEG), a URL, or a file."""

import errno
import fcntl
import os
import select
import threading
from pathlib import Path
from typing import Any, Final

import av
import av.error

from agent import clock
from agent.clock import NS_PER_S
from agent.errors import DriverError
from drivers.camera import COPY_CODECS, EndError, Offer, Picture, Wish, is_device, is_url
from drivers.camera.pace import Pace
from drivers.camera.stamps import Stamps

OPEN_S: Final = 10.0  # an RTSP camera that has to wake up
SILENT_S: Final = 5.0  # a stream that says nothing for so long is cut
NAP_S: Final = 0.004  # between two questions where there is nothing to wait on: an eighth of a frame at 30 fps
TIMELESS: Final = ("h264", "hevc", "mjpeg", "mpjpeg")  # streams without times: libav makes some up, at 25 a second
_V4L2: Final = "video4linux2"
_UNCOMPRESSED: Final = 'open: the camera offers neither H.264 nor MJPEG; use mode = "encode"'
_NEVER: Final = threading.Event()  # waited on where nothing else is to be waited for


class Packets:
    """A source of compressed pictures."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self.name = wish.source
        self._container: Any = None
        self._stamps = Stamps()
        self._pace: Pace | None = None
        self._ready: select.poll | None = None
        self._damaged = 0
        self._stale = 0

    @property
    def counts(self) -> dict[str, int]:
        """Return what was met."""
        return {"stale": self._stale + self._stamps.stale, "damaged": self._damaged}

    def open(self) -> Offer:
        """Open the source; raise DriverError when there is none or when it holds no video."""
        device = is_device(self._wish.source)
        self._container = self._opened_device() if device else self._opened(None, self._stream_options())
        streams = self._container.streams.video
        if not streams:
            self.close()
            raise DriverError(f"{self.name}: open: no video in it; give another source")
        self._stream = streams[0]
        self._stale += self._stamps.stale
        self._stamps = Stamps(self._wish.latency_ns)
        self._pace = None if device or is_url(self._wish.source) else Pace(self._wish)
        self._ready = unblocked(self._wish.source) if device else None
        context = self._stream.codec_context
        rate = self._stream.average_rate or self._stream.guessed_rate
        fps = float(rate) if rate else 0.0
        return Offer(context.name, context.width, context.height, fps, bytes(context.extradata or b""))

    def read(self, timeout_s: float) -> Picture | None:
        """Return the next picture; see drivers.camera."""
        until_ns = clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        if self._pace is not None:
            return self._played(self._pace, timeout_s)
        while True:
            packet = self._next()
            if packet is None:
                self._wait((until_ns - clock.monotonic_ns()) / NS_PER_S)
            elif packet.size:
                picture = self._stamped(packet)
                if picture is not None:
                    return picture
            elif packet.pts is None and packet.dts is None:  # libav marks the end of a stream so
                raise DriverError(f"{self.name}: read: the stream has ended; it is opened again")
            else:
                self._damaged += 1  # a buffer that the kernel calls damaged comes empty
            if clock.monotonic_ns() >= until_ns:
                return None

    def _wait(self, seconds: float) -> None:
        """Wait for the device to have something, no longer than `seconds`."""
        if self._ready is None:
            clock.wait(_NEVER, NAP_S)
        elif seconds > 0:
            self._ready.poll(seconds * 1000)

    def close(self) -> None:
        """Release the source."""
        self._ready = None
        container, self._container = self._container, None
        if container is not None:
            container.close()

    # opening

    def _opened_device(self) -> Any:
        """Open a V4L2 device in the first compressed format that it offers."""
        reason = ""
        for codec in COPY_CODECS:
            options = {
                "input_format": codec,
                "video_size": f"{self._wish.width}x{self._wish.height}",
                "framerate": f"{self._wish.fps:g}",
                "timestamps": "default",  # the kernel's own, not converted
            }
            try:
                container = self._opened(_V4L2, options)
            except DriverError as trouble:
                reason = str(trouble)
                continue
            if container.streams.video and container.streams.video[0].codec_context.name == codec:
                return container
            container.close()
            reason = f"{self.name}: {_UNCOMPRESSED}"
        raise DriverError(reason)

    def _stream_options(self) -> dict[str, str]:
        if self._wish.source.startswith("rtsp"):
            # over UDP a lost packet is a damaged picture
            return {"rtsp_transport": "tcp", "allowed_media_types": "video"}
        return {}

    def _opened(self, kind: str | None, options: dict[str, str]) -> Any:
        try:
            return av.open(self._wish.source, format=kind, options=options, timeout=(OPEN_S, SILENT_S))
        except (av.error.FFmpegError, OSError, ValueError) as e:
            if kind == _V4L2 and getattr(e, "errno", None) == errno.EINVAL:  # libav's word for another format
                raise DriverError(f"{self.name}: {_UNCOMPRESSED}") from None
            raise DriverError(f"{self.name}: open: {_cause(e)}; is it plugged in, and may this user read it?") from None

    # reading

    def _next(self) -> Any:
        """Return the next packet of the video, None when a device has none yet; raise DriverError or EndError."""
        if self._container is None:
            raise DriverError(f"{self.name}: read: it is not open")
        try:
            for packet in self._container.demux(self._stream):
                return packet
        except (av.error.BlockingIOError, BlockingIOError):
            return None
        except (av.error.FFmpegError, OSError) as e:
            raise DriverError(f"{self.name}: read: {_cause(e)}; it is opened again") from None
        raise EndError(f"{self.name}: read: the file is over")

    def _stamped(self, packet: Any) -> Picture | None:
        if packet.is_corrupt:
            self._damaged += 1
        # decoding times only grow; where a stream has pictures between two others, presentation times do not
        stamp = packet.pts if packet.dts is None or is_device(self._wish.source) else packet.dts
        if self._container.format.name in TIMELESS:
            stamp = None
        stamp_ns = None if stamp is None else round(stamp * packet.time_base * NS_PER_S)
        now_ns = clock.monotonic_ns()
        decode_ns = self._stamps.time_of(stamp_ns, now_ns, clock.wall_minus_monotonic_ns())
        if decode_ns is None:
            return None
        later = 0 if packet.pts is None or stamp is None else packet.pts - stamp
        return Picture(decode_ns + round(later * packet.time_base * NS_PER_S), decode_ns, bytes(packet), packet=packet)

    def _played(self, pace: Pace, timeout_s: float) -> Picture | None:
        """Return a file's next picture when its time has come."""
        if pace.waiting is None:
            packet = self._next()
            if not packet.size:  # libav marks the end of a stream by an empty packet
                if not self._wish.loop:
                    raise EndError(f"{self.name}: read: the file is over")
                pace.again()
                self._container.seek(0)
                return None
            base = packet.time_base
            pts = packet.dts if packet.pts is None else packet.pts
            dts = pts if packet.dts is None else packet.dts
            if pts is None:
                self._damaged += 1
                return None
            length_ns = round((packet.duration or 0) * base * NS_PER_S)
            t_ns, decode_ns = pace.times(round(pts * base * NS_PER_S), round(dts * base * NS_PER_S), length_ns)
            pace.waiting = Picture(t_ns, decode_ns, bytes(packet), packet=packet)
        picture: Picture = pace.waiting
        if not pace.due(picture.decode_ns, timeout_s):
            return None
        pace.waiting = None
        return picture


def unblocked(device: str) -> "select.poll | None":
    """Make this process's open `device` answer at once, and return what to wait on; None where it is not found.

    libav opens V4L2 to block, and has no option for it: a camera that stops sending would keep a read in the kernel for
    ever. The flag belongs to the open file, so it can be set from beside.
    """
    real = os.path.realpath(device)
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return None
    for name in sorted(names, key=int, reverse=True):
        try:
            if os.readlink(Path("/proc/self/fd") / name) != real:
                continue
            flags = fcntl.fcntl(int(name), fcntl.F_GETFL)
            fcntl.fcntl(int(name), fcntl.F_SETFL, flags | os.O_NONBLOCK)
        except OSError:
            continue  # closed by another thread in this moment
        ready = select.poll()
        ready.register(int(name), select.POLLIN)
        return ready
    return None


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
