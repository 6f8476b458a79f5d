"""How the last boot ended: with a goodbye, or in the middle of a drive because the supply was cut."""

from typing import Final

import numpy as np
from msgspec.structs import replace

from agent.blocks import Block
from agent.channels import number
from agent.clock import NS_PER_S
from agent.guard.memory import Memory
from agent.guard.standing import event
from agent.guard.tow import OUTLIVES
from agent.records import Event, Trip
from agent.store import Store

LAST_NS: Final = 10 * NS_PER_S  # of samples that are looked at
FRESH_NS: Final = 3 * NS_PER_S  # a value that is older than this before the end says nothing of it
DRIVING_MPS: Final = 2.8  # 10 km/h
TURNING_RPM: Final = 300.0
TRIP_NS: Final = 60 * NS_PER_S  # a trip that ended so shortly before is the one that was cut
SPEEDS: Final = tuple(number(n) for n in ("Vehicle.Speed", "Wheel.Speed", "Obd.Speed", "Gnss.Speed"))
TURNING: Final = tuple(number(n) for n in ("Obd.EngineSpeed", "Vehicle.Powertrain.CombustionEngine.Speed"))
IGNITION: Final = number("Power.Ignition")


def last_moments(block: Block, end_ns: int) -> tuple[float, bool]:
    """Return the speed in m/s at the end of a boot, by the middle of its sources, and whether the car was in use."""
    fresh = block[block["t"] > end_ns - FRESH_NS]

    def last(channel: int) -> float | None:
        values = fresh["value"][fresh["channel"] == channel]
        return float(values[-1]) if len(values) else None

    speeds = [v for v in map(last, SPEEDS) if v is not None]
    turning = any((last(channel) or 0.0) >= TURNING_RPM for channel in TURNING)
    speed_mps = float(np.median(speeds)) if speeds else 0.0
    return speed_mps, turning or last(IGNITION) == 1.0


def tell_cut(store: Store, boot: str, cut: str) -> Event | None:
    """State, in the boot that ended, that its supply was cut; `cut` is the boot whose agent never said goodbye.

    A box that dies with the ignition ends every drive like that, standing: only one that is known to outlive the
    engine tells of a cut while standing. Nothing is told twice.
    """
    span = store.span(boot)
    if cut != boot or span is None:
        return None
    end_ns = span[1]
    speed_mps, in_use = last_moments(store.read_block(end_ns - LAST_NS, end_ns + 1, boot), end_ns)
    driving = speed_mps >= DRIVING_MPS
    if not driving and not (in_use and Memory.of(store).facts.get(OUTLIVES)):
        return None
    if any(s.record.kind == "power_lost" and s.record.t_ns >= end_ns - LAST_NS for s in store.records(Event, boot)):
        return None
    trips = [s.record for s in store.records(Trip, boot) if s.record.end_ns >= end_ns - TRIP_NS]
    found = event(
        "power_lost",
        "severe" if driving else "moderate",
        end_ns,
        speed_mps,
        "m/s",
        sources=["start"],
        confirmed=False,  # a kernel that dies, or a watchdog that resets the board, looks the same
        speed_mps=speed_mps,
    )
    if trips:
        last = trips[-1]
        found = replace(found, trip_t_ns=last.start_ns, latitude=last.end_latitude, longitude=last.end_longitude)
    store.begin_boot(boot)
    store.append([(end_ns, found)])
    return found
