"""The live CAN driver: frames of one bus in, blocks out, by the vehicle's profile and OBD-II answers that pass by.

It only listens. Frames that nothing is decoded from are kept out by the wire's filters as soon as the profile is
known; without a named profile the first seconds of traffic choose one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.blocks import Block, Frames
from agent.clock import NS_PER_S, monotonic_ns
from agent.errors import DriverError
from agent.records import Health
from drivers.can.wire import CanSettings, Wire, make_wire
from drivers.decode.profile import IdFilter, Profile, load_profile
from drivers.facts import Facts, say_vehicle

if TYPE_CHECKING:
    from drivers.decode.decode import Decode

LISTEN_S: Final = 3.0  # before a profile is chosen: every message of a car at 1 Hz and faster has been seen
OBD_ANSWERS: Final = (IdFilter(0x7E8, 0x7F8, False), IdFilter(0x18DAF100, 0x1FFFFF00, True))  # ISO 15765-4
CALM_NS: Final = 10 * NS_PER_S  # without new losses or errors: all is well again
# Part of the bus -> the counters that tell its troubles, what to say of them, what to say when they are over
_TROUBLES: Final[dict[str, tuple[tuple[str, ...], str, str]]] = {
    "losses": (
        ("lost_in_queue", "error_fifo_overflow"),
        "frames were lost before they could be read; is the processor overloaded, or the adapter too slow?",
        "no more frames are lost",
    ),
    "errors": (
        ("error_protocol", "error_bus_error", "error_bus_off", "error_rx_passive", "error_frames"),
        "the bus has errors; check wiring, termination and bit rate",
        "no more bus errors",
    ),
    "noise": (("garbage",), "what comes is not all CAN; check the cable and the adapter", "no more garbage"),
}


class CanBus:
    """One bus; `folder` is the configuration folder with profiles and DBC files."""

    def __init__(self, settings: CanSettings, folder: Path, make: Callable[[CanSettings], Wire] = make_wire) -> None:
        self.name = f"canbus:{settings.bus_name}"
        self.settings = settings
        self.last_frame_ns: int | None = None  # monotonic; of any frame that passed the filters
        self.frames = 0
        self._folder = folder
        self._make = make
        self._wire: Wire | None = None
        self._decode: Decode | None = None
        self._buses = [settings.bus_name]
        self._facts = Facts()
        self._seen: dict[str, int] = {}
        self._since_ns: dict[str, int] = {}

    def open(self) -> None:
        """Open the wire; raise DriverError when it is in trouble, ConfigError when the profile is wrong."""
        from drivers.decode.decode import Decode

        self.close()
        if self._decode is None:
            name = self.settings.profile
            profile = load_profile(name, self._folder) if name else None
            self._decode = Decode(profile, self._folder, LISTEN_S)
        if self._wire is None:
            self._wire = self._make(self.settings)
        self._wire.open(self._filters(self._decode.profile))
        now_ns = monotonic_ns()
        rate = f" at {self._wire.bit_rate} bit/s" if self._wire.bit_rate else ""
        self._facts.say(now_ns, self.name, "ok", f"{self._wire.name} is open{rate}")
        notes = "; ".join(self._wire.notes)
        mode = "requests may be sent" if self.settings.transmit else "listens only"
        self._facts.say(now_ns, f"{self.name}:mode", "degraded" if notes else "ok", notes or mode)

    def read(self, timeout_s: float) -> Block:
        """Return the samples that have come, at the latest after `timeout_s`."""
        frames = self._receive(timeout_s)
        return self._decoded(frames)

    def close(self) -> None:
        """Close the wire; what was learned of the vehicle is kept."""
        if self._wire is not None:
            self._wire.close()

    @property
    def profile(self) -> Profile | None:
        """The profile in use: the one named, or the one that was found to fit."""
        return self._decode.profile if self._decode is not None else None

    @property
    def bit_rate(self) -> int | None:
        """Bit/s as configured or found by listening."""
        return self._wire.bit_rate if self._wire is not None else None

    @property
    def notes(self) -> list[str]:
        """What a technician should know about how the bus was opened."""
        return list(self._wire.notes) if self._wire is not None else []

    @property
    def counts(self) -> dict[str, int]:
        """What was received, lost, odd or rejected, by kind."""
        decode = self._decode.counts if self._decode is not None else {}
        wire = self._wire.counts if self._wire is not None else {}
        return {"frames": self.frames, **wire, **decode}

    def health(self) -> list[Health]:
        """The facts about the bus: how it was opened, what fits it, and whether frames are lost or errors come."""
        now_ns, counts = monotonic_ns(), self.counts
        for part, (kinds, trouble, well) in _TROUBLES.items():
            total = sum(counts.get(kind, 0) for kind in kinds)
            if total > self._seen.get(part, 0):
                self._seen[part], self._since_ns[part] = total, now_ns
                self._facts.say(now_ns, f"{self.name}:{part}", "degraded", trouble)
            elif part in self._since_ns and now_ns - self._since_ns[part] > CALM_NS:
                self._facts.say(now_ns, f"{self.name}:{part}", "ok", well)
        if self._decode is not None and self._decode.settled:
            name = self._decode.profile.title if self._decode.profile is not None else ""
            said = f"decoded as {name}" if name else "no vehicle profile fits this bus; name one with `profile`"
            self._facts.say(now_ns, f"{self.name}:profile", "ok" if name else "degraded", said)
        if self._decode is not None:
            told = self._decode.vehicle_info
            vin, valid = told.get("vin"), bool(told.get("vin_valid"))
            say_vehicle(self._facts, now_ns, self.name, vin, valid, self._decode.unit_dtcs)
        return self._facts.standing(counts)

    @property
    def vehicle_info(self) -> dict[str, Any]:
        """What control units have said of the vehicle on this bus: VIN, calibration ids, names."""
        return self._decode.vehicle_info if self._decode is not None else {}

    @property
    def dtcs(self) -> dict[str, list[str]]:
        """The trouble codes of the last answers on this bus: stored, pending, permanent."""
        return self._decode.dtcs if self._decode is not None else {}

    def _receive(self, timeout_s: float) -> Frames:
        frames = self._opened().read(timeout_s)
        n = len(frames.t)
        if n:
            self.frames += n
            self.last_frame_ns = int(frames.t[-1])
        return frames

    def _decoded(self, frames: Frames) -> Block:
        assert self._decode is not None
        chosen = self._decode.profile
        block = self._decode(frames, self._buses)
        if self._decode.profile is not chosen:
            self._opened().filter(self._filters(self._decode.profile))
        return block

    def _opened(self) -> Wire:
        if self._wire is None:
            raise DriverError(f"{self.name}: is not open")
        return self._wire

    def _filters(self, profile: Profile | None) -> list[IdFilter]:
        if profile is None:
            return []  # nothing to choose by; and that a bus falls silent is a sign that the car is off
        return [*profile.id_filters(self.settings.bus_name), *OBD_ANSWERS]
