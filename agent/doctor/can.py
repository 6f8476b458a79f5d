"""Each CAN bus: its interface, what is on it, errors and losses, and whether a vehicle profile fits."""

import subprocess
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from agent.config import config_dir
from agent.doctor import canwire
from agent.doctor.canwire import Heard, cause_of, load_words
from agent.doctor.finding import Facts, Finding, ill, well
from agent.doctor.seen import Seen
from agent.errors import ConfigError, DriverError
from agent.local.messages import Device
from drivers import Driver
from drivers.can.link import Link, link_of
from drivers.can.slcan import LIKELY
from drivers.can.wire import CanSettings
from drivers.canbus import CanBus
from drivers.decode.profile import IDENTIFY_SHARE, identify, load_profile
from drivers.sysfs import try_number

WARNING: Final = 96  # ISO 11898-1: from here on a controller is error-warning, from 128 error-passive
BUSY_SHARE: Final = 0.9  # of a bus: frames of low priority wait for ever
LOST: Final = ("lost_in_queue", "error_fifo_overflow")
ERRORS: Final = ("error_protocol", "error_bus_error", "error_bus_off", "error_rx_passive", "error_frames")
STATISTICS: Final = ("rx_over_errors", "rx_fifo_errors", "rx_missed_errors")  # frames that the controller lost
IP_S: Final = 5.0


def devices(seen: Seen) -> list[Callable[[Seen], Iterator[Finding]]]:
    """Return what judges each configured bus."""
    return [partial(_bus, driver) for driver in seen.drivers("canbus", "obdcan")]


def _bus(driver: Driver, seen: Seen) -> Iterator[Finding]:
    assert isinstance(driver, CanBus)
    settings, name = driver.settings, driver.name
    link = None
    if settings.interface == "socketcan":
        link = link_of(settings.channel)
        usable = yield from _interface(settings, name, link)
        if not usable:
            return
        yield from _lost(seen, settings, name)
    if seen.held:
        yield from _of_daemon(seen, name, settings, link)
        return
    try:
        heard = canwire.listen(settings, seen)
    except DriverError as error:
        code = cause_of(str(error))
        if code == "can_silent" and settings.interface == "slcan":
            yield from _silent(seen, settings, name)
            return
        yield ill("fail", "can.bus", code, str(error), device=name, interface=settings.channel)
        return
    except ConfigError as error:
        yield ill("fail", "can.bus", "config_wrong", str(error), device=name, file=str(seen.config))
        return
    if not heard.frames:
        yield from _silent(seen, settings, name)
        return
    yield from _traffic(heard, name)
    yield from _fits(heard, settings, name)


# the interface


def _interface(settings: CanSettings, name: str, link: Link | None) -> Generator[Finding, None, bool]:
    """Judge what the kernel says of it; return whether it is worth listening."""
    told: Facts = {
        "interface": settings.channel,
        "bit_rate": (link.bit_rate if link else 0) or settings.bit_rate or 500_000,
    }
    if link is None:
        text = f"there is no interface {settings.channel}"
        yield ill("fail", "can.interface", "can_missing", text, device=name, **told)
        return False
    if link.lacks_bit_rate:
        yield ill("fail", "can.interface", "can_no_bit_rate", "no bit rate is set", device=name, **told)
        return False
    if not link.up:
        yield ill("fail", "can.interface", "can_down", f"{settings.channel} is down", device=name, **told)
        return False
    if link.state == "bus-off":
        yield ill("fail", "can.interface", "can_bus_off", "bus-off", device=name, **told)
        return False
    mode = {True: "listens only", False: "acknowledges", None: "mode not told"}[link.listen_only]
    text = f"{settings.channel} up" + (f", {link.bit_rate} bit/s" if link.bit_rate else "") + f", {mode}"
    if link.listen_only is False and not settings.transmit:
        yield ill("warn", "can.interface", "can_not_listen_only", text, device=name, **told)
    elif link.listen_only and settings.transmit:
        yield ill("fail", "can.interface", "can_cannot_ask", text, device=name, **told)
    else:
        yield well("can.interface", text, device=name, **told)
    counters = [n for n in (link.sent_errors, link.received_errors) if n is not None]
    happened = {what: n for what, n in link.happened.items() if n and what != "arbitration_lost"}
    facts: Facts = {"sent": link.sent_errors, "received": link.received_errors, **happened}
    words = ", ".join(f"{what.replace('_', ' ')} {n}" for what, n in happened.items())
    if max(counters, default=0) >= WARNING or link.state in ("error-warning", "error-passive"):
        text = ", ".join(part for part in (link.state, words) if part)
        yield ill("fail", "can.errors", "can_errors", text, device=name, **facts)
    elif happened.get("bus_off") or happened.get("error_passive"):
        yield ill("warn", "can.errors", "can_errors_seen", words, device=name, **facts)
    elif counters or link.happened:
        yield well("can.errors", words or "none", device=name, **facts)
    return True


def _lost(seen: Seen, settings: CanSettings, name: str) -> Iterator[Finding]:
    """Look for frames that the controller or its driver lost before anybody could read them."""
    folder = seen.context.sysfs / "class" / "net" / settings.channel / "statistics"
    lost = round(sum(try_number(folder / file) or 0.0 for file in STATISTICS))
    if lost:
        text = f"the controller lost {lost} frames since it came up"
        yield ill("warn", "can.lost", "can_overflow", text, device=name, frames=lost)


# what the daemon knows


def _of_daemon(seen: Seen, name: str, settings: CanSettings, link: Link | None) -> Iterator[Finding]:
    device = seen.device(name)
    trouble = without(seen, device, name, "can.bus")
    if trouble is not None:
        yield trouble
        return
    assert device is not None
    if device.state == "lost":
        yield ill("fail", "can.bus", cause_of(device.error), device.error, device=name, interface=settings.channel)
        return
    both = seen.two(name)
    if both is None:
        yield ill("unknown", "can.bus", "agent_not_asked", "the agent did not answer again", device=name)
        return
    first, second, seconds = both

    def grown(*what: str) -> int:
        return sum(second.counts.get(w, 0) - first.counts.get(w, 0) for w in what)

    frames = grown("frames")
    if frames <= 0:
        text = f"no frame in {seconds:.0f} s"
        yield ill("fail", "can.bus", "can_silent", text, device=name, interface=settings.channel)
        return
    yield well("can.bus", f"{frames / seconds:.0f} frames a second are used", device=name, frames_s=frames / seconds)
    yield from _odd(grown(*LOST), grown(*ERRORS), grown("garbage"), name)
    fits = device.healths.get(f"{name}:profile")
    if fits == "degraded":
        yield ill("warn", "can.profile", "can_no_profile", "no vehicle profile fits", device=name)
    elif second.samples > first.samples:
        yield well("can.profile", settings.profile or "the car's own signals are read", device=name)
    if device.healths.get(f"{name}:vehicle") == "lost":
        yield ill("fail", "can.vehicle", "can_vehicle_silent", "no control unit answers", device=name)


def without(seen: Seen, device: Device | None, name: str, check: str) -> Finding | None:
    """Return why a device that the daemon holds cannot be judged, None where it can."""
    if seen.status is None:
        return ill("unknown", check, "agent_not_asked", "the agent holds it and cannot be asked", device=name)
    if device is None:
        return ill("unknown", check, "device_not_read", "the running agent does not read it", device=name)
    if device.state == "barred":
        return ill("fail", check, "device_hangs", device.error or "it hangs", device=name)
    if device.state == "lent":
        return ill("unknown", check, "device_lent", "lent to another program", device=name)
    if device.state == "resting":
        return ill("unknown", check, "device_rests", "left alone while the car is parked", device=name)
    if device.state == "opening":
        return ill("unknown", check, "device_opening", "is being opened", device=name)
    return None


# what is on the wire


def _traffic(heard: Heard, name: str) -> Iterator[Finding]:
    facts: Facts = {"frames_s": round(heard.frames / heard.seconds, 1), "ids": len(heard.ids)}
    rate = heard.bit_rate
    load = heard.bits / heard.seconds / rate if rate else None
    text = load_words(heard, load)
    if load is not None and load > BUSY_SHARE:
        yield ill("warn", "can.bus", "can_busy", text, device=name, load=round(load, 3), **facts)
    else:
        yield well("can.bus", text, device=name, load=None if load is None else round(load, 3), **facts)
    counts = heard.counts
    lost, errors = (sum(counts.get(what, 0) for what in kinds) for kinds in (LOST, ERRORS))
    yield from _odd(lost, errors, counts.get("garbage", 0), name)


def _odd(lost: int, errors: int, garbage: int, name: str) -> Iterator[Finding]:
    if lost:
        yield ill("warn", "can.lost", "can_lost", f"{lost} frames were lost", device=name, frames=lost)
    if errors:
        yield ill(
            "fail", "can.errors", "can_errors", f"{errors} bus errors while listening", device=name, errors=errors
        )
    if garbage:
        yield ill("warn", "can.noise", "can_noise", f"{garbage} lines were no frame", device=name, lines=garbage)


def _fits(heard: Heard, settings: CanSettings, name: str) -> Iterator[Finding]:
    """Say which profile fits the ids that were heard, and whether it is the one that is configured."""
    seen_ids = {(settings.bus_name, i) for i in heard.ids}
    ranked = identify(seen_ids, config_dir())
    best, share = (ranked[0][0].name, ranked[0][1]) if ranked else ("", 0.0)
    facts: Facts = {"profile": settings.profile or best, "best": best, "share": round(share, 3)}
    if settings.profile:
        own = load_profile(settings.profile, config_dir())
        mine = next((s for profile, s in ranked if profile.name == own.name), 0.0)
        if mine < IDENTIFY_SHARE:
            text = f"{mine:.0%} of what {own.name} wants is on this bus"
            yield ill("fail", "can.profile", "can_profile_wrong", text, device=name, **facts)
            return
        yield well("can.profile", f"{own.title}: {mine:.0%} of its messages", device=name, **facts)
    elif share < IDENTIFY_SHARE:
        text = f"none fits {len(heard.ids)} identifiers" + (f"; {best} has {share:.0%}" if best else "")
        yield ill("warn", "can.profile", "can_no_profile", text, device=name, **facts)
    else:
        yield well("can.profile", f"{ranked[0][0].title}: {share:.0%} of its messages", device=name, **facts)


def _silent(seen: Seen, settings: CanSettings, name: str) -> Iterator[Finding]:
    """Nothing came: find out whether another bit rate would have been right."""
    told: Facts = {"interface": settings.channel, "configured": settings.bit_rate}
    found: int | None = None
    if settings.interface == "slcan" and settings.bit_rate:
        found = _heard_at(replace(settings, bit_rate=0, transmit=False), seen)
    elif settings.interface == "socketcan" and seen.context.bit_rates:
        found = _tried(settings, seen)
    if found is not None and found != settings.bit_rate:
        text = f"silent as configured, and it speaks {found} bit/s"
        yield ill("fail", "can.bus", "can_bit_rate_wrong", text, device=name, bit_rate=found, **told)
    else:
        yield ill("fail", "can.bus", "can_silent", "no frame while listening", device=name, **told)


def _heard_at(settings: CanSettings, seen: Seen) -> int | None:
    try:
        return canwire.listen(settings, seen, seconds=0.0).bit_rate
    except DriverError:
        return None


def _tried(settings: CanSettings, seen: Seen) -> int | None:
    """Set one likely bit rate after the other, never acknowledging; leave the interface as it was."""
    before = link_of(settings.channel)
    found = None
    for rate in LIKELY:
        if seen.left_s() < 2.0 or not _set(settings.channel, rate):
            break
        heard = canwire.listen(settings, seen, seconds=0.6)
        if heard.frames >= 3 and not any(heard.counts.get(kind, 0) for kind in ERRORS):
            found = rate
            break
    if before is not None and before.bit_rate:
        _set(settings.channel, before.bit_rate, before.listen_only is not False)
    return found


def _set(interface: str, rate: int, listen_only: bool = True) -> bool:
    mode = "on" if listen_only else "off"
    steps = (
        ("link", "set", interface, "down"),
        ("link", "set", interface, "type", "can", "bitrate", str(rate), "listen-only", mode),
        ("link", "set", interface, "up"),
    )
    try:
        return all(
            subprocess.run(("ip", *step), capture_output=True, timeout=IP_S, check=False).returncode == 0
            for step in steps
        )
    except (OSError, subprocess.SubprocessError):
        return False
