"""Pictures as the camera compressed them, not decoded, by libav: V4L2 (H.264 or MJPEG), a URL, or a file."""

import threading
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
NAP_S: Final = 0.004  # a device is asked so often: an eighth of a frame at 30 fps
_V4L2: Final = "video4linux2"
_NEVER: Final = threading.Event()  # waited on where nothing else is to be waited for


class Packets:
    """A source of compressed pictures."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self.name = wish.source
        self._container: Any = None
        self._stamps = Stamps()
        self._pace: Pace | None = None
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
            if packet is not None and packet.size:
                picture = self._stamped(packet)
                if picture is not None:
                    return picture
            elif packet is None:
                clock.wait(_NEVER, NAP_S)
            if clock.monotonic_ns() >= until_ns:
                return None

    def close(self) -> None:
        """Release the source."""
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
                "fflags": "nonblock",  # else a camera that has stopped blocks in the kernel for ever
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
            reason = f'{self.name}: open: the camera offers neither H.264 nor MJPEG; use mode = "encode"'
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
        return self._over()

    def _over(self) -> Any:
        if self._pace is not None:
            raise EndError(f"{self.name}: read: the file is over")
        raise DriverError(f"{self.name}: read: the stream has ended; it is opened again")

    def _stamped(self, packet: Any) -> Picture | None:
        if packet.is_corrupt:
            self._damaged += 1
        # decoding times only grow; where a stream has pictures between two others, presentation times do not
        stamp = packet.pts if packet.dts is None or is_device(self._wish.source) else packet.dts
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


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
