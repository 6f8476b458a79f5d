"""The live CAN driver: frames of one bus in, blocks out, by the vehicle's profile and OBD-II answers that pass by.

It only listens. Frames that nothing is decoded from are kept out by the wire's filters as soon as the profile is
known; without a named profile the first seconds of traffic choose one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.blocks import Block, Frames
from agent.errors import DriverError
from drivers.can.wire import CanSettings, Wire, make_wire
from drivers.decode.profile import IdFilter, Profile, load_profile

if TYPE_CHECKING:
    from drivers.decode.decode import Decode

LISTEN_S: Final = 3.0  # before a profile is chosen: every message of a car at 1 Hz and faster has been seen
OBD_ANSWERS: Final = (IdFilter(0x7E8, 0x7F8, False), IdFilter(0x18DAF100, 0x1FFFFF00, True))  # ISO 15765-4


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
            return []
        return [*profile.id_filters(self.settings.bus_name), *OBD_ANSWERS]
