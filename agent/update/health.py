"""Is a version as good as the one before? Asked of the agent itself, over its local socket."""

from agent.local.messages import Status
from agent.update.state import Baseline

_SERVED = ("open", "resting", "lent")  # a device of a parked car rests; a technician may have borrowed one
_REACHED = "sending"  # the phase of sync in which the receiver has answered


def baseline(status: Status | None) -> Baseline:
    """Return what works now; of an agent that does not answer nothing is expected."""
    if status is None:
        return Baseline()
    devices = [device.name for device in status.devices if device.state in _SERVED]
    return Baseline(devices=sorted(devices), connected=_connected(status))


def _connected(status: Status) -> bool:
    return status.sync is not None and not status.sync.trouble and status.sync.phase == _REACHED


def ailment(status: Status | None, version: str, before: Baseline) -> str:
    """Return what is wrong with `version`, one phrase; "" where it is healthy."""
    if status is None:
        return "the agent does not answer"
    if status.version != version:
        return f"version {status.version} answers"
    if status.level != "normal":
        return f"the agent holds back after crashes: {status.level_reason}"
    if status.store is None or (status.store.read_only and not status.recording):
        return "the store cannot be written"
    served = {device.name for device in status.devices if device.state in _SERVED}
    lost = [name for name in before.devices if name not in served]
    if lost:
        return f"{', '.join(lost)} worked before and does not now"
    parked = status.power is not None and not status.power.running
    if before.connected and not _connected(status) and not parked:
        return "the receiver is not reached, and was before"
    return ""


def hindrance(status: Status | None) -> str:
    """Return why nothing may be installed now, one phrase; "" where it may.

    An agent that does not answer hinders nothing: it records nothing either, and an update may be what mends it.
    """
    if status is None:
        return ""
    if status.crash:
        return "a crash is being recorded"
    if status.trip or (status.power is not None and (status.power.running or status.power.moving)):
        return "the car is driven"
    if status.loans:
        return f"{status.loans[0].device} is lent to a technician"
    return ""
