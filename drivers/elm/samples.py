"""Answers to one request become samples, if they answer exactly that request."""

from typing import Final, NamedTuple

from agent.channels import BY_NAME
from drivers.decode.j1979 import PIDS, TO_CHANNEL, parameters, values
from drivers.elm.answers import Answer

CURRENT_DATA: Final = 0x41
NEGATIVE: Final = 0x7F


class Reading(NamedTuple):
    """What a reply says: samples (t_ns, channel, value), PIDs answered, and payloads that answer something else."""

    samples: list[tuple[int, int, float]]
    answered: set[int]
    foreign: int
    negative: bool  # a unit said that it will not answer


def channels_of(pid: int) -> bool:
    """Say whether the product stores anything of this PID."""
    return pid in PIDS and any(f.channel for f in PIDS[pid].fields)


def read_answers(
    answers: list[Answer], asked: tuple[int, ...], owner: dict[int, str], sent_ns: int, absent: dict[str, int]
) -> Reading:
    """Turn payloads into samples at the middle between request and answer.

    An answer counts only if all its PIDs were asked for and its bytes are used up exactly: what is left over of an
    earlier exchange, or lost a byte, gives nothing. Where several units answer a PID only the one in `owner` counts.
    Values outside the channel's plausible range are counted in `absent` under 'out_of_range'.
    """
    samples: list[tuple[int, int, float]] = []
    answered: set[int] = set()
    foreign = 0
    negative = False
    for answer in answers:
        payload = answer.payload
        if payload[0] == NEGATIVE:
            negative = True
            continue
        found = list(parameters(payload)) if payload[0] == CURRENT_DATA else []
        if 1 + sum(1 + len(data) for _, data in found) != len(payload) or any(p.number not in asked for p, _ in found):
            foreign += 1
            continue
        t_ns = (sent_ns + answer.t_ns) // 2
        for pid, data in found:
            if owner.get(pid.number, answer.unit) != answer.unit or pid.number in answered:
                continue
            answered.add(pid.number)
            for field, value in values(pid, data):
                if not field.channel:
                    continue
                channel = BY_NAME[field.channel]
                num, den = (1.0, 1.0) if field.unit == channel.unit else TO_CHANNEL[field.unit, channel.unit]
                converted = value * num / den
                if channel.low <= converted <= channel.high:
                    samples.append((t_ns, channel.number, converted))
                else:
                    absent["out_of_range"] = absent.get("out_of_range", 0) + 1
    samples.sort(key=lambda s: s[0])
    return Reading(samples, answered, foreign, negative)
