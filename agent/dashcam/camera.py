"""One camera at work: a thread that reads it, one that writes segments, and one that encodes between them where needed.

The reader opens the camera again and again until it works. Each thread may hang in a driver, a codec or the disk; that
is seen from outside (`hanging`), because only the end of the process frees a device that hangs. A disk that is slow for
a while holds nobody up: what has been compressed waits in memory.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from agent import clock
from agent.clock import NS_PER_S
from agent.dashcam.backlog import Backlog
from agent.dashcam.copying import Copying
from agent.dashcam.keeping import Keeping, Looks, Work
from agent.dashcam.mp4 import Head
from agent.dashcam.reencoding import Reencoding
from agent.dashcam.settings import CameraSettings, DashcamConfig
from agent.dashcam.writing import Piece
from agent.errors import DriverError
from drivers.camera import COPY_CODECS, Camera, EndError, Offer, Picture, Wish, is_device, is_url

log = logging.getLogger(__name__)
T = TypeVar("T")
Maker = Callable[[Wish, bool], Camera]  # what is asked for, and whether raw pictures are wanted

REST_S: Final = 60.0  # a rest is looked at again, should a word of its end be lost
READ_S: Final = 0.5  # longest read without a picture; bounds how long stopping takes
RAW: Final = "rawvideo"
MOST_PIECES_BYTES: Final = 33_554_432  # that wait for the disk: 60 s of H.264 at 4 Mbit/s, 4 s of MJPEG
MOST_RAW_BYTES: Final = 33_554_432  # that wait for the encoder: 12 raw pictures of 720 lines


def make_camera(wish: Wish, raw: bool) -> Camera:
    """Return the source for a wish; heavy libraries are imported here."""
    if raw:
        from drivers.camera.images import Images

        return Images(wish)
    from drivers.camera.packets import Packets

    return Packets(wish)


class CameraAtWork:
    """Open, read, keep, again and again until stopped."""

    def __init__(
        self,
        name: str,
        camera: CameraSettings,
        config: DashcamConfig,
        work: Work,
        *,
        make: Maker = make_camera,
        hold_ns: int = 0,
    ) -> None:
        """Take where it keeps what it gives; before `hold_ns` it is not opened."""
        self.name = name
        self.settings = camera
        self.work = work
        self.reason = ""  # why it is away; empty while it is open
        self.copying: bool | None = None
        self.offer: Offer | None = None
        self.reencoding: Reencoding | None = None
        self.ended = False  # a file is over
        self.attempts = 0  # to open it, that have come to an end
        self.bug: BaseException | None = None
        self._error: BaseException | None = None  # what ended a thread behind the reader
        self._config = config
        self._make = make
        self._hold_ns = hold_ns
        self._stopping = threading.Event()
        self._resting = threading.Event()
        self._filming = False  # set before `_resting` is read, so that whoever sets that one sees this one
        self._woken = threading.Event()  # set by whatever ends a rest
        self._busy: dict[str, tuple[str, int]] = {}  # thread -> step, since when
        self._past: dict[str, int] = {}  # counts of sessions that are over
        self._camera: Camera | None = None
        self._backlogs: list[Backlog[tuple[Head, Piece]] | Backlog[Picture]] = []
        self._thread = threading.Thread(target=self._run, name=f"camera:{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present picture."""
        self._stopping.set()
        self._woken.set()

    def rest(self, resting: bool) -> None:
        """Let go of the camera after the present picture, or open it again."""
        if resting == self._resting.is_set():
            return
        if resting:
            self._woken.clear()
            self._resting.set()
        else:
            self._resting.clear()
            self._woken.set()

    @property
    def resting(self) -> bool:
        """Say whether it rests: it was told to, has let go of the camera, and its last segment is whole."""
        return self._resting.is_set() and not self._filming

    def join(self, seconds: float) -> bool:
        """Wait for the end; say whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def hanging(self, now_ns: int) -> str | None:
        """Return the step in which one of its threads hangs, None while none does."""
        for step, since_ns in list(self._busy.values()):
            if now_ns - since_ns > self._config.hang_s * NS_PER_S:
                return step
        return None

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height of what is kept, zeros while that is not known."""
        if self.reencoding is not None:
            return self.reencoding.size
        return (self.offer.width, self.offer.height) if self.offer else (0, 0)

    @property
    def encoder(self) -> str:
        """Return the encoder at work, empty when copying."""
        return self.reencoding.encoder if self.reencoding else ""

    @property
    def counts(self) -> dict[str, int]:
        """Return what was met so far, where it is not nothing."""
        work = self.work
        found = {"kept": work.kept, "kept_bytes": work.kept_bytes, "damaged": work.damaged}
        found["dropped"] = work.refused + work.left_out + sum(b.dropped for b in list(self._backlogs))
        camera = self._camera
        for more in (self._past, camera.counts if camera else {}):
            for key, value in more.items():
                found[key] = found.get(key, 0) + value
        return {key: value for key, value in found.items() if value}

    # the reading thread

    def _run(self) -> None:
        losses = 0
        try:
            while not self._stopping.is_set() and clock.monotonic_ns() < self._hold_ns:
                clock.wait(self._stopping, READ_S)
            while not self._stopping.is_set() and not self.ended:
                self._filming = True
                if self._resting.is_set():
                    self._filming = False
                    self.reason = ""
                    clock.wait(self._woken, REST_S)
                    continue
                kept = self.work.kept
                try:
                    self._session()
                except EndError:
                    self.ended = True
                except DriverError as trouble:
                    if not self.reason:
                        log.warning("%s: %s", self.name, trouble)
                    self.reason = str(trouble)
                finally:
                    self._filming = False
                self.attempts += 1
                losses = 0 if self.work.kept > kept else losses + 1
                if not self.ended:
                    pause_s = self._config.retry_s * 2.0 ** min(max(losses - 1, 0), 16)
                    clock.wait(self._stopping, min(pause_s, self._config.retry_cap_s))
        except BaseException as bug:  # raised again in the main thread, which ends the process
            self.bug = bug

    def _session(self) -> None:
        """Open the camera and pass its pictures on until trouble, the end, or `stop`."""
        try:
            offer = self._open()
            self.copying = self._copies(offer)
            self.offer = offer
            give, threads = self._copied(offer) if self.copying else self._made_anew(offer)
            for thread in threads:
                thread.start()
            try:
                self._read(give)
            finally:
                self._backlogs[-1].close()  # each thread closes the next
                for thread in reversed(threads):
                    thread.join()
                dropped = sum(backlog.dropped for backlog in self._backlogs)
                self._backlogs = []
                self._past["dropped"] = self._past.get("dropped", 0) + dropped
        except DriverError:
            self._raise_error()
            raise
        finally:
            self._close()
        self._raise_error()

    def _copied(self, offer: Offer) -> tuple[Callable[[Picture], object], list[threading.Thread]]:
        """Return what takes pictures, and the threads behind it, for a camera whose pictures are kept as they came."""
        self.reencoding = None
        copying = Copying(offer.codec, offer.width, offer.height, offer.extradata)
        looks = Looks(self.work, self._config.health.look_s)
        pieces, writing = self._writing(offer.fps or self.settings.fps, looks, patient=self._patient)

        def give(picture: Picture) -> None:
            piece = copying.piece(picture)
            if piece is None:
                self.work.damaged += 1
            else:
                pieces.put(piece)

        return give, [writing]

    def _made_anew(self, offer: Offer) -> tuple[Callable[[Picture], object], list[threading.Thread]]:
        """Return the same for a camera whose pictures have to be encoded."""
        pieces, writing = self._writing(self.settings.fps, None, patient=True)
        reencoding = self.reencoding = Reencoding(self.work, self.settings, self._config, offer, pieces.put)
        pictures: Backlog[Picture] = Backlog(MOST_RAW_BYTES, _bytes, _is_key, patient=self._patient)
        self._backlogs.append(pictures)

        def encode(picture: Picture) -> None:
            reencoding.take(picture, len(pictures))

        def end() -> None:
            try:
                reencoding.finish()
            finally:
                pieces.close()

        encoding = self._thread_of("encode", pictures, encode, end)
        return pictures.put, [writing, encoding]

    def _writing(
        self, fps: float, looks: Looks | None, *, patient: bool
    ) -> tuple[Backlog[tuple[Head, Piece]], threading.Thread]:
        pieces: Backlog[tuple[Head, Piece]] = Backlog(
            MOST_PIECES_BYTES, lambda kept: len(kept[1].data), lambda kept: kept[1].key, patient=patient
        )
        keeping = Keeping(self.work, self._config, fps, looks)
        self._backlogs = [pieces]
        return pieces, self._thread_of("write", pieces, keeping.take, keeping.finish)

    def _thread_of(
        self, step: str, backlog: Backlog[T], take: Callable[[T], None], end: Callable[[], None]
    ) -> threading.Thread:
        """Return a thread that takes all that comes, until the backlog is over."""

        def run() -> None:
            try:
                try:
                    while not backlog.over:
                        item = backlog.take()
                        if item is not None:
                            self._during(step, lambda i=item: take(i))  # type: ignore[misc]
                finally:
                    backlog.close()
                    self._during(step, end)
            except BaseException as error:  # raised again in the reading thread
                self._error = error

        return threading.Thread(target=run, name=f"{step}:{self.name}", daemon=True)

    @property
    def _patient(self) -> bool:
        """Say whether the source may be made to wait: a file that is read as fast as it goes."""
        source = self.settings.source
        return self.settings.pace <= 0 and not is_device(source) and not is_url(source)

    def _open(self) -> Offer:
        """Open the source that fits: raw pictures where it compresses nothing, or nothing that can be used."""
        camera, wish = self.settings, wish_of(self.settings)
        device = is_device(camera.source)
        if device and (camera.mode == "encode" or camera.alters):
            return self._opened(wish, raw=True)
        try:
            offer = self._opened(wish, raw=False)
        except DriverError:
            if not device or camera.mode == "copy" or not Path(camera.source).exists():
                raise
            self._close()
            return self._opened(wish, raw=True)
        if offer.codec == RAW:
            self._close()
            return self._opened(wish, raw=True)
        return offer

    def _opened(self, wish: Wish, *, raw: bool) -> Offer:
        self._camera = self._make(wish, raw)
        return self._during("open", self._camera.open)

    def _copies(self, offer: Offer) -> bool:
        """Say whether pictures are kept as they came; raise DriverError when they should and cannot."""
        camera = self.settings
        can = offer.codec in COPY_CODECS and offer.width > 0
        if camera.mode == "copy" and not can:
            raise DriverError(
                f'{camera.source}: open: it gives {offer.codec}, which cannot be copied; use mode = "encode"'
            )
        return can and camera.mode != "encode" and not camera.alters

    def _read(self, give: Callable[[Picture], object]) -> None:
        camera = self._camera
        assert camera is not None
        while not (self._stopping.is_set() or self._resting.is_set()) and self._error is None:
            picture = self._during("read", lambda: camera.read(READ_S))
            if picture is not None:
                self.work.came_ns = clock.monotonic_ns()
                give(picture)
                if self.reason:
                    log.warning("%s: works again", self.name)
                    self.reason = ""

    def _close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            for key, value in camera.counts.items():
                self._past[key] = self._past.get(key, 0) + value
            self._during("close", camera.close)

    def _raise_error(self) -> None:
        """Raise what ended a thread behind the reader: a DriverError where no encoder works, or a bug."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _during(self, step: str, act: Callable[[], T]) -> T:
        thread = threading.current_thread().name
        self._busy[thread] = (step, clock.monotonic_ns())
        try:
            return act()
        finally:
            del self._busy[thread]


def wish_of(camera: CameraSettings) -> Wish:
    """Return what a camera is asked for."""
    return Wish(
        camera.source,
        camera.width,
        camera.height,
        camera.fps,
        round(camera.latency_s * NS_PER_S),
        camera.pace,
        camera.loop,
        camera.start_ns,
    )


def _bytes(picture: Picture) -> int:
    return len(picture.data) if picture.image is None else picture.image.nbytes


def _is_key(picture: Picture) -> bool:
    return picture.packet is None or bool(picture.packet.is_keyframe)
