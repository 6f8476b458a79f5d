"""What the rules about box and car may be told; every figure with its reason (docs/sources.md, H1)."""

from dataclasses import dataclass, field
from itertools import pairwise

from agent.vin import vin_valid


@dataclass(frozen=True, slots=True)
class VehicleSettings:
    """The car that the box belongs to."""

    vin: str = ""  # as in its papers; "" takes the first that the car tells

    def __post_init__(self) -> None:
        """Refuse what is no VIN."""
        if self.vin and not vin_valid(self.vin):
            raise ValueError(
                "vin must have 17 letters and digits without I, O, Q, and a right check digit, or be empty"
            )


@dataclass(frozen=True, slots=True)
class SupplySettings:
    """The car's battery, at rest or not; voltages of a 12 V battery, twice as much in a 24 V system."""

    minor_v: float = 12.2  # half of the charge is left, where [power] lets go of the battery
    moderate_v: float = 12.0  # a quarter; with the engine running only from here on
    severe_v: float = 11.8  # next to nothing: openpilot switches itself off
    release_v: float = 12.4  # three quarters: it was charged
    hold_s: float = 180.0  # AutoPi; cranking takes seconds
    calm_s: float = 600.0  # above release_v for so long: the next time is another one
    charging_v: float = 13.2  # nothing but a running engine or a charger holds so much
    vanished_v: float = 5.0  # below what any cranking battery has: the supply is gone …
    vanished_s: float = 5.0  # … for so long; a plug that bounces is back by then

    def __post_init__(self) -> None:
        """Refuse levels out of order."""
        levels = (self.vanished_v, self.severe_v, self.moderate_v, self.minor_v, self.release_v, self.charging_v)
        if not all(a < b for a, b in pairwise(levels)) or levels[0] <= 0:
            raise ValueError("vanished_v < severe_v < moderate_v < minor_v < release_v < charging_v must hold")
        if min(self.hold_s, self.calm_s, self.vanished_s) <= 0:
            raise ValueError("hold_s, calm_s and vanished_s must be above 0")


@dataclass(frozen=True, slots=True)
class SkySettings:
    """Satellites lost or disturbed; counted only while driving, because a garage looks the same."""

    lost_m: float = 30_000.0  # driven without any satellite: the longest road tunnel has 24.5 km (Lærdal)
    jam_m: float = 2_000.0  # driven with all satellites weak; a roof or a bridge is shorter …
    jam_s: float = 120.0  # … and for so long, in a queue

    def __post_init__(self) -> None:
        """Refuse distances that cannot be driven."""
        if min(self.lost_m, self.jam_m, self.jam_s) <= 0:
            raise ValueError("lost_m, jam_m and jam_s must be above 0")


@dataclass(frozen=True, slots=True)
class TowSettings:
    """A parked car with its engine off that is moved or lifted."""

    settle_s: float = 180.0  # engine off for so long before it counts as parked: people leave, doors slam
    moved_m: float = 200.0  # from where it was parked; Traccar's distance, beyond the drift of a receiver in a garage
    moved_mps: float = 2.0  # and fast: drift is slower, a conveyor in a car wash too …
    moved_s: float = 20.0  # … for so long
    tilt_deg: float = 5.0  # a tow truck lifts an axle by some 9°, a jack a corner by some 3°
    tilt_s: float = 60.0  # a ferry rolls to and fro within seconds

    def __post_init__(self) -> None:
        """Refuse limits that anything would reach."""
        if not 1.0 <= self.tilt_deg <= 30.0:
            raise ValueError("tilt_deg must lie within 1 and 30")
        if min(self.settle_s, self.moved_m, self.moved_mps, self.moved_s, self.tilt_s) <= 0:
            raise ValueError("settle_s, moved_m, moved_mps, moved_s and tilt_s must be above 0")


@dataclass(frozen=True, slots=True)
class BoxSettings:
    """The box itself: heat, room, time."""

    minor_c: float = 80.0  # a Raspberry Pi begins to slow down
    moderate_c: float = 85.0  # and slows down as far as it can
    severe_c: float = 96.0  # openpilot's second band
    release_c: float = 75.0  # openpilot's first band ends here
    hot_s: float = 60.0
    calm_s: float = 300.0
    minor_share: float = 0.90  # of the room for the store that is used
    moderate_share: float = 0.95
    severe_share: float = 0.98
    release_share: float = 0.85
    # A disk with more than this free is not full, whatever its share: half of what the dashcam leaves (min_free_bytes).
    least_free_bytes: int = 536_870_912
    clock_s: float = 1200.0  # driven without learning the time; a receiver's cold start takes 12.5 min at most

    def __post_init__(self) -> None:
        """Refuse levels out of order."""
        if not self.release_c < self.minor_c < self.moderate_c < self.severe_c:
            raise ValueError("release_c < minor_c < moderate_c < severe_c must hold")
        if not 0 < self.release_share < self.minor_share < self.moderate_share < self.severe_share <= 1:
            raise ValueError("0 < release_share < minor_share < moderate_share < severe_share <= 1 must hold")
        if min(self.hot_s, self.calm_s, self.clock_s) <= 0 or self.least_free_bytes < 0:
            raise ValueError("hot_s, calm_s and clock_s must be above 0, least_free_bytes 0 or more")


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """All rules about box and car."""

    supply: SupplySettings = field(default_factory=SupplySettings)
    sky: SkySettings = field(default_factory=SkySettings)
    tow: TowSettings = field(default_factory=TowSettings)
    box: BoxSettings = field(default_factory=BoxSettings)
