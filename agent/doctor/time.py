"""Does the box know what time it is, how well, and does it have a clock of its own?"""

from collections.abc import Generator, Iterator
from typing import Final

from agent import clock
from agent.clock import EARLIEST_NS, NS_PER_S, iso_utc
from agent.doctor.finding import Finding, ill, well
from agent.doctor.seen import Seen
from agent.local.messages import Utc
from drivers.sysfs import try_number

KNOWN: Final = ("gnss", "ntp")
OFF_NS: Final = 5 * NS_PER_S  # TLS and MQTT bear it; people notice a minute
RTC_OFF_NS: Final = 120 * NS_PER_S  # a cheap quartz drifts by a second a day


def examine(seen: Seen) -> Iterator[Finding]:
    """Judge the boot's time, the system clock against it, and the clock chip."""
    utc = seen.status.utc if seen.status is not None else None
    known = yield from _quality(seen, utc)
    yield from _system(seen, utc)
    yield from _chip(seen, known)


def _quality(seen: Seen, utc: Utc | None) -> Generator[Finding, None, bool]:
    if utc is None:
        error_ns = seen.context.kernel_error_ns()
        if error_ns is not None:
            yield well("clock.time", f"by NTP, good to {_error(error_ns)}", quality="ntp")
            return True
        text = "the agent does not run, and the network has not set the clock"
        yield ill("unknown", "clock.time", "clock_not_asked", text, quality="none")
        return False
    if utc.quality in KNOWN:
        source = "satellites" if utc.quality == "gnss" else "NTP"
        text = f"by {source}, good to {_error(utc.uncertainty_ns or 0)}"
        yield well("clock.time", text, quality=utc.quality)
        return True
    if utc.quality == "restored":
        yield ill("warn", "clock.time", "clock_restored", "a saved time, not sure", quality="restored")
    else:
        yield ill("fail", "clock.time", "clock_unknown", "not known at all", quality="none")
    return False


def _error(ns: int) -> str:
    return f"{ns / 1e6:.0f} ms" if ns < NS_PER_S else f"{ns / NS_PER_S:.0f} s"


def _system(seen: Seen, utc: Utc | None) -> Iterator[Finding]:
    """Judge this machine's clock: certificates are judged by it, whatever satellites say."""
    wall_ns = seen.context.wall_ns()
    shown = iso_utc(wall_ns)[:16].replace("T", " ") + " UTC"
    if wall_ns < EARLIEST_NS:
        yield ill("fail", "clock.system", "clock_in_the_past", shown, utc=shown)
    elif utc is not None and utc.quality in KNOWN and utc.offset_ns is not None:
        off_ns = wall_ns - (clock.monotonic_ns() + utc.offset_ns)
        if abs(off_ns) > OFF_NS:
            off = f"{abs(off_ns) / NS_PER_S:.0f} s {'fast' if off_ns > 0 else 'slow'}"
            yield ill("warn", "clock.system", "clock_off", f"{shown}, {off}", utc=shown, off=off)
        else:
            yield well("clock.system", f"{shown}, right", utc=shown)
    elif seen.context.kernel_error_ns() is None:
        yield ill("unknown", "clock.system", "clock_not_set", f"{shown}, nobody vouches for it", utc=shown)
    else:
        yield well("clock.system", f"{shown}, set by the network", utc=shown)


def _chip(seen: Seen, known: bool) -> Iterator[Finding]:
    """Judge the clock chip; a box without one is well while something else tells the time."""
    chips = sorted((seen.context.sysfs / "class" / "rtc").glob("rtc*/"))
    seconds = next((s for chip in chips if (s := try_number(chip / "since_epoch")) is not None), None)
    if seconds is None:
        if known:
            yield well("clock.chip", "none: the time comes from outside at every start", present=False)
        else:
            yield ill("warn", "clock.chip", "no_rtc", "none, and no other time yet", present=False)
        return
    off_ns = round(seconds * NS_PER_S) - seen.context.wall_ns()
    if known and abs(off_ns) > RTC_OFF_NS:
        text = f"{abs(off_ns) / NS_PER_S:.0f} s off"
        yield ill("warn", "clock.chip", "rtc_off", text, present=True, off_s=round(off_ns / NS_PER_S))
    else:
        yield well("clock.chip", "there", present=True)
