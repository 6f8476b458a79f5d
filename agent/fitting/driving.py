"""Steps on the road: learning how the box sits, and the acceptance drive, both watched through the daemon's ticks."""

import threading
from collections.abc import Iterator
from typing import Final

from agent import clock
from agent.clock import NS_PER_S
from agent.fitting.acceptance import Acceptance
from agent.fitting.fitting import Fitting, item
from agent.fitting.sheet import Item
from agent.fitting.talk import rows_of
from agent.local import client
from agent.local.client import LocalError
from agent.local.messages import Tick

BAR: Final = 24  # characters of a progress bar: fits 45 columns with its words
LOST_S: Final = 60.0  # the agent is started again by systemd within seconds
AGAIN_S: Final = 1.0
_never: Final = threading.Event()


def mount(fitting: Fitting) -> list[Item]:
    """Watch how sure the agent is of the box's orientation, until it is sure enough or the time is over."""
    rules, expected = fitting.answers.drive, fitting.expected()
    if not expected.imu_hz:
        return [item("mount", "Orientation", "absent", "no motion sensor is configured")]
    fitting.running()
    _set_off(
        fitting, "Fix the box firmly: it must not move any more. Then start off and brake firmly on a straight road."
    )
    least, reached, begun_ns = rules.confidence, 0.0, clock.monotonic_ns()
    with fitting.talk.live() as show:
        for tick in ticks(fitting):
            if tick.fused is not None and tick.fused.mount is not None:
                reached = tick.fused.mount
            passed_s = (clock.monotonic_ns() - begun_ns) / NS_PER_S
            done = reached >= least
            value = f"{_bar(reached / least)} {100 * min(1.0, reached / least):.0f} %"
            row = ("pass" if done else "open", "Orientation", value, "")
            show(f"{passed_s / 60:.0f} of at most {rules.mount_s / 60:.0f} min: start off and brake firmly", [row])
            if done or passed_s >= rules.mount_s:
                break
    value = f"confidence {100 * reached:.0f} %, {100 * least:.0f} % needed"
    advice = "Is it fixed firmly? Brake and start off firmly on a straight road; the agent goes on learning by itself."
    items = [
        item("mount", "Orientation", "pass" if reached >= least else "fail", value, "" if reached >= least else advice)
    ]
    fitting.talk.rows(rows_of(items))
    return items


def drive(fitting: Fitting) -> list[Item]:
    """Watch the drive until every check has passed, or the time for driving and for parking is over."""
    rules = fitting.answers.drive
    fitting.running()
    acceptance = Acceptance(rules, fitting.expected())
    _set_off(fitting, "Drive about ten minutes, with a stop, a left and a right turn; then park, engine off.")
    parked_s: float | None = None
    with fitting.talk.live() as show:
        for tick in ticks(fitting):
            acceptance.take(tick)
            checks = acceptance.checks()
            if parked_s is None and (acceptance.closing() or acceptance.seconds >= rules.seconds):
                parked_s = acceptance.seconds
            show(_headline(acceptance, parked_s, rules.seconds), [(c.state, c.name, c.value, "") for c in checks])
            if acceptance.over() or (parked_s is not None and acceptance.seconds >= parked_s + rules.close_s):
                break
    items = acceptance.items()
    fitting.talk.rows([row for row in rows_of(items) if row[0] in ("fail", "warn")])
    return items


def _headline(acceptance: Acceptance, parked_s: float | None, most_s: float) -> str:
    if parked_s is not None:
        return f"{acceptance.seconds / 60:.0f} min: park and switch the engine off; waiting for the trip to close"
    return f"{acceptance.seconds / 60:.0f} of at most {most_s / 60:.0f} min of driving"


def ticks(fitting: Fitting) -> Iterator[Tick]:
    """Yield the daemon's ticks; one that ends is awaited for a while. Raise LocalError where it stays away."""
    lost_ns: int | None = None
    while True:
        try:
            for tick in client.watch(fitting.store):
                lost_ns = None
                yield tick
        except LocalError:
            now_ns = clock.monotonic_ns()
            lost_ns = now_ns if lost_ns is None else lost_ns
            if now_ns - lost_ns > LOST_S * NS_PER_S:
                raise
        clock.wait(_never, AGAIN_S)


def _set_off(fitting: Fitting, text: str) -> None:
    fitting.talk.say(f"{text} Whoever drives does not look at this screen.")
    fitting.talk.choose("Ready?", {"d": "drive"}, "d")


def _bar(share: float) -> str:
    full = round(BAR * min(1.0, max(0.0, share)))
    return "━" * full + "·" * (BAR - full)
