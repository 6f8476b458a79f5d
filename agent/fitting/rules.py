"""What the acceptance drive asks for; every figure with its reason (docs/sources.md, Fitting)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DriveRules:
    """Limits of the acceptance drive: seconds, m/s and degrees."""

    seconds: float = 600.0  # of the drive; it ends before where every check has passed
    mount_s: float = 900.0  # most for learning how the box sits, before the drive
    close_s: float = 420.0  # most, after the drive, for the trip to close and the receiver to have it: 180 s engine off
    confidence: float = 0.5  # of the learned mount: fusion.use_confidence, from which the motion sensor counts
    moving_mps: float = 3.0  # above: under way (10 km/h)
    still_mps: float = 0.5  # below: standing, as in [trips]
    stop_s: float = 3.0  # a stop lasts so long, as in [trips]
    agree_s: float = 20.0  # under way with two sources that agree on the speed; half as long on one is a chance
    fix_s: float = 10.0  # with a three-dimensional fix
    fresh_s: float = 3.0  # a value that is older is none; fixes may lack for 3 s (fusion.gnss_fresh_s)
    rate_share: float = 0.8  # of the configured rate of the motion sensor, as for cameras ([health] slow_share)
    turn_deg: float = 60.0  # a corner of a street, not a bend
    turn_s: float = 20.0  # in which it is driven
    charging_v: float = 13.2  # of a 12 V system: nothing but a running engine or a charger holds so much ([power])

    def __post_init__(self) -> None:
        """Refuse what cannot be driven."""
        if min(self.seconds, self.mount_s) <= 0 or self.close_s < 0:
            raise ValueError("seconds and mount_s must be above 0, close_s must not be below 0")
        if not 0 < self.confidence <= 1 or not 0 < self.still_mps < self.moving_mps:
            raise ValueError("confidence must be in 0..1, and still_mps below moving_mps")


@dataclass(frozen=True, slots=True)
class Expected:
    """What this car has, by its configuration: what is not there is not asked for, and the sheet says so."""

    speeds: int = 2  # devices that tell a speed
    gnss: bool = True
    imu_hz: float = 100.0  # rate of the motion sensor as configured; 0: there is none
    mount: bool = True  # False: learning how the box sits was left out
    cameras: tuple[str, ...] = ()
    supply: bool = False  # something tells the supply voltage
    broker: bool = True
