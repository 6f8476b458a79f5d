"""The box's own sensors in the virtual car: inertial sensor and satellite receiver, with their faults.

Each function turns true motion into what one part would have said, as `Messages`: names and signals of the bus
database, times in seconds since the drive began. Nothing here changes the motion.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from sim.roads import Floats
from sim.vehicle import DT, GRAVITY, Motion

LARGEST_RAW: Final = 0x7FFFFFFF * 1e-7  # deg: what GNSS_POSITION holds without a fix, by the bus database

FaultKind = Literal[
    "gnss_gap",
    "gnss_jump",
    "imu_stuck",
    "imu_clipped",
    "imu_gap",
    "obd_stall",
    "obd_gap",
    "bus_gap",
    "box_moved",
    "box_loose",
]
ShockKind = Literal["pothole", "speed_bump", "door_slam", "kerb", "dropped_box", "knock"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with a sensor from `start_s` to `end_s`; `size` in the fault's own unit."""

    kind: FaultKind
    start_s: float
    end_s: float
    size: float = 0.0  # gnss_jump: m; imu_clipped: m/s² of range left; box_moved, box_loose: deg


@dataclass(frozen=True, slots=True)
class Shock:
    """A knock that shakes the box without changing how the car moves."""

    kind: ShockKind
    t_s: float
    size: float  # m/s², largest vertical acceleration


@dataclass(frozen=True, slots=True)
class Box:
    """How the box sits, and how good its parts are. `mount` takes vehicle axes to box axes."""

    mount: Floats
    lever_m: tuple[float, float, float] = (0.6, -0.3, 0.2)  # from the centre of gravity, vehicle axes
    accel_noise: float = 0.04  # m/s² rms at 100 Hz; a €2 MEMS part
    gyro_noise: float = 0.08  # deg/s rms
    accel_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m/s² at 25 °C; data sheets allow ±0.4
    gyro_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)  # deg/s
    accel_drift: float = 0.003  # m/s² per °C
    accel_range: float = 8.0 * GRAVITY
    accel_quantum: float = 0.005  # m/s²
    gyro_quantum: float = 0.07  # deg/s
    vibration: float = 0.08  # m/s² from the engine, after the part's own low-pass
    rate_hz: float = 100.0
    gnss_hz: float = 10.0
    gnss_latency_s: float = 0.15
    gnss_speed_lag_s: float = 0.2
    gnss_speed_noise: float = 0.07  # m/s
    gnss_position_sigma_m: float = 2.0
    gnss_first_fix_s: float = 12.0


@dataclass(frozen=True, slots=True)
class Messages:
    """One message of the bus database sent many times: times in s, ascending, and a value per signal and time."""

    name: str
    t: Floats
    signals: dict[str, Floats] = field(default_factory=dict)


def ticks(rate_hz: float, start_s: float, end_s: float, jitter_s: float, rng: np.random.Generator) -> Floats:
    """Return ascending send times at `rate_hz`, each late by up to `jitter_s`, which must be less than a period."""
    n = max(int((end_s - start_s) * rate_hz), 0)
    return np.asarray(start_s + (np.arange(n) + rng.uniform(0.1, 0.9)) / rate_hz + rng.uniform(0, jitter_s, n))


def at(values: Floats, t: Floats) -> Floats:
    """Return the motion's values at times `t`, linear between its steps."""
    return np.asarray(np.interp(t / DT, np.arange(len(values)), values))


def within(t: Floats, faults: list[Fault], kind: FaultKind) -> npt.NDArray[np.bool_]:
    """Say which times lie inside a fault of `kind`."""
    inside = np.zeros(len(t), np.bool_)
    for fault in faults:
        if fault.kind == kind:
            inside |= (t >= fault.start_s) & (t < fault.end_s)
    return inside


def rotation(axis: Floats, degrees: float) -> Floats:
    """Return the matrix that turns vectors about `axis` (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def random_mount(rng: np.random.Generator) -> Floats:
    """Return a rotation matrix, uniform over all orientations (Shoemake's random unit quaternion)."""
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def specific_force(motion: Motion, shocks: list[Shock], lever_m: tuple[float, float, float]) -> tuple[Floats, Floats]:
    """Return what an ideal sensor at the box would feel, in the body's axes, at every step.

    Specific force float64[3, n] in m/s² (gravity included) and angular velocity float64[3, n] in rad/s. Slope, bank,
    pitch and roll leak gravity into the horizontal axes, as in a car.
    """
    v = motion.speed
    slope_rate = np.gradient(_mean(motion.slope, 0.3), DT)
    shake, nod = _shake(shocks, motion)
    pitch, roll = motion.pitch + nod, motion.roll
    ax = motion.longitudinal + GRAVITY * np.sin(motion.slope)
    ay = motion.lateral + GRAVITY * np.sin(motion.bank) * np.cos(motion.slope)
    az = GRAVITY * np.cos(motion.slope) * np.cos(motion.bank) + v * slope_rate + motion.heave
    pitch_rate = motion.pitch_rate + np.gradient(nod, DT) + slope_rate
    yaw_step = np.gradient(_mean(motion.yaw_rate, 0.03), DT)
    rx, ry, rz = lever_m
    pitch_step = np.gradient(_mean(pitch_rate, 0.03), DT)
    ax = ax - yaw_step * ry - motion.yaw_rate**2 * rx - pitch_step * rz
    ay = ay + yaw_step * rx - motion.yaw_rate**2 * ry
    az = az + pitch_step * rx
    fx = ax * np.cos(pitch) + az * np.sin(pitch)
    down = az * np.cos(pitch) - ax * np.sin(pitch)
    fy = ay * np.cos(roll) + down * np.sin(roll)
    fz = down * np.cos(roll) - ay * np.sin(roll)
    force = np.stack([fx, fy, fz]) + shake
    # right-handed about x forward, y left, z up: nose up is a negative turn about y
    turn = np.stack([motion.roll_rate, -pitch_rate, motion.yaw_rate])
    return force, turn


def mounts(box: Box, faults: list[Fault], rng: np.random.Generator) -> list[tuple[float, Floats]]:
    """Return from when (s) the box sits how: the mount of the start, then one after each time that it was moved."""
    held = [(0.0, box.mount)]
    for fault in faults:
        if fault.kind == "box_moved":
            # about a level axis, so that gravity turns too
            bearing = float(rng.uniform(0.0, 2 * np.pi))
            axis = np.array([np.cos(bearing), np.sin(bearing), 0.0])
            held.append((fault.end_s, held[-1][1] @ rotation(axis, fault.size)))
    return held


def turn_axis(turn: Floats) -> Floats:
    """Return the unit axis of a rotation matrix that is neither none nor half a turn."""
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    return np.asarray(axis / np.linalg.norm(axis))


def imu(
    motion: Motion,
    box: Box,
    mounts: list[tuple[float, Floats]],
    shocks: list[Shock],
    faults: list[Fault],
    ambient: float,
    rng: np.random.Generator,
    impact: tuple[Floats, Floats] | None = None,
) -> list[Messages]:
    """Say what the box's accelerometer and gyroscope report, box axes, gravity included.

    `impact` is what a collision adds to the motion: specific force and angular velocity of `sim.crash.collide`.
    """
    force, turn = specific_force(motion, shocks, box.lever_m)
    if impact is not None:
        force, turn = force + impact[0], turn + impact[1]
    end = len(motion.speed) * DT
    t = ticks(box.rate_hz, 0.0, end, 0.0008, rng)
    n = len(t)
    # the part's own low-pass: mean of the two steps in a sample period
    felt = np.stack([at(_mean(axis, 2 * DT), t) for axis in force])
    turned = np.degrees(np.stack([at(_mean(axis, 2 * DT), t) for axis in turn]))

    phase = 2.0 * np.pi * np.cumsum(motion.rpm) * DT / 30.0  # a four-cylinder engine shakes twice per turn
    strength = box.vibration * (0.6 + at(motion.load, t) / 80.0) * (at(motion.rpm, t) > 300.0)
    felt += strength * np.sin(at(phase, t)) * np.array([[0.5], [0.7], [1.0]])
    # horizontal shake from the road: about a fifth of the vertical, each axis its own
    felt[:2] += 0.2 * rng.standard_normal((2, n)) * np.abs(at(_mean(np.abs(motion.heave), 0.5), t))

    temperature = ambient + 22.0 * (1.0 - np.exp(-t / 900.0))
    accel = mounts[0][1] @ felt
    gyro = mounts[0][1] @ turned
    moved = [f for f in faults if f.kind == "box_moved"]
    for fault, (_, old), (_, new) in zip(moved, mounts, mounts[1:], strict=False):
        after = t >= fault.end_s
        accel[:, after] = new @ felt[:, after]
        gyro[:, after] = new @ turned[:, after]
        during = (t >= fault.start_s) & ~after  # a hand turns it
        share = (t[during] - fault.start_s) / (fault.end_s - fault.start_s)
        accel[:, during] = (1 - share) * (old @ felt[:, during]) + share * (new @ felt[:, during])
        accel[:, during] += 2.0 * rng.standard_normal((3, int(during.sum())))
        # the box turns by `size` about an axis fixed to the car, which the old mount shows in box axes
        gyro[:, during] += (old @ turn_axis(old.T @ new))[:, None] * fault.size / (fault.end_s - fault.start_s)
    for fault in faults:
        if fault.kind == "box_loose":  # its holder gives: it rocks about an axis while the road shakes it
            rocks = (t >= fault.start_s) & (t < fault.end_s)
            axis, hz = rng.standard_normal(3), rng.uniform(4.0, 12.0)
            axis /= np.linalg.norm(axis)
            phase_at = 2 * np.pi * hz * t[rocks] + rng.uniform(0, 2 * np.pi)
            angle = np.radians(fault.size) * np.sin(phase_at)
            accel[:, rocks] += np.cross(axis, accel[:, rocks], axis=0) * angle
            gyro[:, rocks] += axis[:, None] * fault.size * 2 * np.pi * hz * np.cos(phase_at)
    accel += np.array(box.accel_bias)[:, None] + box.accel_drift * (temperature - 25.0)
    accel += box.accel_noise * rng.standard_normal((3, n))
    gyro += np.array(box.gyro_bias)[:, None] + 0.01 * (temperature - 25.0)
    gyro += box.gyro_noise * rng.standard_normal((3, n))
    limits = np.full(n, box.accel_range)
    for fault in faults:
        if fault.kind == "imu_clipped":
            limits[(t >= fault.start_s) & (t < fault.end_s)] = fault.size
    accel = np.clip(accel, -limits, limits)
    accel = np.round(accel / box.accel_quantum) * box.accel_quantum
    gyro = np.round(gyro / box.gyro_quantum) * box.gyro_quantum
    for fault in faults:
        if fault.kind == "imu_stuck":
            inside = np.flatnonzero((t >= fault.start_s) & (t < fault.end_s))
            if len(inside):
                accel[:, inside] = accel[:, inside[:1]]
                gyro[:, inside] = gyro[:, inside[:1]]
    keep = ~within(t, faults, "imu_gap")
    t, accel, gyro = t[keep], accel[:, keep], gyro[:, keep]
    return [
        Messages("IMU_ACCEL", t, {"X": accel[0], "Y": accel[1], "Z": accel[2]}),
        Messages("IMU_GYRO", t + 0.0003, {"X": gyro[0], "Y": gyro[1], "Z": gyro[2]}),
    ]


def gnss(
    motion: Motion,
    box: Box,
    faults: list[Fault],
    latitude: Floats,
    longitude: Floats,
    utc_start_s: float,
    rng: np.random.Generator,
) -> list[Messages]:
    """Say what the satellite receiver reports; fixes arrive `gnss_latency_s` after the moment that they describe."""
    end = len(motion.speed) * DT
    fix = ticks(box.gnss_hz, 0.0, end - 1.0, 0.0, rng)
    n = len(fix)
    t = fix + box.gnss_latency_s + rng.uniform(0.0, 0.02, n)
    dt = 1.0 / box.gnss_hz
    speed = at(_lag(motion.speed, box.gnss_speed_lag_s), fix)
    valid = (fix >= box.gnss_first_fix_s) & ~within(fix, faults, "gnss_gap")
    # error of position: slow drift of the ionosphere and multipath (60 s), and noise
    sigma = box.gnss_position_sigma_m
    error = np.stack([_drift(n, 60.0 / dt, rng) * sigma + 0.25 * sigma * rng.standard_normal(n) for _ in range(2)])
    said = np.abs(speed + box.gnss_speed_noise * rng.standard_normal(n))
    accuracy = 1.3 * sigma * np.exp(0.2 * _drift(n, 30.0 / dt, rng))
    for fault in faults:
        if fault.kind == "gnss_jump":
            inside = (fix >= fault.start_s) & (fix < fault.end_s)
            bearing = rng.uniform(0, 2 * np.pi)
            error[:, inside] += fault.size * np.array([[np.cos(bearing)], [np.sin(bearing)]])
            accuracy[inside] += 0.15 * fault.size  # receivers rarely admit the whole error
            # Doppler from reflected signals: a few m/s wrong for the first moment
            first = inside & (fix < fault.start_s + 1.0)
            said[first] = np.abs(said[first] + rng.normal(0.0, fault.size / 8.0))
    heading = np.degrees(at(_lag(motion.heading, box.gnss_speed_lag_s), fix))
    heading += np.degrees(np.arctan2(0.1, np.maximum(speed, 0.05))) * rng.standard_normal(n)
    north_m = 111_132.95
    east_m = 111_319.5 * np.cos(np.radians(latitude[0]))
    lat = at(latitude, fix) + error[1] / north_m
    lon = at(longitude, fix) + error[0] / east_m
    satellites = np.clip(np.round(11 + 3 * _drift(n, 60.0 / dt, rng)), 5, 24)
    nothing = ~valid
    lat[nothing] = lon[nothing] = LARGEST_RAW
    said[nothing] = heading[nothing] = satellites[nothing] = 0.0
    accuracy[nothing] = 25.5
    second = np.flatnonzero(np.diff(np.floor(fix), prepend=-1.0) > 0)
    altitude = at(motion.altitude, fix) + 60.0 + 1.8 * _drift(n, 60.0 / dt, rng) * sigma
    return [
        Messages("GNSS_POSITION", t, {"Latitude": lat, "Longitude": lon}),
        Messages(
            "GNSS_MOTION",
            t + 0.0003,
            {
                "Speed": said,
                "Course": np.mod(heading, 360.0),
                "Accuracy": np.clip(accuracy, 0.1, 25.5),
                "FixType": np.where(valid, 3.0, 0.0),
                "Satellites": satellites,
                "Valid": valid.astype(np.float64),
            },
        ),
        Messages(
            "GNSS_TIME",
            t[second] + 0.0006,
            {"UnixMs": np.round((utc_start_s + fix[second]) * 1000.0), "Valid": valid[second].astype(np.float64)},
        ),
        Messages(
            "GNSS_ALTITUDE",
            t[second] + 0.0009,
            {"Altitude": altitude[second], "Valid": valid[second].astype(np.float64)},
        ),
    ]


def _shake(shocks: list[Shock], motion: Motion) -> tuple[Floats, Floats]:
    """Return the knocks' acceleration float64[3, n] in m/s² and the body's nod in rad, at every step."""
    n = len(motion.speed)
    shake = np.zeros((3, n))
    nod = np.zeros(n)
    for shock in shocks:
        first = int(shock.t_s / DT)
        if first >= n:
            continue
        v = max(float(motion.speed[first]), 2.0)
        if shock.kind == "pothole":
            # 1-2 g for 30 ms, ringing out at wheel hop; horizontally a quarter to a half g both ways, no net ΔV
            tau = np.arange(0.0, 0.4, DT)[: n - first]
            ring = np.exp(-tau / 0.06)
            shake[2, first : first + len(tau)] += shock.size * ring * np.sin(2 * np.pi * 13.0 * tau)
            shake[0, first : first + len(tau)] -= 0.3 * shock.size * ring * np.sin(2 * np.pi * 17.0 * tau)
            shake[1, first : first + len(tau)] += 0.2 * shock.size * ring * np.sin(2 * np.pi * 15.0 * tau)
        elif shock.kind == "speed_bump":
            # each axle goes up and down over 0.5 m of road; the body nods by the height over the wheelbase
            length = 0.9 / v
            for late, sign in ((0.0, 1.0), (2.65 / v, -1.0)):
                at_axle = first + int(late / DT)
                tau = np.arange(0.0, 3 * length, DT)[: max(n - at_axle, 0)]
                wave = np.where(tau < length, np.sin(2 * np.pi * tau / length), 0.0)
                shake[2, at_axle : at_axle + len(tau)] += shock.size * wave * np.exp(-tau / (2 * length))
                nod[at_axle : at_axle + len(tau)] += sign * 0.028 * np.sin(np.pi * np.minimum(tau / (3 * length), 1.0))
        elif shock.kind == "kerb":
            # a wheel climbs it at walking pace: up, then down, and a push back that the drive soon makes good
            tau = np.arange(0.0, 0.5, DT)[: n - first]
            up = np.where(tau < 0.08, np.sin(2 * np.pi * tau / 0.16), -0.5 * np.exp(-(tau - 0.08) / 0.08))
            back = np.where(tau < 0.06, -1.0, 0.25 * (tau < 0.30))
            shake[2, first : first + len(tau)] += shock.size * up * (tau < 0.3)
            shake[0, first : first + len(tau)] += 0.35 * shock.size * back
            shake[1, first : first + len(tau)] += 0.3 * shock.size * np.exp(-tau / 0.08) * np.sin(2 * np.pi * 9.0 * tau)
        elif shock.kind in ("dropped_box", "knock"):
            # a blow to the box itself: 10-20 ms, another way each time, and as much back
            tau = np.arange(0.0, 0.25, DT)[: n - first]
            way = np.array([np.cos(7.0 * shock.t_s), np.sin(7.0 * shock.t_s), np.cos(3.0 * shock.t_s)])
            ring = np.exp(-tau / 0.02) * np.sin(2 * np.pi * 30.0 * tau)
            shake[:, first : first + len(tau)] += shock.size * (way / np.linalg.norm(way))[:, None] * ring
        else:  # door_slam: under 30 ms, 35 Hz
            tau = np.arange(0.0, 0.12, DT)[: n - first]
            ring = np.exp(-tau / 0.025) * np.sin(2 * np.pi * 35.0 * tau)
            shake[:, first : first + len(tau)] += shock.size * np.array([[0.3], [0.8], [0.5]]) * ring
    return shake, nod


def _mean(values: Floats, seconds: float) -> Floats:
    """Return the centred mean over about `seconds`."""
    half = max(round(seconds / DT / 2), 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    i = np.arange(len(values))
    low = np.maximum(i - half, 0)
    high = np.minimum(i + half, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


def _lag(values: Floats, seconds: float) -> Floats:
    """Return the mean over the last 2 × `seconds`: a filter whose delay is `seconds`."""
    width = max(int(2 * seconds / DT), 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    high = np.arange(1, len(values) + 1)
    low = np.maximum(high - width, 0)
    return np.asarray((total[high] - total[low]) / (high - low))


def _drift(n: int, steps: float, rng: np.random.Generator) -> Floats:
    """Return slowly changing noise of variance about 1 whose memory is `steps` samples."""
    knots = rng.standard_normal(int(n / steps) + 4)
    x = np.arange(n) / steps
    return np.asarray(1.2 * np.interp(x, np.arange(len(knots)), knots))
