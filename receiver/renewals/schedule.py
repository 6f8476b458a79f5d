"""When to contact the owner of a policy that ends: dates from schedules that are data."""

import tomllib
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from agent.errors import ConfigError, near_names
from agent.known import known

SCHEDULES: Final = Path(__file__).with_name("schedules.toml")
Kind = Literal["sms", "call", "task", "list", "contact", "track", "collate", "target", "escalate"]


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a schedule; the words stand in schedules.toml."""

    kind: Kind
    days: int | None = None
    until: int | None = None
    slots: int = 0
    sms: bool = False
    rule: Literal["turn_of_month", "weekdays", "month_before"] | None = None
    weekdays: list[int] = []
    day: int = 0


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the schedules."""

    en: str
    zh: str
    source: str
    verified: bool
    steps: list[Step]
    sms_use_classes: list[str] | None = None  # None: all


class Contact(NamedTuple):
    """What to do on a day, or until a later one."""

    day: date
    kind: Kind
    until: date | None = None
    slots: int = 0
    sms: bool = False


@cache
def schedules(path: Path = SCHEDULES) -> dict[str, Schedule]:
    """Read the schedules; raise ConfigError naming what is wrong."""
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=known(dict[str, Schedule]))
    except (OSError, msgspec.DecodeError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"{path}: {e}") from e
    for name, schedule in found.items():
        for step in schedule.steps:
            if (step.days is None) == (step.rule is None):
                raise ConfigError(f"{path}: {name}: a step needs either days or a rule")
            if not all(0 <= w <= 6 for w in step.weekdays) or not 0 <= step.day <= 28:
                raise ConfigError(f"{path}: {name}: weekdays are 0 to 6, a day of the month 1 to 28")
    return found


def schedule(name: str) -> Schedule:
    """Return a schedule by its name; raise ConfigError listing near names."""
    known = schedules()
    if name not in known:
        raise ConfigError(f"schedule {name!r}: there is none{near_names(name, known)}; known: {', '.join(known)}")
    return known[name]


def contacts(of: Schedule, ends: date, use_class: str = "family") -> list[Contact]:
    """Return what to do for a policy whose last day is `ends`, in order of days."""
    with_sms = of.sms_use_classes is None or use_class in of.sms_use_classes
    found = [c for step in of.steps for c in _dates(of, step, ends)]
    return sorted((c._replace(sms=c.sms and with_sms) for c in found), key=lambda c: (c.day, c.kind))


def _dates(of: Schedule, step: Step, ends: date) -> Iterator[Contact]:
    sms = step.sms or step.kind == "sms"
    if step.days is not None:
        until = None if step.until is None else ends + timedelta(step.until)
        yield Contact(ends + timedelta(step.days), step.kind, until, step.slots, sms)
        return
    if step.rule == "month_before":
        before = ends.replace(day=1) - timedelta(1)
        yield Contact(before.replace(day=step.day), step.kind)
        return
    listed = ends + timedelta(min((s.days for s in of.steps if s.days is not None), default=0))
    last_of_month = (listed.replace(day=1) + timedelta(32)).replace(day=1) - timedelta(1)
    if step.rule == "turn_of_month":
        yield Contact(last_of_month, step.kind, last_of_month + timedelta(2))
        return
    day = last_of_month + timedelta(3)
    while day <= ends:
        if day.weekday() in step.weekdays:
            yield Contact(day, step.kind)
        day += timedelta(1)
