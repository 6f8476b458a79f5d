"""Is the camera well? Looks at a picture about once a second, and a verdict that needs a trouble to last.

A sensor never gives the same picture twice: its noise changes pixels also where the scene stands still, so a parked car
is not frozen; a picture that repeats to the last pixel is. A covered lens is uniform, a road at night is not. Sharpness
is compared with this camera's own, learned while it is well and only slowly while it is not.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from agent.clock import NS_PER_S
from agent.dashcam.settings import HealthSettings
from agent.dashcam.state import Problem, Trouble
from drivers.camera import Image

SMALL: Final = (320, 180)  # what brightness and sharpness are taken from: noise is averaged away, edges stay
MOVED_LEVELS: Final = 2  # a pixel that changed by more has changed
LEARN_LOOKS: Final = 60  # before sharpness is judged: a minute
LEARN_SHARE: Final = 1 / 300  # weight of a new look: five minutes of looks
ILL_SHARE: Final = 1 / 3600  # the same while it is blurred: an hour, so that what is new for good becomes usual
CLEAR_NS: Final = 3 * NS_PER_S  # a trouble has to be away for so long
REOPEN_SHARE: Final = 1.5  # blurred is over above so many times its limit: hysteresis


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen in one picture."""

    t_ns: int
    brightness: float  # mean level, 0-255
    contrast: float  # standard deviation of the levels
    sharpness: float  # variance of the Laplacian
    changed: float | None  # share of pixels that differ from the look before; None at the first


class Looking:
    """Look at pictures of one camera, one after the other."""

    def __init__(self) -> None:
        self._before: Image | None = None

    def look(self, t_ns: int, luma: Image) -> Look:
        """Measure a picture, given by its brightness."""
        changed = None
        before = self._before
        if before is not None and before.shape == luma.shape:
            moved = cv2.threshold(cv2.absdiff(luma, before), MOVED_LEVELS, 1, cv2.THRESH_BINARY)[1]
            changed = cv2.countNonZero(moved) / luma.size
        self._before = luma.copy()
        small = cv2.resize(luma, SMALL, interpolation=cv2.INTER_AREA)
        mean, deviation = cv2.meanStdDev(small)
        edges = cv2.meanStdDev(cv2.Laplacian(small, cv2.CV_32F))[1]
        return Look(
            t_ns, float(np.ravel(mean)[0]), float(np.ravel(deviation)[0]), float(np.ravel(edges)[0]) ** 2, changed
        )


@dataclass(slots=True)
class _Lasting:
    """A trouble that counts when it has lasted, and is over when it has been away for a while."""

    hold_ns: int
    since_ns: int | None = None
    away_ns: int | None = None
    stands: bool = False

    def seen(self, now_ns: int, there: bool) -> None:
        if there:
            self.away_ns = None
            if self.since_ns is None:
                self.since_ns = now_ns
            self.stands = self.stands or now_ns - self.since_ns >= self.hold_ns
        elif self.since_ns is not None:
            if not self.stands:
                self.since_ns = None
            elif self.away_ns is None:
                self.away_ns = now_ns
            elif now_ns - self.away_ns >= CLEAR_NS:
                self.since_ns, self.away_ns, self.stands = None, None, False


class Judge:
    """The verdict on one camera; told of looks, kept pictures and trouble, asked for what stands."""

    def __init__(self, settings: HealthSettings, fps: float, now_ns: int, sharpness: float = 0.0) -> None:
        """Take what the camera is asked to give, and its usual sharpness where it is known already."""
        self._settings = settings
        self._fps = fps
        self._log_sharpness = math.log(sharpness) if sharpness > 0 else 0.0
        self._looks = LEARN_LOOKS if sharpness > 0 else 0
        self._last_ns = now_ns  # of the last picture that came
        self._kept: deque[tuple[int, int]] = deque()  # when, how many pictures were kept so far
        self._lasting: dict[Trouble, _Lasting] = {
            "frozen": _Lasting(_ns(settings.frozen_s)),
            "blind": _Lasting(_ns(settings.blind_s)),
            "blurred": _Lasting(_ns(settings.blurred_s)),
            "slow": _Lasting(0),  # the rate is a mean over slow_s already
        }
        self._values: dict[Trouble, tuple[float, str]] = {}
        self._told: dict[Trouble, Problem] = {}  # by others: lost, disk, keys

    @property
    def sharpness(self) -> float:
        """Return this camera's usual sharpness, 0 while it is being learned."""
        return math.exp(self._log_sharpness) if self._looks >= LEARN_LOOKS else 0.0

    def came(self, t_ns: int) -> None:
        """Note that a picture came."""
        self._last_ns = t_ns
        self._told.pop("lost", None)

    def rested(self, now_ns: int) -> None:
        """Note that nothing was asked of the camera until now."""
        self._last_ns = now_ns
        self._told.clear()
        self._forget()

    def tell(self, trouble: Trouble, now_ns: int, value: float, detail: str) -> None:
        """Note a trouble that somebody else found; it stands until `well`."""
        before = self._told.get(trouble)
        self._told[trouble] = Problem(before.since_ns if before else now_ns, value, detail)

    def well(self, trouble: Trouble) -> None:
        """Note that a trouble is over."""
        self._told.pop(trouble, None)

    def looked(self, look: Look) -> None:
        """Judge a look."""
        s = self._settings
        blind = look.contrast < s.blind_levels
        kind = "dark" if look.brightness < 40 else "covered"  # words only; 16 is black, an unlit road is 25
        self._seen("blind", look.t_ns, blind, look.contrast, f"nothing to see: {kind}, contrast {look.contrast:.1f}")
        # black pictures may well repeat
        frozen = look.changed is not None and look.changed < s.frozen_share and not blind
        self._seen("frozen", look.t_ns, frozen, look.changed or 0.0, "gives the same picture again and again")
        self._sharp(look, blind)

    def rate(self, now_ns: int, kept: int) -> float:
        """Take how many pictures were kept so far; return how many a second, 0 while there is too little."""
        span_ns = _ns(self._settings.slow_s)
        self._kept.append((now_ns, kept))
        while len(self._kept) > 2 and self._kept[1][0] <= now_ns - span_ns:
            self._kept.popleft()
        since_ns, before = self._kept[0]
        if now_ns - since_ns < span_ns:
            return 0.0
        fps = (kept - before) * NS_PER_S / (now_ns - since_ns)
        slow = fps < self._settings.slow_share * self._fps and "lost" not in self._told
        self._seen("slow", now_ns, slow, fps, f"gives {fps:.1f} of {self._fps:g} pictures a second")
        return fps

    def problems(self, now_ns: int, reason: str) -> dict[Trouble, Problem]:
        """Return what stands; `reason` says why the camera is away, where its driver says so."""
        silent_s = (now_ns - self._last_ns) / NS_PER_S
        if silent_s >= self._settings.lost_s:
            self._told.setdefault("lost", Problem(self._last_ns, 0.0, reason or "gives no picture"))
            self._forget()
        found = dict(self._told)
        for name, lasting in self._lasting.items():
            if lasting.stands and lasting.since_ns is not None:
                found[name] = Problem(lasting.since_ns, *self._values[name])
        return found

    def _forget(self) -> None:
        """Begin anew with what must last: what is not seen is not judged."""
        self._kept.clear()
        for trouble in self._lasting.values():
            trouble.since_ns, trouble.away_ns, trouble.stands = None, None, False

    def _sharp(self, look: Look, blind: bool) -> None:
        """Judge sharpness, and learn it; a blind or frozen camera teaches nothing."""
        if blind:
            self._seen("blurred", look.t_ns, False, 0.0, "")
            return
        seen = math.log(max(look.sharpness, 1e-3))
        usual = self._log_sharpness
        ratio = math.exp(seen - usual) if self._looks >= LEARN_LOOKS else 1.0
        limit = self._settings.blurred_share * (REOPEN_SHARE if self._lasting["blurred"].stands else 1.0)
        self._seen("blurred", look.t_ns, ratio < limit, ratio, f"is blurred: {ratio:.0%} of its usual sharpness")
        self._looks += 1
        share = ILL_SHARE if ratio < limit else max(LEARN_SHARE, 1 / self._looks if self._looks <= LEARN_LOOKS else 0)
        self._log_sharpness += (seen - usual) * share

    def _seen(self, trouble: Trouble, now_ns: int, there: bool, value: float, detail: str) -> None:
        lasting = self._lasting[trouble]
        lasting.seen(now_ns, there)
        if there and not (lasting.stands and trouble in self._values and lasting.away_ns is None):
            self._values[trouble] = (value, detail)
        elif not lasting.stands and lasting.since_ns is None:
            self._values.pop(trouble, None)


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
