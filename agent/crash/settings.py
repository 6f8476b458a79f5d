"""What the crash detector judges by: thresholds with their units; sources in docs/sources.md, C1-C7."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CrashSettings:
    """Thresholds; velocity changes in km/h as the rules write them, accelerations in g (9.80665 m/s²)."""

    # what a collision is: 49 CFR 563.5, UN R160 and GB 39732-2020 4.1.1-4.1.3 share these numbers
    trigger_kmh: float = 8.0  # velocity change within `trigger_ms`, horizontal resultant
    trigger_ms: float = 150.0
    lock_kmh: float = 25.0  # within `trigger_ms`: GB 39732-2020 4.1.2
    onset_kmh: float = 0.8  # time zero, and end of event when it falls below
    onset_longitudinal_ms: float = 20.0
    onset_lateral_ms: float = 5.0
    measure_ms: float = 300.0  # maxima are looked for this long after time zero: 49 CFR 563.7 table I
    chain_s: float = 5.0  # collisions that begin at most so far apart belong together: multi-event, 563.5
    # before and after
    gate_kmh: float = 5.0  # a moving vehicle: above walking pace and above what GNSS says at rest
    gate_s: float = 10.0
    complete_s: float = 6.0  # the second record follows this long after time zero, when the speed after is known
    # a bump: mean over `onset_longitudinal_ms`, so that a short blow of the same impulse counts as well
    bump_g: float = 1.5  # minor from here (Geotab 1.5 g)
    bump_moderate_g: float = 2.5  # Geotab "major"
    bump_severe_g: float = 4.0  # Teltonika "severe crash"
    bump_merge_s: float = 3.0
    parked_g: float = 0.8  # minor from here while the ignition is off: above the hardest door that is slammed (0.65 g)
    bumps_per_hour: int = 60  # more are counted, not kept
    # rollover
    rollover_deg: float = 60.0  # from upright (Digital Matter), held for `rollover_hold_s`
    rollover_hold_s: float = 1.0
    tilt_deg: float = 30.0  # JT/T 808 parameter 0x005E: where time zero of a rollover is set
    # what happens to the box alone
    handled_degps: float = 100.0  # tilting faster: a car that keeps its wheels on the ground does not
    handled_deg: float = 25.0  # tilted by more after the blow while the car stands: the box was turned, not the car
    fall_ms: float = 60.0  # weightless for longer just before: 18 mm of free fall
    knock_ms: float = 10.0  # a velocity change that is over sooner is the box's: no car body is that stiff
    persist_s: float = 0.6  # a standing car's blow is judged after this: a hand must swing back within an arm's length
    # without an accelerometer
    suspect_g: float = 1.3  # mean deceleration that no tyre gives
    suspect_kmh: float = 20.0  # speed lost at least
    suspect_hold_s: float = 3.0  # then standing for so long

    def __post_init__(self) -> None:
        """Refuse what cannot be a threshold."""
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"crash.{name} must be above 0")
        if self.parked_g > self.bump_g:
            raise ValueError("crash: parked_g above bump_g: a parked car would be deafer than one on the road")
        if self.lock_kmh < self.trigger_kmh or self.rollover_deg < self.tilt_deg:
            raise ValueError("crash: lock_kmh below trigger_kmh, or rollover_deg below tilt_deg")
