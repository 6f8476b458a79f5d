"""What counts as harsh, too fast, idling, over-revved or too long: every threshold, its unit and where it is from.

D1, D4 … are sections of the project's domain reference; published figures are named beside each default.
"""

from dataclasses import dataclass, field
from typing import Literal

VehicleClass = Literal["car", "van", "truck"]


@dataclass(frozen=True, slots=True)
class Levels:
    """Acceleration from which an event is minor, moderate, severe, for a car; scaled by the vehicle class."""

    minor_mps2: float
    moderate_mps2: float
    severe_mps2: float

    def __post_init__(self) -> None:
        if not 0.0 < self.minor_mps2 <= self.moderate_mps2 <= self.severe_mps2:
            raise ValueError("levels must be positive and rise from minor to moderate to severe")


@dataclass(frozen=True, slots=True)
class ClassFactors:
    """Share of the car's thresholds that applies to each vehicle class."""

    car: float = 1.0
    van: float = 0.95  # GPS Insight class 2 against class 1: 0.35/0.37 g, 0.36/0.38 g
    truck: float = 0.75  # D1; Topflytech 0.30 against 0.35 g and Samsara per-class tables point the same way


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Engine speed that is held for over-revving; just below the usual red line of the class."""

    car_rpm: float = 5500.0  # petrol red lines start at 6,000
    van_rpm: float = 4500.0  # light diesel red lines start at 4,800
    truck_rpm: float = 2600.0  # heavy diesels are governed at 2,100-2,500


@dataclass(frozen=True, slots=True)
class HarshSettings:
    """Force, duration, speed gate, hysteresis, merge and refractory time of harsh events."""

    braking: Levels = Levels(2.5, 3.0, 4.4)  # D1: Verizon normal; 7 mph/s (Progressive); Digital Matter, Verizon severe
    acceleration: Levels = Levels(2.5, 3.0, 4.0)  # D1; severe is Progressive's 9 mph/s start
    cornering: Levels = Levels(3.0, 4.0, 5.5)  # D1: PosiTrace 0.30 g; Tesla 0.4 g; Digital Matter 5.5
    hold_s: float = 0.3  # D1; the severity is the force held this long, never a single row
    release_share: float = 0.83  # D1: Digital Matter's 17 % hysteresis
    merge_s: float = 2.0  # D1: two pulses of one manoeuvre
    refractory_s: float = 3.0  # D1; one manoeuvre raises one event (Ikolvi/Tracelet#171 for want of it)
    speed_gate_mps: float = 10 / 3.6  # D1, Teltonika: 10 km/h for braking and acceleration
    corner_gate_mps: float = 30 / 3.6  # D1, Teltonika: 30 km/h; tight slow turns are parking, not risk
    agree_share: float = 0.6  # D4: tolerance 40 %: a second source must have seen this share of the peak
    contradict_share: float = (
        0.4  # below this share of the speed change that the force implies, there was no such force
    )
    contradict_mps: float = 3 / 3.6  # D4: less speed change than 3 km/h is a bump, a slope or a knock
    plausible_mps2: float = (
        12.0  # beyond any road tyre (1.2 g): wheel lock, a GNSS jump, a knock; the source is ignored
    )
    vertical_ratio: float = 2.0  # D4: max|vertical| above this × max|horizontal| is a pothole or a speed bump
    free_minor_mps2: float = 1.96  # a push of unknown direction may accelerate: PosiTrace 0.20 g, DriveQuant 2.0
    free_corner_mps: float = 40.0  # a yaw rate explains a side force if it does so below this speed (144 km/h)
    handled_degps: float = 100.0  # no car yaws faster (a spin reaches some 90 °/s); a hand does


@dataclass(frozen=True, slots=True)
class SpeedingSettings:
    """Speeding against a limit layer where it speaks, else one fixed limit."""

    fixed_limit_mps: float = 120 / 3.6  # China's highest limit (implementing regulation art. 78); 0 turns it off
    # Shares of the limit: up to 10 % draws a warning; points rise at 20 % and at 50 % (China, order 163 of 2021)
    minor_share: float = 1.10
    moderate_share: float = 1.20
    severe_share: float = 1.50
    release_share: float = 1.05  # hysteresis
    hold_s: float = 10.0  # D1: Mediroutes counts from 10 s
    merge_s: float = 5.0  # lifting off for a moment does not make two events


@dataclass(frozen=True, slots=True)
class IdlingSettings:
    """Engine running while the vehicle stands."""

    minor_s: float = 300.0  # 5 min, longer than a red light or a level crossing
    moderate_s: float = 900.0  # OVMS alerts at 15 min
    severe_s: float = 3600.0  # and repeats at 60 min
    still_mps: float = 0.5


@dataclass(frozen=True, slots=True)
class OverRevSettings:
    """Engine speed above the limit of the class."""

    limits: EngineLimits = EngineLimits()
    hold_s: float = 2.0  # longer than a missed gear
    release_share: float = 0.95
    moderate_share: float = 1.1
    severe_share: float = 1.2


@dataclass(frozen=True, slots=True)
class FatigueSettings:
    """Driving too long without a rest."""

    # China, implementing regulation of the Road Traffic Safety Law art. 62(7): no more than 4 h without 20 min of rest
    # (JT/T 808 parameters 0x0057 and 0x0059 carry the same two numbers).
    driving_s: float = 4 * 3600.0
    rest_s: float = 20 * 60.0
    repeat_s: float = 3600.0  # reported again, one level higher, for every further hour
    still_mps: float = 0.5


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """All that the detector may be told."""

    vehicle_class: VehicleClass = "car"
    class_factors: ClassFactors = ClassFactors()
    harsh: HarshSettings = field(default_factory=HarshSettings)
    speeding: SpeedingSettings = field(default_factory=SpeedingSettings)
    idling: IdlingSettings = field(default_factory=IdlingSettings)
    over_rev: OverRevSettings = field(default_factory=OverRevSettings)
    fatigue: FatigueSettings = field(default_factory=FatigueSettings)
    window_s: float = 5.0  # state kept on either side of an event, to show, dispute and recompute it
