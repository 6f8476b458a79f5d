"""The satellite receiver, asked of gpsd beside the daemon: gpsd serves many, so nothing is opened a second time."""

import socket
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from agent import clock
from agent.clock import EARLIEST_NS, NS_PER_S, iso_utc
from agent.devices import GpsSettings
from agent.doctor.finding import Facts, Finding, ill, well
from agent.doctor.seen import Seen
from drivers.gnss.messages import FIX_2D, FIX_3D, FIX_3D_AND_DR, NO_FIX, Fix, Sky, fix_of, parse, sky_of
from drivers.gps import LONGEST_LINE, OPEN_S

LISTEN_S: Final = 2.6  # two fixes at 1 Hz
# dBHz of C/N0: a sky that is open gives 40 and more; below 30 no receiver starts, and one that tracks keeps 20-28
# (u-blox, "GNSS antennas", integration manual of the M8: 10 strongest 35-50)
WEAK_DBHZ: Final = 30.0
STRONGEST: Final = 4  # satellites that a fix needs
ANTENNA: Final = {2: ("gps_antenna_open", "not connected"), 3: ("gps_antenna_short", "short circuit")}  # gpsd TPV.ant
OFF_NS: Final = 600 * NS_PER_S  # a receiver that tells local time is off by half an hour and more


@dataclass(slots=True)
class _Told:
    """What gpsd said in a few seconds."""

    devices: list[dict[str, Any]] | None = None
    fixes: list[Fix] = field(default_factory=list)
    sky: Sky | None = None
    listed: int = 0  # satellites in view, heard or not
    antenna: int = 0
    pulses: int = 0
    error: str = ""
    bad: int = 0


def devices(seen: Seen) -> list[Callable[[Seen], Iterator[Finding]]]:
    """Return what judges each configured receiver."""
    tables = seen.settings.drivers.gps.values() if seen.settings is not None else ()
    return [partial(_receiver, receiver) for receiver in tables]


def _receiver(receiver: GpsSettings, seen: Seen) -> Iterator[Finding]:
    name = f"gps:{receiver.host}:{receiver.port}"
    try:
        told = _listen(seen, receiver.host, receiver.port, receiver.device)
    except OSError as error:
        text = f"no gpsd at {receiver.host}:{receiver.port}: {error.strerror or error}"
        yield ill("fail", "gps.receiver", "gpsd_unreachable", text, device=name)
        return
    yield from _judge(told, seen, name)


def _listen(seen: Seen, host: str, port: int, device: str) -> _Told:
    """Watch for LISTEN_S, longer where a pulse has still to come; raise OSError where gpsd is not there."""
    told, rest = _Told(), b""
    connection = socket.create_connection((host, port), timeout=min(OPEN_S, seen.left_s()))
    seen.release.append(connection.close)
    with connection:
        connection.sendall(b'?DEVICES;?WATCH={"enable":true,"json":true,"pps":true};\n')
        until_ns = clock.monotonic_ns() + round(min(LISTEN_S, seen.left_s()) * NS_PER_S)
        while (left_ns := until_ns - clock.monotonic_ns()) > 0:
            connection.settimeout(left_ns / NS_PER_S)
            try:
                received = connection.recv(LONGEST_LINE)
            except TimeoutError:
                break
            if not received:
                break
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                if line.strip():
                    _take(told, line, device)
            if told.devices == [] or told.error:
                break
    return told


def _take(told: _Told, line: bytes, device: str) -> None:
    message = parse(line)
    if message is None:
        told.bad += 1
        return
    kind = message["class"]
    if kind == "DEVICES" and isinstance(message.get("devices"), list):
        told.devices = [d for d in message["devices"] if isinstance(d, dict)]
    elif kind == "DEVICE" and message.get("activated") == 0:
        told.error = f"gpsd lost the receiver {message.get('path')}"
    elif kind == "ERROR":
        told.error = str(message.get("message"))[:200]
    elif device and message.get("device", device) != device:
        return
    elif kind == "TPV":
        told.fixes.append(fix_of(message))
        antenna = message.get("ant")
        told.antenna = antenna if isinstance(antenna, int) else told.antenna
    elif kind == "SKY":
        sky = sky_of(message)
        if sky is not None and isinstance(message.get("satellites"), list):
            told.sky, told.listed = sky, len(message["satellites"])
    elif kind == "PPS":
        told.pulses += 1


def _judge(told: _Told, seen: Seen, name: str) -> Iterator[Finding]:
    if told.devices == []:
        yield ill("fail", "gps.receiver", "gps_no_receiver", "gpsd has no receiver", device=name)
        return
    if told.error:
        yield ill("fail", "gps.receiver", "gps_lost", told.error, device=name)
        return
    if not told.fixes:
        text = f"no report in {LISTEN_S:g} s"
        yield ill("fail", "gps.receiver", "gps_silent", text, device=name)
        return
    kind = next((str(d.get("driver")) for d in told.devices or [] if d.get("driver")), "")
    path = next((str(d.get("path")) for d in told.devices or [] if d.get("path")), "")
    yield well("gps.receiver", " ".join(part for part in (kind, path) if part) or "there", device=name, driver=kind)
    code = yield from _sky(told, name)
    yield from _fix(told.fixes[-1], told, code, name)
    yield from _date(told.fixes[-1], seen, name)
    # a receiver without a fix gives no pulse; many have none, and the time is good to 0.3 s without
    pulse = "there" if told.pulses else "none: the time is good to 0.3 s"
    yield well("gps.pulse", pulse, device=name, pulses=told.pulses)


def _sky(told: _Told, name: str) -> Generator[Finding, None, str]:
    """Judge antenna and signals; return the code of what is wrong with them, "" where they are well."""
    if told.antenna in ANTENNA:
        code, words = ANTENNA[told.antenna]
        yield ill("fail", "gps.antenna", code, words, device=name)
        return code
    if told.sky is None:
        yield ill("unknown", "gps.signal", "gps_sky_unknown", "no list of satellites", device=name)
        return ""
    heard = told.sky.heard_dbhz
    strongest = heard[:STRONGEST]
    best = sum(strongest) / len(strongest) if strongest else 0.0
    text = f"{len(heard)} satellites heard" + (f", the best {best:.0f} dBHz" if heard else "")
    facts: Facts = {"heard": len(heard), "best_dbhz": round(best, 1), "used": told.sky.used}
    if not heard:
        yield ill("fail", "gps.signal", "gps_no_signal", text, device=name, **facts)
        return "gps_no_signal"
    if best < WEAK_DBHZ:
        yield ill("warn", "gps.signal", "gps_weak", text, device=name, **facts)
        return "gps_weak"
    yield well("gps.signal", text, device=name, **facts)
    return ""


def _fix(fix: Fix, told: _Told, code: str, name: str) -> Iterator[Finding]:
    used = told.sky.used if told.sky is not None else None
    by = f" by {used} satellites" if used else ""
    if fix.fix_type in (FIX_3D, FIX_3D_AND_DR):
        accuracy = f", good to {fix.accuracy_m:.0f} m" if fix.accuracy_m is not None else ""
        yield well("gps.fix", f"3-D{by}{accuracy}", device=name, used=used, accuracy_m=fix.accuracy_m)
    elif fix.fix_type == FIX_2D:
        yield ill("warn", "gps.fix", "gps_2d", f"only 2-D{by}", device=name, used=used)
    elif fix.fix_type == NO_FIX:
        # the row of what is known to be the cause is more use than that of the symptom
        state = "fail" if code in ("gps_antenna_open", "gps_antenna_short", "gps_no_signal") else "warn"
        yield ill(state, "gps.fix", code or "gps_no_fix", "no fix", device=name, used=used)  # type: ignore[arg-type]
    else:
        yield ill("warn", "gps.fix", "gps_2d", "dead reckoning or time only", device=name, used=used)


def _date(fix: Fix, seen: Seen, name: str) -> Iterator[Finding]:
    if fix.utc_ns is None:
        return
    shown = iso_utc(fix.utc_ns)[:10]
    wall_ns = seen.context.wall_ns()
    vouched = seen.context.kernel_error_ns() is not None
    if fix.utc_ns < EARLIEST_NS:
        text = f"the receiver says {shown}; the agent adds the missing weeks"
        yield ill("warn", "gps.date", "gps_wrong_date", text, device=name, date=shown)
    elif vouched and abs(fix.utc_ns - wall_ns) > OFF_NS:
        text = f"the receiver says {iso_utc(fix.utc_ns)[:16]}, the network {iso_utc(wall_ns)[:16]}"
        yield ill("warn", "gps.date", "gps_wrong_date", text, device=name, date=shown)
    else:
        yield well("gps.date", shown, device=name, date=shown)
