"""What a box knows of the time when it judges a certificate."""

from pathlib import Path

from agent import clock
from agent.clock import EARLIEST_NS
from agent.errors import StoreError
from agent.store import Store
from agent.timekeeping import SAVED_FILE
from agent.tls import Moment


def of_machine(store: Path) -> Moment:
    """Return the machine's clock where NTP keeps it right; else the latest of it and the time that was saved last."""
    wall_ns = clock.wall_ns()
    if clock.kernel_error_ns() is not None and wall_ns >= EARLIEST_NS:
        return Moment(wall_ns, True)
    try:
        saved_ns = int((store / SAVED_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        saved_ns = 0
    return Moment(max(wall_ns, saved_ns, EARLIEST_NS))


def of_boot(store: Store, boot: str) -> Moment:
    """Return what the daemon knows in a boot: by satellites or NTP for sure, else what it restored is a bound, and
    without that the machine's clock, which is no time (decision 0339) but behind rather than ahead.
    """
    try:
        utc = store.utc_of(boot, clock.monotonic_ns())
    except StoreError:  # it is being closed, or its disk fails: sync will tell
        utc = None
    if utc is None:
        return Moment(max(clock.wall_ns(), EARLIEST_NS))
    return Moment(max(utc.utc_ns, EARLIEST_NS), utc.quality in ("gnss", "ntp"))
