"""Sync and uploads over the kernel's own bad links: cuts, pulled cables, delay, loss, and how full the link gets."""

import hashlib
import json
import random
from dataclasses import dataclass

import pytest

from agent.tcp import CONGESTION
from tests.kernel.conftest import Figure
from tests.kernel.guest import Guest
from tests.kernel.network import FAR, Link, Radio

# Time counts instructions: a busy host makes the test longer, not the link faster than who fills it.
MACHINE = {"icount": 0}
FULL = [
    Link(100, 1, 32),
    Link(100, 1, 512),
    Link(100, 10, 512),
    Link(300, 2, 256),
    Link(300, 5, 128),
    Link(800, 1, 512),
    Link(800, 10, 32),
    Link(800, 10, 512),
]
CUT = len(FULL)  # a car of its own
LINKS = [*FULL, Link(300, 2, 256)]
CLIP_BYTES = 400_000
FULL_S = 200  # of the link's time, for a clip that fills it, and for the streams beside it
TAIL_S = 3.0  # of it is on its way when nothing is left to send; the streams have no such end
ENOUGH = 0.95
LUCK = 0.8  # where chance is large: see the last test
MOST_AGAIN = 12 * 16_384  # what may be under way when a link of this rate is cut
CUTS = {
    "a tunnel": ("netem loss 100%", LINKS[CUT].netem),
    "a pulled cable": (f"ip -n far link set down{CUT} down", f"ip -n far link set down{CUT} up"),
}


@pytest.fixture(scope="module")
def radio(guest: Guest) -> Radio:
    made = Radio(guest, LINKS)
    made.start(*range(len(LINKS)))
    return made


def do(radio: Radio, what: str) -> None:
    if what.startswith("netem"):
        radio.shape(CUT, what)
    else:
        radio.guest.run(what)


def arrived_whole(radio: Radio, n: int, which: int, size: int) -> bool:
    """Say whether the receiver has a car's clip, the `which`th that was made, as it was made."""
    made = hashlib.sha256(random.Random(n * 1000 + which).randbytes(size)).hexdigest()
    return made in radio.guest.run(f"sha256sum {FAR}/files/{radio.device(n)}/*/clip-{which}.mp4").out


def held_once(radio: Radio, n: int) -> bool:
    """Say whether the receiver has every entry of a car, and each once."""
    device = radio.device(n)
    rows = radio.asked(
        f"SELECT lane, count(*), count(DISTINCT seq), max(seq) FROM entry WHERE device='{device}' GROUP BY lane"
    )
    held = {lane: int(count) for lane, count, distinct, last in rows if count == distinct == last}
    return len(held) == len(rows) and held == {lane: seq for lane, seq in radio.heads(n).items() if seq}


@pytest.mark.parametrize("how", CUTS)
def test_after_a_cut_the_crash_goes_first_and_the_clip_goes_on_where_it_was(
    guest: Guest, radio: Radio, figure: Figure, how: str
) -> None:
    cut, mend = CUTS[how]
    which = 1 + list(CUTS).index(how)
    acknowledged = radio.states(CUT)[-1]
    radio.say(CUT, f"clip {CLIP_BYTES}")
    begun = radio.until(CUT, lambda told: told["held"] > CLIP_BYTES * 0.3)
    do(radio, cut)
    radio.say(CUT, "summaries 300")
    radio.say(CUT, "crash")
    radio.until(CUT, lambda told: told["trouble"] == "offline")
    births = radio.came(CUT).count("birth")
    do(radio, mend)
    mended = radio.uptime()
    crashes = acknowledged["acknowledged"]["crash"] + 1
    told = radio.until(CUT, lambda told: told["acknowledged"]["crash"] == crashes)
    figure(f"{how}: until the crash is acknowledged, from the mending", told["t"] - mended, "s")
    ended = radio.until(CUT, lambda told: told["left"] == 0 and told["caught_up"])

    came = radio.came(CUT)
    reborn = [i for i, topic in enumerate(came) if topic == "birth"][births]
    after = [topic for topic in came[reborn:] if topic.startswith(("up/", "file/"))]
    assert after[0] == "up/crash"
    chunks = [
        int(topic.split("/")[2]) for topic in after if topic.startswith("file/") and topic.split("/")[2].isdigit()
    ]
    assert min(chunks) >= begun["held"] - 16_384, "it goes on where it was"
    assert arrived_whole(radio, CUT, which, CLIP_BYTES)
    assert held_once(radio, CUT)
    again = ended["again"] - acknowledged["again"]
    assert again <= MOST_AGAIN
    figure(f"{how}: sent twice of {CLIP_BYTES} bytes", again, "bytes")


@dataclass
class Filled:
    """What a link carried, each as a share of what it can carry."""

    clip: float  # from the first bytes of it that the receiver had, while there were more to send
    plain: dict[str, float]  # by congestion control


@pytest.fixture(scope="module")
def filled(radio: Radio) -> list[Filled]:
    """Fill all links at once: each with a clip, and with plain TCP the links that are like it."""
    plain = radio.plain_tcp(FULL_S, *range(len(FULL)))
    sizes = [round(link.carries * FULL_S) for link in FULL]
    asked = [radio.say(n, f"clip {size}") for n, size in enumerate(sizes)]
    for n in range(len(FULL)):
        radio.until(n, lambda told: told["acknowledged"]["clip"] == 1 and told["left"] == 0, 1800.0)
    streams = [json.loads(line) for line in plain.wait(600.0).out.splitlines()]
    made = []
    for n, link in enumerate(FULL):
        upto = sizes[n] - link.carries * TAIL_S
        held = [
            (told["t"], told["held"]) for told in radio.states(n) if told["t"] > asked[n] and 0 < told["held"] < upto
        ]
        (first_s, first), (last_s, last) = held[0], max(held, key=lambda at: (at[1], -at[0]))
        share = (last - first) / (last_s - first_s) / link.carries
        made.append(Filled(share, {s["control"]: s["bytes_s"] / link.plain for s in streams if s["car"] == n}))
    return made


@pytest.mark.parametrize("n", range(len(FULL)), ids=lambda n: str(FULL[n]))
def test_a_clip_fills_a_link_that_loses_as_tcp_can(radio: Radio, filled: list[Filled], figure: Figure, n: int) -> None:
    link, shares = FULL[n], filled[n]
    assert radio.control(n) == CONGESTION[0]
    figure(f"{link}: a clip", shares.clip, "of what TLS over TCP can carry")
    for control, share in shares.plain.items():
        figure(f"{link}: plain TCP with {control}", share, "of what TCP can carry")
    figure(f"{link}: Mathis' bound for cubic's kind", link.mathis / link.plain, "of the same")
    assert arrived_whole(radio, n, 1, round(link.carries * FULL_S))
    assert held_once(radio, n)
    assert radio.states(n)[-1]["again"] <= MOST_AGAIN
    # Where a packet in ten is lost, plain streams of 100 s carry 0.66 one time and 0.92 another, and clips 0.66 to 0.78
    # of the slowest link (some twelve of each): over 200 s a fifth is about three times that spread.
    chance = link.loss_percent >= 10
    assert shares.clip >= (LUCK * sum(shares.plain.values()) / len(shares.plain) if chance else ENOUGH)
