"""What the daemon knows of UTC beside satellites: a saved time at the start, and the kernel's clock where NTP set it.

Only offsets come from here, never a time of a sample: a wall clock that steps moves nothing.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent import clock
from agent.boottime import BootTime
from agent.clock import EARLIEST_NS, NS_PER_S
from agent.records import Clock

SAVED_FILE: Final = "last-utc"  # in the store's folder: ns since 1970, the newest time that was known for sure
SAVE_NS: Final = 600 * NS_PER_S  # a saved time is that old at most when the box starts again at once
# Where the day stands at which systemd lets a machine begin whose clock is behind it: the mtime of the first, else the
# day of its build, which Debian's packages put on their files (systemd(1), clock-epoch; decision 0339).
FLOORS: Final = (Path("/usr/lib/clock-epoch"), Path("/usr/lib/systemd/systemd"))
FLOOR_NS: Final = 600 * NS_PER_S  # from the kernel's start, at most, until systemd sets the clock


def floors_ns(files: tuple[Path, ...] = FLOORS) -> list[int]:
    """Return the times at which systemd lets a clock begin that knows nothing."""
    return [file.stat().st_mtime_ns for file in files if file.exists()]


class Timekeeper:
    """Teach `boot_time` what the machine itself knows; clocks are given, so that tests can set them."""

    def __init__(
        self,
        boot_time: BootTime,
        folder: Path,
        *,
        wall_minus_monotonic_ns: Callable[[], int] = clock.wall_minus_monotonic_ns,
        kernel_error_ns: Callable[[], int | None] = clock.kernel_error_ns,
        floors_ns: Callable[[], list[int]] = floors_ns,
    ) -> None:
        self._boot_time = boot_time
        self._path = folder / SAVED_FILE
        self._offset_ns = wall_minus_monotonic_ns
        self._error_ns = kernel_error_ns
        self._floors_ns = floors_ns
        self._save_ns = 0

    def begin(self, now_ns: int) -> Clock | None:
        """Restore a time at the start of a boot: the wall clock, unless the box was certainly alive later than that.

        A wall clock that began at systemd's floor knows nothing: that may be months or years ago.
        """
        self._save_ns = now_ns + SAVE_NS
        saved_ns, began_ns = self._saved(), self._offset_ns()
        if any(abs(began_ns - floor_ns) <= FLOOR_NS for floor_ns in self._floors_ns()):
            began_ns = -now_ns
        utc_ns = max(now_ns + began_ns, saved_ns or 0)
        if utc_ns < EARLIEST_NS:
            return None
        return self._boot_time.restore(now_ns, utc_ns - now_ns, uncertain=True)

    def look(self, now_ns: int) -> Clock | None:
        """Learn from the kernel's clock, where NTP disciplines it; call about once a second."""
        if now_ns >= self._save_ns:
            self.save(now_ns)
        error_ns = self._error_ns()
        return None if error_ns is None else self._boot_time.ntp(now_ns, self._offset_ns(), error_ns)

    def utc_ns(self, now_ns: int) -> int | None:
        """Return UTC where it is known for sure, by satellites or NTP."""
        offset_ns = self._boot_time.offset_ns
        return None if offset_ns is None or self._boot_time.quality not in ("gnss", "ntp") else now_ns + offset_ns

    def save(self, now_ns: int) -> None:
        """Keep the time for the next start; a disk that refuses costs only that."""
        self._save_ns = now_ns + SAVE_NS
        utc_ns = self.utc_ns(now_ns)
        if utc_ns is None:
            return
        partial = self._path.with_suffix(".tmp")
        try:
            partial.write_text(f"{utc_ns}\n", encoding="ascii")
            os.replace(partial, self._path)
        except OSError:
            return

    def _saved(self) -> int | None:
        try:
            saved_ns = int(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return saved_ns if saved_ns >= EARLIEST_NS else None
