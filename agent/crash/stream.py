"""What the crash kernel keeps between calls, and which channel goes where; no numba here."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agent.channels import BY_NAME, CHANNELS
from agent.crash.settings import CrashSettings

G: Final = 9.80665
KMH: Final = 1.0 / 3.6  # m/s
NEVER_NS: Final = -(1 << 60)
ALWAYS_NS: Final = 1 << 60

RING: Final = 2048  # accelerometer samples: 2 s at 1 kHz
VX, VY, VZ, AX, AY, AZ, RAILED, COLUMNS = range(8)  # of the ring: velocity, acceleration, at rails
SPEEDS: Final = 4
WHEELS, BUS, OBD, SATELLITES = range(SPEEDS)
SPEED_NAMES: Final = ("wheel", "can", "obd", "gnss")
SPEED_RING: Final = 512
SPEED_NS: Final = 40_000_000  # faster sources are thinned out to this: 20 s in the ring

# The kernel's own constants, compiled into it: its cache does not notice a change here, so save kernel.py as well.
CFC: Final = 60.0
DESIGN_HZ: Final = 2.0775 * CFC  # SAE J211-1 appendix C: corner of the Butterworth filter of a CFC
FILTER_FROM_HZ: Final = 300.0  # below, the corner comes too near to half the rate: the sensor's own low-pass has to do
GAP_NS: Final = 100_000_000
GAP_PERIODS: Final = 5.0
SHORT_GAP_S: Final = 0.05  # bridged by the trapezoid rule
SET_NS: Final = 4_000_000  # the axes of one sample come together
TURN_FRESH_NS: Final = 50_000_000
QUARTER_NS: Final = 250_000_000
QUIET_MPS2: Final = 0.5  # standard deviation per axis
QUIET_RADPS: Final = 0.05
GRAVITY_ROOM: Final = 0.5  # m/s²: bias of a consumer part (±40 mg) and a fifth of a g of steady push
GRAVITY_TAU: Final = 10.0  # s
LOW_TAU: Final = 0.5
HOME_TAU: Final = 60.0
QUIET_ENDS_NS: Final = 30_000_000  # below the onset for so long: the event has ended (563.7: end of event + 30 ms)
EVENT_NS: Final = 1_000_000_000
FALL_MPS2: Final = 3.0
EPISODE_NS: Final = 200_000_000
GENTLE_RADPS: Final = 0.7  # 40 °/s: a standing car that is hit does not tilt faster; a box that is swung does
TILT_TAU: Final = 0.1
# ranges that parts are made with: ADXL345/LSM6 2-16, BMI088 3-24, KX 32-64, H3LIS331/ADXL372 100-200
RAILS_G: Final = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 100.0, 200.0)
RAIL_SAMPLES: Final = 3
RAIL_SHARE: Final = 0.015
FRESH_NS: Final = 1_000_000_000
COLLAPSE_NS: Final = 1_300_000_000
PARKED_NS: Final = 180_000_000_000  # a start-stop system starts the engine again sooner; a hybrid has driven since
PARKED_FRESH_NS: Final = 5_000_000_000  # an engine that said nothing for so long is not known to stand
REVS_RUNNING: Final = 300.0  # rpm: no engine idles below
SUSPECT_REST: Final = 1.5  # m/s: standing, for a source that counts whole km/h
MOST_MPS2: Final = 500.0  # 50 g between two samples of speed: no car, but a sensor that was lost
BLIND_OBD_S: Final = 1.0  # how stale an OBD value may be as long as its refresh has not been seen

# kinds of channel
IGNORED, ACCEL, GYRO, CLIP, SPEED, WHEEL, FLAG, HELD, PRESSED = range(9)
# values of which the last is held; of the pressed ones the last that was not 0
IGNITION, REVS, FIX, BRAKE, ANTILOCK, LATITUDE, LONGITUDE, ACCURACY, HEADING, HELDS = range(10)

# crash flags of the vehicle, in the order of `Stream.flag`
FLAGS: Final = ("airbag", "airbag", "crash_flag", "fuel_cut")
FLAG_CHANNELS: Final = (
    "Vehicle.Cabin.Seat.Row1.DriverSide.Airbag.IsDeployed",
    "Vehicle.Cabin.Seat.Row1.PassengerSide.Airbag.IsDeployed",
    "Vehicle.Safety.IsCrashDetected",
    "Vehicle.Safety.IsFuelCutOff",
)

USE: Final = np.dtype([("kind", "<i8"), ("index", "<i8"), ("low", "<f8"), ("high", "<f8")])
_USES: Final[dict[str, tuple[int, int]]] = {
    **{f"Imu.Acceleration.{axis}": (ACCEL, i) for i, axis in enumerate("XYZ")},
    **{f"Imu.AngularVelocity.{axis}": (GYRO, i) for i, axis in enumerate("XYZ")},
    "Imu.Clipped": (CLIP, 0),
    "Wheel.Speed": (SPEED, WHEELS),
    "Vehicle.Speed": (SPEED, BUS),
    "Obd.Speed": (SPEED, OBD),
    "Gnss.Speed": (SPEED, SATELLITES),
    **{
        f"Vehicle.Chassis.Axle.Row{row}.Wheel.{side}.Speed": (WHEEL, 2 * row - 2 + i)
        for row in (1, 2)
        for i, side in enumerate(("Left", "Right"))
    },
    "Power.Ignition": (HELD, IGNITION),
    "Vehicle.Powertrain.CombustionEngine.Speed": (HELD, REVS),
    "Obd.EngineSpeed": (HELD, REVS),
    **{name: (FLAG, i) for i, name in enumerate(FLAG_CHANNELS)},
    "Gnss.FixType": (HELD, FIX),
    "Vehicle.Chassis.Brake.IsPressed": (PRESSED, BRAKE),
    "Vehicle.ADAS.ABS.IsEngaged": (PRESSED, ANTILOCK),
    "Gnss.Latitude": (HELD, LATITUDE),
    "Gnss.Longitude": (HELD, LONGITUDE),
    "Gnss.HorizontalAccuracy": (HELD, ACCURACY),
    "Gnss.Heading": (HELD, HEADING),
}

PARAMETERS: Final = np.dtype(
    [
        ("trigger", "<f8"),  # m/s
        ("trigger_ns", "<i8"),
        ("onset", "<f8"),  # m/s
        ("onset_ns", "<i8"),
        ("gate", "<f8"),  # m/s
        ("bump", "<f8"),  # m/s in onset_ns
        ("bump_parked", "<f8"),  # the same while parked
        ("bump_merge_ns", "<i8"),
        ("rollover_cos", "<f8"),
        ("rollover_ns", "<i8"),
        ("tilt_cos", "<f8"),
        ("handled", "<f8"),  # rad/s
        ("fall_ns", "<i8"),
        ("suspect", "<f8"),  # m/s²
        ("suspect_loss", "<f8"),  # m/s
    ]
)

STREAM: Final = np.dtype(
    [
        ("wake", "<i8"),  # ns: give control back before the first sample from here on
        ("now", "<i8"),  # time of the last sample of any channel
        # accelerometer
        ("t", "<i8"),
        ("run", "<i8"),  # samples since the start or the last gap
        ("period", "<f8"),  # s
        ("axis", "<f8", 3),
        ("axis_set", "<i8"),
        ("axis_t", "<i8"),
        ("x0", "<f8", 3),  # the sample before, for that
        ("same", "<i8", 3),  # equal values in a row at a rail
        ("clipped", "<i8"),  # the driver's word
        ("railed_t", "<i8"),
        ("x1", "<f8", 3),  # CFC filter
        ("x2", "<f8", 3),
        ("y1", "<f8", 3),
        ("y2", "<f8", 3),
        ("filter_period", "<f8"),
        ("b", "<f8", 3),
        ("a", "<f8", 2),
        ("low", "<f8", 3),  # 0.5 s mean, for gravity
        ("gravity", "<f8", 3),  # m/s², as the resting box would read it now
        ("gravity_n", "<f8"),
        ("home", "<f8", 3),  # unit: up as it usually is
        ("home_s", "<f8"),
        ("past", "<f8", 3),  # acceleration at the sample before
        ("v", "<f8", 3),  # its integral
        ("head", "<i8"),
        ("tail", "<i8"),  # ring sample 20 ms back
        # quiet second: quarters
        ("part_t", "<i8"),
        ("part_n", "<f8"),
        ("part_sum", "<f8", 3),
        ("part_square", "<f8", 3),
        ("part_turn", "<f8", 3),
        ("quarters", "<f8", (4, 6)),
        ("quarters_n", "<i8"),
        ("quiet_t", "<i8"),
        # gyroscopes, rad/s
        ("turn_axis", "<f8", 3),
        ("turn_set", "<i8"),
        ("turn_axis_t", "<i8"),
        ("turn", "<f8", 3),
        ("turn_t", "<i8"),
        ("turn_bias", "<f8", 3),
        ("tilting", "<f8"),  # 0.1 s mean of the tilt rate
        ("handled_t", "<i8"),
        ("handled_from", "<i8"),
        ("stirred_t", "<i8"),
        # free fall
        ("fall_from", "<i8"),
        ("fell_t", "<i8"),  # end of the last fall
        # collision
        ("active_t", "<i8"),  # last time with 0.8 km/h in 20 ms
        ("floor_t", "<i8"),  # velocity changes count from here on
        ("open", "<i8"),  # 1: triggered, not over
        ("pulse_railed", "<i8"),
        ("pulse_t", "<i8"),
        # bump
        ("bump_from", "<i8"),
        ("bump_to", "<i8"),
        ("bump_peak", "<f8"),
        ("bump_mean", "<f8"),
        ("bump_crash", "<i8"),
        # rollover
        ("leaning_from", "<i8"),
        ("over_from", "<i8"),
        ("over_least", "<f8"),  # cosine
        ("over_told", "<i8"),
        # speeds
        ("wheel", "<f8", 4),
        ("wheel_t", "<i8", 4),
        ("speed_n", "<i8", SPEEDS),
        ("speed_t", "<i8", SPEEDS),  # last sample
        ("speed", "<f8", SPEEDS),
        ("kept", "<f8", (SPEEDS, SPEED_RING)),
        ("kept_t", "<i8", (SPEEDS, SPEED_RING)),
        ("moved_t", "<i8"),  # by any source
        ("ran_t", "<i8"),  # the engine
        ("same_from", "<i8", SPEEDS),
        ("hold", "<f8", SPEEDS),  # s: how stale a value can be
        ("told_t", "<i8", SPEEDS),
        # the rest: value and time
        ("held", "<f8", HELDS),
        ("held_t", "<i8", HELDS),
        ("flag", "<f8", len(FLAGS)),
        ("flag_seen", "<i8", len(FLAGS)),
        ("flag_t", "<i8", len(FLAGS)),
    ]
)

# notes that the kernel writes
WAKE, TRIGGER, PULSE, BUMP, ROLL, FLAGGED, COLLAPSE = range(1, 8)
NOTE: Final = np.dtype(
    [
        ("kind", "<i8"),
        ("index", "<i8"),  # source of a speed, crash flag
        ("t", "<i8"),  # ns, when known
        ("from_t", "<i8"),
        ("to_t", "<i8"),
        ("before", "<f8"),
        ("after", "<f8"),
    ]
)
NOTES: Final = 16

COUNTS: Final = ("late", "not_finite", "gaps", "out_of_range")


def uses() -> npt.NDArray[np.void]:
    """Return what to do with each channel number."""
    table = np.zeros(max(c.number for c in CHANNELS) + 1, USE)
    for name, use in _USES.items():
        channel = BY_NAME[name]
        table[channel.number] = (*use, channel.low, channel.high)
    return table


def parameters(s: CrashSettings) -> npt.NDArray[Any]:
    """Lay the settings out as the kernel reads them."""
    p = np.zeros(1, PARAMETERS)
    one = p[0]
    one["trigger"], one["trigger_ns"] = s.trigger_kmh * KMH, round(s.trigger_ms * 1e6)
    one["onset"], one["onset_ns"] = s.onset_kmh * KMH, round(s.onset_longitudinal_ms * 1e6)
    one["gate"] = s.gate_kmh * KMH
    one["bump"] = s.bump_g * G * s.onset_longitudinal_ms / 1e3
    one["bump_parked"] = s.parked_g * G * s.onset_longitudinal_ms / 1e3
    one["bump_merge_ns"] = round(s.bump_merge_s * 1e9)
    one["rollover_cos"], one["rollover_ns"] = np.cos(np.radians(s.rollover_deg)), round(s.rollover_hold_s * 1e9)
    one["tilt_cos"] = np.cos(np.radians(s.tilt_deg))
    one["handled"] = np.radians(s.handled_degps)
    one["fall_ns"] = round(s.fall_ms * 1e6)
    one["suspect"], one["suspect_loss"] = s.suspect_g * G, s.suspect_kmh * KMH
    return p


def new_stream() -> npt.NDArray[Any]:
    """Return the state before the first sample."""
    stream = np.zeros(1, STREAM)
    s = stream[0]
    s["wake"] = ALWAYS_NS
    for name in STREAM.names or ():
        if name.endswith(("_t", "_from")) or name in ("t", "now"):
            s[name] = NEVER_NS
    s["over_least"] = 1.0
    s["speed"] = np.nan
    s["hold"] = -1.0
    s["wheel"] = np.nan
    s["held"] = np.nan
    return stream
