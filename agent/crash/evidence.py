"""What the vehicle itself says around a collision: speed before and after, engine, place; as known at one moment."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.crash import stream as on
from agent.crash.found import Place
from agent.crash.settings import CrashSettings
from agent.crash.stream import KMH
from agent.state import STATE, State

SECOND: Final = 1_000_000_000
LOOK_NS: Final = 1_500_000_000  # rows of state come so much later than the samples (docs/decisions/0040)
ROWS_KEPT_NS: Final = 30 * SECOND
BEFORE_NS: Final = 3 * SECOND  # a speed this old is still the one before
HANDLED_BEFORE_NS: Final = SECOND
FELL_BEFORE_NS: Final = SECOND // 2
SOURCE_SILENT_NS: Final = 5 * SECOND
REVS_DRIVEN: Final = 1500.0  # rpm: an engine that still drives the car along; idling is below
STILL_MPS: Final = 0.5
PLACE_NS: Final = 10 * SECOND


class Evidence:
    """Reads the kernel's state `s` (one record) and the rows of state; never looks past the time it is asked at."""

    def __init__(self, s: Any, settings: CrashSettings) -> None:
        self._s = s
        self._settings = settings
        self._rows: State = np.empty(0, STATE)

    def add(self, rows: State) -> None:
        """Remember rows of state; old ones go by what was there before, for a block may be of any length."""
        if len(rows):
            old = self._rows
            first = int(np.searchsorted(old["t"], old["t"][-1] - ROWS_KEPT_NS)) if len(old) else 0
            self._rows = np.concatenate([old[first:], rows])

    def moving(self, t_ns: int) -> bool | None:
        """Say whether the vehicle moved in the 10 s before `t_ns`; None if no source of speed spoke."""
        since = t_ns - round(self._settings.gate_s * 1e9)
        spoke = False
        for source in range(on.SPEEDS):
            if int(self._s["speed_t"][source]) >= since:
                spoke = True
                _, v = self.speeds(source, since, t_ns)
                fast = v > self._settings.gate_kmh * KMH
                if (fast[1:] & fast[:-1]).any() or (len(v) == 1 and fast[0]):
                    return True
        return False if spoke else None

    def speeds(
        self, source: int, since_ns: int, until_ns: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return what a source said between two times."""
        count = int(self._s["speed_n"][source])
        kept = min(count, on.SPEED_RING)
        order = np.arange(count - kept, count) % on.SPEED_RING
        t, v = self._s["kept_t"][source][order], self._s["kept"][source][order]
        chosen = (t >= since_ns) & (t <= until_ns)
        return t[chosen], v[chosen]

    def before(self, t_ns: int) -> float | None:
        """Return the speed just before `t_ns`, by the best source that spoke."""
        for source in range(on.SPEEDS):
            _, v = self.speeds(source, t_ns - BEFORE_NS, t_ns)
            if len(v):
                return float(v[-1])
        return None

    def after(self, t_ns: int, until_ns: int) -> float | None:
        """Return the first speed 1 s or more after `t_ns`, by the best source that spoke."""
        for source in range(on.SPEEDS):
            _, v = self.speeds(source, t_ns + SECOND, until_ns)
            if len(v):
                return float(v[0])
        return None

    def collapsed(self, t_ns: int, delta_v_mps: float, now_ns: int) -> bool:
        """Say whether a source lost, about 1 s around `t_ns`, half of the velocity change, and 8 km/h at least."""
        for source in range(on.SPEEDS):
            _, old = self.speeds(source, t_ns - BEFORE_NS, t_ns)
            t, new = self.speeds(source, t_ns + SECOND // 5, min(now_ns, t_ns + 2 * SECOND))
            if not len(old) or not len(new):
                continue
            lost = float(old[-1]) - float(new[: max(1, int((t <= t_ns + 3 * SECOND // 2).sum()))].min())
            if lost >= max(self._settings.trigger_kmh * KMH, 0.5 * delta_v_mps):
                return True
        return False

    def stopped(self, t_ns: int, now_ns: int) -> bool:
        """Say whether a vehicle that moved before `t_ns` stands now by a source that still speaks."""
        for source in range(on.SPEEDS):
            _, v = self.speeds(source, t_ns + SECOND // 2, now_ns)
            if len(v) and now_ns - int(self._s["speed_t"][source]) <= SOURCE_SILENT_NS:
                return float(self._s["speed"][source]) <= STILL_MPS
        return False

    def pushed_away(self, t_ns: int, now_ns: int) -> bool:
        """Say whether a standing vehicle moved after `t_ns`."""
        for source in range(on.SPEEDS):
            _, v = self.speeds(source, t_ns, now_ns)
            if len(v) > 1 and float(np.sort(v)[-2]) > self._settings.gate_kmh * KMH:
                return True
        return False

    def lost_at_once(self, t_ns: int, now_ns: int) -> bool:
        """Say whether a source lost within 0.3 s what brakes cannot take (1.1 g) and 8 km/h more."""
        for source in range(on.SPEEDS):
            t_old, old = self.speeds(source, t_ns - SECOND // 4, t_ns)
            t_new, new = self.speeds(source, t_ns + SECOND // 5, min(t_ns + SECOND // 2, now_ns))
            if not len(old) or not len(new):
                continue
            braked = 1.1 * on.G * (int(t_new[0]) - int(t_old[-1])) * 1e-9
            if float(old[-1]) - float(new[0]) >= braked + self._settings.trigger_kmh * KMH:
                return True
        return False

    def speed_now(self, now_ns: int) -> float | None:
        """Return the latest speed of the best source that still speaks."""
        for source in range(on.SPEEDS):
            if now_ns - int(self._s["speed_t"][source]) <= SOURCE_SILENT_NS // 2:
                return float(self._s["speed"][source])
        return None

    def switched_off(self, now_ns: int) -> bool:
        """Say whether the ignition is known to be off: its own channel, the rows of state, or an engine that stands."""
        ignition = float(self._s["held"][on.IGNITION])
        if not np.isnan(ignition):
            return ignition < 0.5
        known = self._rows[: int(np.searchsorted(self._rows["t"], now_ns - LOOK_NS, "right"))]
        if len(known) and now_ns - int(known["t"][-1]) <= SOURCE_SILENT_NS and known["ignition"][-1] >= 0:
            return bool(known["ignition"][-1] == 0)
        s = self._s
        silent = now_ns - int(s["held_t"][on.REVS]) > SOURCE_SILENT_NS  # an engine of which nothing is known
        return not silent and now_ns - max(int(s["ran_t"]), int(s["moved_t"])) > on.PARKED_NS

    def parked(self, begin_ns: int, now_ns: int) -> bool:
        """Say whether a blow hit a parked car whose box nobody held."""
        return (
            self.moving(begin_ns) is not True
            and self.switched_off(now_ns)
            and int(self._s["handled_t"]) < begin_ns - HANDLED_BEFORE_NS
            and int(self._s["fell_t"]) < begin_ns - FELL_BEFORE_NS
        )

    def lost_speed(self, source: int, from_ns: int, to_ns: int, now_ns: int, stale: bool) -> bool:
        """Say whether the speed that `source` lost between two times was the vehicle's: it stands since then.

        Not so where another source still moves, where only wheels stand that the brakes may have locked, where the
        engine still drives, without a fix, or where a value that had not changed for long (`stale`) is all there is.
        """
        s = self._s
        _, v = self.speeds(source, to_ns + SECOND // 2, now_ns)
        if now_ns - int(s["speed_t"][source]) > SOURCE_SILENT_NS // 2 or float(s["speed"][source]) > on.SUSPECT_REST:
            return False
        if not len(v) or float(v.max()) > on.SUSPECT_REST:
            return False
        agreed = False
        for other in range(on.SPEEDS):
            _, old = self.speeds(other, from_ns - 5 * SECOND, from_ns)
            if other == source or not len(old) or old[-1] <= self._settings.gate_kmh * KMH:
                continue
            if now_ns - int(s["speed_t"][other]) > SOURCE_SILENT_NS // 2:
                continue
            if float(s["speed"][other]) > on.SUSPECT_REST:
                return False
            agreed |= (other == on.SATELLITES) != (source == on.SATELLITES)
        if self.driven(now_ns):
            return False
        fix = float(s["held"][on.FIX]) if now_ns - int(s["held_t"][on.FIX]) <= SOURCE_SILENT_NS else 3.0
        if source == on.SATELLITES and fix not in (2.0, 3.0, 4.0):
            return False
        if source != on.SATELLITES and not agreed and self.braked(from_ns - SECOND):
            return False
        return agreed or not stale

    def braked(self, since_ns: int) -> bool:
        """Say whether the brake pedal was down or the ABS at work since then: wheels may have locked."""
        return bool(self._s["held_t"][on.BRAKE] >= since_ns or self._s["held_t"][on.ANTILOCK] >= since_ns)

    def driven(self, now_ns: int) -> bool:
        """Say whether the engine still turns as if it drove the car."""
        revs_t = int(self._s["held_t"][on.REVS])
        return bool(now_ns - revs_t <= SOURCE_SILENT_NS // 2 and self._s["held"][on.REVS] > REVS_DRIVEN)

    def place(self, t_ns: int, now_ns: int) -> Place | None:
        """Return the last place before `t_ns` that is known at `now_ns`; the receiver's own where no row has one."""
        until = min(t_ns, now_ns - LOOK_NS)
        rows = self._rows[: int(np.searchsorted(self._rows["t"], until, "right"))]
        rows = rows[(rows["t"] >= t_ns - PLACE_NS) & ~np.isnan(rows["latitude"])]
        if len(rows):
            row = rows[-1]
            return Place(
                float(row["latitude"]),
                float(row["longitude"]),
                float(row["accuracy"]),
                float(row["heading"]),
                int(row["t"]),
            )
        held, at = self._s["held"], self._s["held_t"]
        if int(at[on.LATITUDE]) < t_ns - PLACE_NS:
            return None
        return Place(
            float(held[on.LATITUDE]),
            float(held[on.LONGITUDE]),
            float(held[on.ACCURACY]),
            float(held[on.HEADING]),
            int(at[on.LATITUDE]),
        )
