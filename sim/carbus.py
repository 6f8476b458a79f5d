"""What the virtual car's own control units say: cyclic messages of the bus database, and OBD-II answers."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.blocks import Frames, empty_frames
from sim.roads import Floats
from sim.sensors import Fault, Messages, at, ticks, within
from sim.vehicle import DT, GRAVITY, Motion

TRACK_M: Final = 1.53
ASLEEP_AFTER_S: Final = 3.0  # the bus sleeps a few seconds after ignition off
REQUEST: Final = 0x7DF  # functional request, ISO 15765-4
ANSWER: Final = 0x7E8  # engine control unit


@dataclass(frozen=True, slots=True)
class Units:
    """How good the car's own sensors are, and what it answers."""

    wheel_scale: float = 0.0  # share by which all wheels read high: worn tyres turn faster
    wheel_spread: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    wheel_noise: float = 0.02  # m/s
    accel_bias: tuple[float, float] = (0.0, 0.0)  # m/s², longitudinal and lateral
    yaw_bias: float = 0.0  # deg/s
    grade_left: float = 0.12  # share of gravity's leak that the stability control fails to remove
    steering_offset: float = 0.0  # deg
    obd_period_s: float = 0.25  # one round of requests; 2-5 Hz is what adapters reach
    obd_scale: float = 0.005  # the ECU's speed is rarely below the true speed
    talks: bool = True  # False: the vehicle bus behind the gateway shows nothing but OBD answers


def awake(motion: Motion, t: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Say at which times the bus is awake: ignition on, or off for less than `ASLEEP_AFTER_S`."""
    steps = np.arange(len(motion.ignition))
    last_on = np.maximum.accumulate(np.where(motion.ignition > 0.5, steps, -(10**9)))
    i = np.minimum((t / DT).astype(np.int64), len(steps) - 1)
    return np.asarray((i - last_on[i]) * DT < ASLEEP_AFTER_S)


def control_units(
    motion: Motion, units: Units, faults: list[Fault], ambient: float, rng: np.random.Generator
) -> list[Messages]:
    """Say every cyclic message that the car's control units send."""
    end = len(motion.speed) * DT

    def times(rate_hz: float) -> Floats:
        t = ticks(rate_hz, 0.0, end, 0.05 / rate_hz, rng)
        return t[awake(motion, t) & ~within(t, faults, "bus_gap")]

    wheels = wheel_speeds(motion, units)
    messages = []
    t = times(100.0)
    messages.append(
        Messages(
            "ENGINE",
            t,
            {
                "Rpm": at(motion.rpm, t) + rng.normal(0.0, 4.0, len(t)) * (at(motion.rpm, t) > 300.0),
                "Throttle": np.clip(12.0 + 0.85 * at(motion.load, t), 0.0, 100.0),
                "AcceleratorPedal": np.clip(at(motion.pedal, t), 0.0, 100.0),
            },
        )
    )
    t = times(50.0)
    brake = np.clip(at(motion.brake, t), 0.0, 100.0)
    pressed = (brake > 1.0).astype(np.float64)
    messages.append(
        Messages(
            "BRAKE", t, {"BrakePressed": pressed, "AbsActive": np.round(at(motion.abs, t)), "BrakePosition": brake}
        )
    )
    t = times(100.0)
    angle = at(motion.steering, t) + units.steering_offset + rng.normal(0.0, 0.05, len(t))
    messages.append(Messages("STEERING", t, {"Angle": np.clip(angle, -780.0, 780.0)}))
    for name, left, right in (("WHEELS_FRONT", 0, 1), ("WHEELS_REAR", 2, 3)):
        t = times(100.0)
        messages.append(
            Messages(
                name, t, {"Left": _pulses(wheels[left], t, units, rng), "Right": _pulses(wheels[right], t, units, rng)}
            )
        )
    t = times(20.0)
    messages.append(Messages("SPEED", t, {"VehicleSpeed": _pulses(wheels.mean(axis=0), t, units, rng)}))
    t = times(10.0)
    messages.append(Messages("GEAR", t, {"Gear": np.round(at(motion.gear, t - 0.02))}))
    t = times(50.0)
    longitudinal = motion.longitudinal + units.grade_left * GRAVITY * np.sin(motion.slope + motion.pitch)
    lateral = motion.lateral + units.grade_left * GRAVITY * np.sin(motion.bank + motion.roll)
    messages.append(
        Messages(
            "KINEMATICS",
            t,
            {
                "LongAccel": at(longitudinal, t) + units.accel_bias[0] + rng.normal(0.0, 0.05, len(t)),
                "LatAccel": at(lateral, t) + units.accel_bias[1] + rng.normal(0.0, 0.05, len(t)),
                "YawRate": np.degrees(at(motion.yaw_rate, t)) + units.yaw_bias + rng.normal(0.0, 0.08, len(t)),
            },
        )
    )
    t = times(1.0)
    on = at(motion.ignition, t) > 0.5
    messages.append(
        Messages(
            "BODY",
            t,
            {
                "Ignition": np.where(on, 2.0, 0.0),
                "Voltage": np.where(on, 14.1, 12.5) + rng.normal(0.0, 0.05, len(t)),
                "AmbientTemperature": np.full(len(t), ambient),
                "FuelLevel": 62.0 - at(motion.distance, t) / 9000.0,
            },
        )
    )
    t = times(1.0)
    pages = np.arange(len(t)) % 2
    for page, name, values in (
        (0, "OilTemperature", ambient + 70.0 * (1.0 - np.exp(-t / 500.0))),
        (1, "OdometerKm", np.floor(48_000.0 + at(motion.distance, t) / 1000.0)),
    ):
        chosen = pages == page
        messages.append(
            Messages("DIAG", t[chosen], {"Page": np.full(int(chosen.sum()), float(page)), name: values[chosen]})
        )
    return messages


def wheel_speeds(motion: Motion, units: Units) -> Floats:
    """Return what the wheels turn, m/s at the nominal tyre radius: float64[4, n], front left first."""
    half = motion.yaw_rate * TRACK_M / 2.0
    wheels = np.empty((4, len(half)))
    for wheel, (side, slip) in enumerate(
        ((-1.0, motion.slip_front), (1.0, motion.slip_front), (-1.0, motion.slip_rear), (1.0, motion.slip_rear))
    ):
        scale = 1.0 + units.wheel_scale + units.wheel_spread[wheel]
        wheels[wheel] = np.maximum((motion.speed + side * half) * (1.0 + slip) * scale, 0.0)
    return wheels


def obd_answers(
    motion: Motion, units: Units, faults: list[Fault], ambient: float, rng: np.random.Generator
) -> tuple[Floats, Frames]:
    """Ask and answer SAE J1979 service 01 in rounds: speed and rpm in every one, slower quantities in turn.

    Returns the times in s and the frames (their `t` is left 0). Speed is a whole number of km/h from a register that
    the control unit refreshes every 100 ms.
    """
    end = len(motion.speed) * DT
    period = units.obd_period_s
    slow = (0x11, 0x04, 0x11, 0x05, 0x11, 0x04, 0x42, 0x2F)
    rounds = int(end / period)
    begin = np.arange(rounds) * period + rng.uniform(0.0, 0.1 * period, rounds)
    third = np.array(slow)[np.arange(rounds) % len(slow)]
    pid = np.stack([np.full(rounds, 0x0D), np.full(rounds, 0x0C), third], axis=1).ravel()
    asked = (begin[:, None] + np.arange(3) * period * 0.3).ravel()
    answered = asked + rng.uniform(0.012, min(0.045, period * 0.25), len(asked))
    read = answered - 0.004
    stalled = within(answered, faults, "obd_stall")
    for fault in faults:
        if fault.kind == "obd_stall":  # an adapter that answers from its buffer: the value of the moment it stalled
            read = np.where((answered >= fault.start_s) & (answered < fault.end_s), fault.start_s, read)
    answered = np.where(stalled, asked + 0.28 * period, answered)  # and answers late while it does so
    register = np.floor(read / 0.1) * 0.1  # refreshed every 100 ms
    speed = np.clip(
        np.floor(at(wheel_speeds(motion, units).mean(axis=0), register) * 3.6 * (1.0 + units.obd_scale)), 0, 255
    )
    values = {
        0x0D: speed,
        0x0C: np.round(at(motion.rpm, read) * 4.0),
        0x11: np.round(np.clip(12.0 + 0.85 * at(motion.load, read), 0, 100) * 2.55),
        0x04: np.round(np.clip(18.0 + 0.8 * at(motion.load, read), 0, 100) * 2.55),
        0x05: np.round(ambient + 88.0 * (1.0 - np.exp(-read / 240.0)) * (1.0 - ambient / 88.0) + 40.0),
        0x2F: np.round((62.0 - at(motion.distance, read) / 9000.0) * 2.55),
        0x42: np.round(14_100.0 + rng.normal(0.0, 40.0, len(read))),
    }
    keep = (at(motion.ignition, asked) > 0.5) & ~within(asked, faults, "obd_gap") & (answered < end)
    n = int(keep.sum())
    frames = empty_frames(2 * n)
    frames.id[:n] = REQUEST
    frames.id[n:] = ANSWER
    frames.len[:] = 8
    frames.data[:n, 0] = 2
    frames.data[:, 1] = 0x01
    frames.data[n:, 1] = 0x41
    frames.data[:n, 2] = frames.data[n:, 2] = pid[keep]
    frames.data[n:, 3:] = 0xAA  # padding, as many control units send it
    for number, value in values.items():
        chosen = np.flatnonzero(pid[keep] == number) + n
        raw = np.clip(value[keep][chosen - n], 0, 65535).astype(np.int64)
        if number in (0x0C, 0x42):
            frames.data[chosen, 0], frames.data[chosen, 3], frames.data[chosen, 4] = 4, raw >> 8, raw & 255
        else:
            frames.data[chosen, 0], frames.data[chosen, 3] = 3, np.minimum(raw, 255)
    return np.concatenate([asked[keep], answered[keep]]), frames


def _pulses(speed: Floats, t: Floats, units: Units, rng: np.random.Generator) -> Floats:
    """Return wheel speed in km/h as pulse sensors see it: noisy, and nothing below walking pace."""
    seen = at(speed, t - 0.01) + rng.normal(0.0, units.wheel_noise, len(t))
    return np.asarray(np.where(seen < 0.4, 0.0, seen) * 3.6)
