"""Pictures made anew: decoded where they came compressed, thinned to the rate asked for, shaped, encoded."""

from collections.abc import Callable
from typing import Final

from agent.clock import NS_PER_S
from agent.dashcam.encoding import Encoding
from agent.dashcam.keeping import Looks, Work
from agent.dashcam.mp4 import Head
from agent.dashcam.pictures import Decoding, Shape, luma_of, shaped
from agent.dashcam.settings import CameraSettings, DashcamConfig
from agent.dashcam.shown import Shown
from agent.dashcam.writing import Piece
from drivers.camera import Offer, Picture

MOST_WAITING_S: Final = 1.0  # of pictures; an encoder that is so far behind leaves pictures out
# of the interval asked for; a camera that is a little fast keeps its pictures, because leaving one out makes a gap
SOONER: Final = 0.6
_US: Final = 1000  # ns

Give = Callable[[tuple[Head, Piece]], bool]


class Reencoding:
    """One session with an encoder of its own; `give` takes what comes out and says whether it had room."""

    def __init__(self, work: Work, camera: CameraSettings, config: DashcamConfig, offer: Offer, give: Give) -> None:
        self._work = work
        self._camera = camera
        self._give = give
        self._shape = Shape.of(camera)
        self._segment_s = config.segment_s
        self._decoding = Decoding(offer)
        self._encoding: Encoding | None = None
        self._interval_ns = round(NS_PER_S / camera.fps)
        self._last_ns: int | None = None  # time of the last picture that was encoded
        self._key_ns: int | None = None
        self._shown = Shown(work.folder.parent, work.boot) if camera.overlay else None
        self._looks = Looks(work, config.health.look_s)

    @property
    def encoder(self) -> str:
        """Return the encoder at work, empty while there is none."""
        return self._encoding.name if self._encoding else ""

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height of what comes out."""
        return self._shape.width, self._shape.height

    def take(self, picture: Picture, waiting: int) -> None:
        """Encode a picture while `waiting` more are there; raises DriverError when no encoder works."""
        behind = waiting > max(3, MOST_WAITING_S * self._camera.fps) and self._camera.pace > 0
        damaged = self._decoding.damaged
        frames = self._decoding.frames(picture)
        self._work.damaged += self._decoding.damaged - damaged
        for frame in frames:
            t_ns = frame.pts * _US
            if behind:
                self._work.left_out += 1
                continue
            since_ns = self._interval_ns if self._last_ns is None else t_ns - self._last_ns
            if since_ns < SOONER * self._interval_ns:
                continue  # far more than was asked for
            self._last_ns = t_ns
            if self._looks.due(t_ns):
                self._work.looks.append(self._looks.looking.look(t_ns, luma_of(frame)))
            if self._encoding is None:
                self._encoding = Encoding(self._camera, *self.size, self._segment_s)
            ready = shaped(frame, self._shape, self._shown.line(t_ns) if self._shown else "")
            for kept in self._encoding.pieces(ready, key=self._key_due(t_ns, max(since_ns, self._interval_ns))):
                self._pass_on(kept)

    def finish(self) -> None:
        """Give what the encoder still holds."""
        if self._encoding is not None:
            for kept in self._encoding.rest():
                self._pass_on(kept)

    def _key_due(self, t_ns: int, interval_ns: int) -> bool:
        """Say whether this picture has to be a key: else the segment would be too long with the next."""
        first_ns = self._key_ns
        due = first_ns is None or t_ns + interval_ns - first_ns > self._segment_s * NS_PER_S
        if due or self._work.key_wanted:
            self._work.key_wanted = False
            self._key_ns = t_ns
            return True
        return False

    def _pass_on(self, kept: tuple[Head, Piece]) -> None:
        if not self._give(kept):
            self._work.key_wanted = True
