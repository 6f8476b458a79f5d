"""The one physical model of the virtual car: a driver's script and a road in, its true motion at 200 Hz out.

Longitudinal: bounded jerk, engine torque by rpm and gear with lag and shift gaps, brakes with lag, tyre grip and ABS,
drag, rolling resistance, grade. Lateral: kinematic bicycle with steering lag, understeer and the grip circle. The body
pitches and rolls on its suspension. Axes are ISO 8855 (x forward, y left, z up). Nothing here knows of sensors.
"""

from dataclasses import dataclass, fields
from math import atan, cos, pi, sin
from typing import Final

import numpy as np
from numba import float64, int64, njit

from sim.roads import Floats

DT: Final = 0.005  # s; resolves ABS (7 Hz), wheel hop (11 Hz) and the 30 ms of a pothole
GRAVITY: Final = 9.80665

# What the driver does next: one row of float64 per phase, columns below.
CRUISE, REACH, PULSE, TURN, SWERVE, STAND, PARK = range(7)
KIND, SPEED, ACCEL, JERK, SECONDS, LATERAL, ANGLE, REVS = range(8)
PHASE_WIDTH: Final = 8

# Rows of the kernel's output, and of `Motion`.
(
    SPEED_,
    LONGITUDINAL,
    YAW_RATE,
    CURVE,
    HEADING,
    EAST,
    NORTH,
    DISTANCE,
    ALTITUDE,
    SLOPE,
    ROLL_ROAD,
    PITCH,
    ROLL,
    PITCH_RATE,
    ROLL_RATE,
    RPM,
    GEAR,
    PEDAL,
    LOAD,
    BRAKE,
    ABS,
    STEERING,
    SLIP_FRONT,
    SLIP_REAR,
    HEAVE,
    IGNITION,
) = range(26)


@dataclass(frozen=True, slots=True)
class Car:
    """One car; the defaults are a 2.0 l turbocharged hatchback with an automatic gearbox."""

    mass_kg: float = 1520.0
    drag_area_m2: float = 0.66  # cd × A
    rolling: float = 0.011
    grip: float = 0.92  # dry asphalt
    torque_nm: float = 360.0
    wheel_radius_m: float = 0.316
    wheelbase_m: float = 2.65
    steering_ratio: float = 15.2
    understeer: float = 0.0028  # rad of road wheel per m/s²
    pitch_gain: float = 0.0052  # rad per m/s² (3°/g); soft family cars reach 4°/g
    roll_gain: float = 0.0073  # rad per m/s² (4.1°/g)
    body_hz: float = 1.4  # natural frequency of pitch and roll on the springs
    damping: float = 0.35
    idle_rpm: float = 780.0

    def row(self) -> Floats:
        """Return the fields in order, for the kernel."""
        values: list[float] = [getattr(self, f.name) for f in fields(self)]
        return np.array(values, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Motion:
    """What really happened: one array of n float64 per quantity, every `DT` seconds from t = 0."""

    speed: Floats  # m/s, along the road
    longitudinal: Floats  # m/s², rate of change of `speed`; its sum × DT is the speed, exactly
    yaw_rate: Floats  # rad/s, left positive
    curvature: Floats  # 1/m
    heading: Floats  # rad from north, clockwise positive, unwrapped
    east: Floats  # m
    north: Floats
    distance: Floats  # m
    altitude: Floats
    slope: Floats  # rad, uphill positive
    bank: Floats  # rad, left side up positive
    pitch: Floats  # rad on the springs, nose up positive
    roll: Floats  # rad on the springs, left side up positive
    pitch_rate: Floats  # rad/s
    roll_rate: Floats
    rpm: Floats
    gear: Floats
    pedal: Floats  # %
    load: Floats  # % of the engine's torque
    brake: Floats  # % of the brake's force
    abs: Floats  # 0 or 1
    steering: Floats  # deg at the wheel, left positive
    slip_front: Floats  # wheel speed over road speed, minus 1
    slip_rear: Floats
    heave: Floats  # m/s², vertical acceleration of the body from the road's roughness
    ignition: Floats  # 0 or 1

    @property
    def t(self) -> Floats:
        """Return the times in seconds."""
        return np.arange(len(self.speed), dtype=np.float64) * DT

    @property
    def lateral(self) -> Floats:
        """Return the lateral acceleration, m/s², left positive: speed × yaw rate."""
        return self.speed * self.yaw_rate


@njit(
    int64(float64[:, ::1], float64[:, ::1], float64[::1], float64[::1], float64[:, ::1], int64[::1]),
    cache=True,
    nogil=True,
)
def drive(phases, road, car, wander, out, starts):  # type: ignore[no-untyped-def]
    """Drive the script until it or `out` ends; return the number of steps.

    phases float64[p, 8] · road float64[4, metres] · car float64[14] · wander float64[seconds + n], normal numbers: one
    per second for the driver's hold of speed, then one per step for the road's roughness ·
    out float64[26, n] · starts int64[p], the step at which each phase began (-1: never).
    """
    dt = 0.005
    g = 9.80665
    mass, drag_area, rolling, grip, torque = car[0], car[1], car[2], car[3], car[4]
    radius, wheelbase, ratio, understeer = car[5], car[6], car[7], car[8]
    pitch_gain, roll_gain, damping, idle = car[9], car[10], car[12], car[13]
    omega = 2.0 * pi * car[11]
    # ratios of a six-speed automatic, final drive included
    ratios = np.array([14.6, 8.6, 5.7, 4.25, 3.35, 2.75])
    n = out.shape[1]
    seconds = len(wander) - n
    metres = road.shape[1]
    v = a_want = engine = brake = 0.0
    curve_man = curve = psi = east = north = s = altitude = 0.0
    pitch = roll = pitch_rate = roll_rate = 0.0
    bounce = bounce_rate = hop = hop_rate = 0.0
    since_shift = 10.0
    gear = 0
    rpm = 0.0
    drift = 0.0
    phase = 0
    began = 0
    psi_began = 0.0
    if len(phases) == 0:
        return 0
    starts[0] = 0
    i = 0
    while i < n:
        kind = int(phases[phase, 0])
        target, level, jerk = phases[phase, 1], phases[phase, 2], phases[phase, 3]
        duration, lat, angle, revs = phases[phase, 4], phases[phase, 5], phases[phase, 6], phases[phase, 7]
        elapsed = (i - began) * dt
        m = min(int(s), metres - 1)
        slope = atan(road[0, m])
        bank = road[1, m]

        # the driver: what acceleration is wanted
        second = min(int(i * dt), seconds - 1)
        drift += (wander[second] * 0.6 - drift) * dt / 4.0
        if kind == 2:
            want = level
        elif kind >= 5 or target == 0.0:
            want = -min(abs(level), 0.9 * v + 0.35)
        else:
            gap = target + (drift if kind != 1 else 0.0) - v
            if kind == 1:
                want = min(max(1.1 * gap, -level), level)
                if abs(want) < 0.3:
                    want = 0.3 if gap > 0.0 else -0.3
            else:
                want = min(max(0.45 * gap, -level), level)
        a_want += min(max(want - a_want, -jerk * dt), jerk * dt)

        # gears: shift up later and down earlier with more demand
        wheel_rpm = v / radius * 60.0 / (2.0 * pi)
        since_shift += dt
        force_want = mass * 1.04 * a_want + 0.6 * drag_area * v * v + mass * g * (rolling * cos(slope) + sin(slope))
        if v < 0.05 and a_want <= 0.0:
            force_want = -0.15 * mass
        demand = max(force_want, 0.0) * radius / (ratios[gear] * 0.92 * torque)
        if since_shift > 0.8:
            here = wheel_rpm * ratios[gear]
            if revs > 0.0:
                if gear > 0 and wheel_rpm * ratios[gear - 1] < revs:
                    gear -= 1
                    since_shift = 0.0
                elif gear < 5 and here > revs + 300.0:
                    gear += 1
                    since_shift = 0.0
            elif gear < 5 and here > 1900.0 + 3600.0 * min(demand, 1.0):
                gear += 1
                since_shift = 0.0
            elif gear > 0 and wheel_rpm * ratios[gear - 1] < min(
                1350.0 + 3200.0 * max(demand - 0.55, 0.0) * 2.0, 5600.0
            ):
                gear -= 1
                since_shift = 0.0
        rpm_want = max(idle + 900.0 * min(demand, 1.0) * (1.0 if v < 4.0 else 0.0), wheel_rpm * ratios[gear])
        if kind == 6:
            rpm_want = 0.0
        rpm += (rpm_want - rpm) * dt / 0.12

        # engine and brakes follow what is wanted with their lags, within torque and grip
        pull = torque * ratios[gear] * 0.92 / radius
        if rpm < 1500.0:
            pull *= 0.55 + 0.45 * rpm / 1500.0
        elif rpm > 5200.0:
            pull *= max(1.0 - (rpm - 5200.0) / 2600.0, 0.3)
        if since_shift < 0.16:
            pull *= 0.6
        pull = min(pull, 0.62 * grip * mass * g * 0.95)
        drag_down = 0.028 * torque * ratios[gear] / radius * (1.0 if v > 2.0 else 0.0)  # overrun
        if kind == 6 or force_want < -drag_down:
            engine_want = -drag_down
            brake_want = -force_want - drag_down
        else:
            engine_want = min(force_want, pull)
            brake_want = 0.0
        if kind >= 5 and v < 0.05:
            engine_want = 0.0
            brake_want = max(brake_want, 0.3 * mass)
        engine += (engine_want - engine) * dt / 0.14
        brake += (brake_want - brake) * dt / 0.07
        brake_force = brake
        limit = 0.82 * grip * mass * g
        abs_on = 0.0
        slip_f = -brake / mass * 0.0042 + max(engine, 0.0) / mass * 0.006
        slip_r = -brake / mass * 0.0022
        if brake > limit and v > 2.0:
            abs_on = 1.0
            cycle = 0.5 + 0.5 * sin(2.0 * pi * 7.0 * i * dt)
            brake_force = limit * (1.0 - 0.1 * cycle)
            slip_f = -0.05 - 0.12 * cycle
            slip_r = -0.03 - 0.06 * (1.0 - cycle)
        net = engine - brake_force - 0.6 * drag_area * v * v - mass * g * (rolling * cos(slope) + sin(slope))
        v_new = v + net / (mass * 1.04) * dt
        if v_new < 0.0 or (v < 0.05 and (a_want <= 0.0 or engine_want <= 0.0)):
            v_new = 0.0  # brakes and static friction hold the car
        accel = (v_new - v) / dt

        # lateral: the driver winds curvature on and off with bounded lateral jerk; the car lags and slides at its limit
        reach = max(v_new, 3.0)
        want_curve = 0.0
        wind = 3.5 / (reach * reach)
        done = False
        if kind == 3:
            want_curve = lat / (reach * reach)
            want_curve = min(max(want_curve, -0.16), 0.16)
            wind = max(abs(lat) * 1.6, 2.5) / (reach * reach)
            unwinding = curve_man * curve_man / (2.0 * wind) * v_new
            done = abs(psi - psi_began) + unwinding >= angle or elapsed > 40.0
        elif kind == 4:
            want_curve = lat / (reach * reach) * sin(2.0 * pi * elapsed / duration)
            wind = 40.0 / (reach * reach)
        curve_man += min(max(want_curve - curve_man, -wind * dt), wind * dt)
        bend = curve_man + (road[2, m] if kind != 3 and v_new > 1.0 else 0.0)
        most = 0.93 * grip * g / max(v_new * v_new, 1.0)
        bend = min(max(bend, -most), most)
        curve += (bend - curve) * dt / 0.12
        yaw = curve * v_new
        lateral = yaw * v_new

        # the body on its springs
        pitch_pull = pitch_gain * accel - pitch
        roll_pull = roll_gain * lateral - roll
        pitch_rate += (omega * omega * pitch_pull - 2.0 * damping * omega * pitch_rate) * dt
        roll_rate += (omega * omega * roll_pull - 2.0 * damping * omega * roll_rate) * dt
        pitch += pitch_rate * dt
        roll += roll_rate * dt

        # roughness: white noise through body bounce (1.4 Hz) and wheel hop (11 Hz), growing with the root of speed;
        # the gains make 0.8 of the road's rms from hop and 0.6 from bounce
        white = wander[seconds + i] * road[3, m] * (v_new / 15.0) ** 0.5 if v_new > 0.3 else 0.0
        wb = 2.0 * pi * 1.4
        wh = 2.0 * pi * 11.0
        bounce_rate += (wb * wb * (white * 3.4 - bounce) - 2.0 * 0.35 * wb * bounce_rate) * dt
        bounce += bounce_rate * dt
        hop_rate += (wh * wh * (white * 1.15 - hop) - 2.0 * 0.18 * wh * hop_rate) * dt
        hop += hop_rate * dt

        step = 0.5 * (v + v_new) * dt
        psi += yaw * dt
        s += step
        east -= step * sin(psi)
        north += step * cos(psi)
        altitude += step * sin(slope)
        v = v_new

        out[0, i] = v
        out[1, i] = accel
        out[2, i] = yaw
        out[3, i] = curve
        out[4, i] = -psi
        out[5, i] = east
        out[6, i] = north
        out[7, i] = s
        out[8, i] = altitude
        out[9, i] = slope
        out[10, i] = bank
        out[11, i] = pitch
        out[12, i] = roll
        out[13, i] = pitch_rate
        out[14, i] = roll_rate
        out[15, i] = rpm
        out[16, i] = gear + 1.0 if v > 0.2 else 0.0
        out[17, i] = min(max(engine_want, 0.0) / pull, 1.0) * 100.0
        out[18, i] = min(max(engine, 0.0) / pull, 1.0) * 100.0
        out[19, i] = min(brake / (1.1 * mass * g), 1.0) * 100.0
        out[20, i] = abs_on
        out[21, i] = ratio * (wheelbase * curve + understeer * lateral) * 180.0 / pi
        out[22, i] = slip_f
        out[23, i] = slip_r
        out[24, i] = bounce + hop
        out[25, i] = 0.0 if kind == 6 else 1.0
        i += 1

        elapsed += dt
        if kind == 0 or kind >= 4:
            done = elapsed >= duration
        elif kind == 1:
            done = (v == 0.0 if target == 0.0 else abs(target - v) < 0.25) or elapsed > 90.0
        elif kind == 2:
            done = elapsed >= duration or (level < 0.0 and v <= target) or (level > 0.0 and v >= target)
        if done:
            phase += 1
            if phase == len(phases):
                break
            starts[phase] = i
            began = i
            psi_began = psi
    return i


def simulate_motion(
    phases: Floats, road: Floats, car: Car, longest_s: float, rng: np.random.Generator
) -> tuple[Motion, Floats]:
    """Drive the script for at most `longest_s`; return the motion and each phase's start in s (-1: never)."""
    n = int(longest_s / DT)
    seconds = int(longest_s) + 2
    wander = rng.standard_normal(seconds + n)
    out = np.empty((len(fields(Motion)), n))
    starts = np.full(len(phases), -1, np.int64)
    steps = drive(np.ascontiguousarray(phases), road, car.row(), wander, out, starts)
    motion = Motion(*np.ascontiguousarray(out[:, :steps]))
    return motion, np.where(starts >= 0, starts * DT, -1.0)
