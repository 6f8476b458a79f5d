"""Sync and uploads over the kernel's own bad links: cuts, pulled cables, delay, loss, and how full the link gets."""

import hashlib
import random

import pytest

from tests.kernel.conftest import Figure
from tests.kernel.guest import Guest
from tests.kernel.network import FAR, Link, Radio

CUT, SLOW, LOSSY = 0, 1, 2  # cars
LINKS = [Link(300, 2, 256), Link(800, 10, 32), Link(100, 10, 512)]
CLIP_BYTES = 400_000
FULL_S = 30.0  # of the link's time, for a clip that fills it
MOST_AGAIN = 12 * 16_384  # what may be under way when a link of this rate is cut
CUTS = {
    "a tunnel": ("netem loss 100%", LINKS[CUT].netem),
    "a pulled cable": ("ip -n far link set down0 down", "ip -n far link set down0 up"),
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


@pytest.mark.parametrize("n", [SLOW, LOSSY], ids=lambda n: str(LINKS[n]))
def test_a_clip_over_a_link_that_loses_arrives_whole_and_once(radio: Radio, figure: Figure, n: int) -> None:
    link = LINKS[n]
    size = round(link.carries * FULL_S)
    before = radio.sent_bytes(n)
    asked = radio.say(n, f"clip {size}")
    ended = radio.until(n, lambda told: told["acknowledged"]["clip"] == 1 and told["left"] == 0)
    assert arrived_whole(radio, n, 1, size)
    assert held_once(radio, n)
    assert ended["again"] <= MOST_AGAIN
    figure(f"{link}: a clip, of what TLS over TCP can carry", size / (ended["t"] - asked) / link.carries)
    figure(f"{link}: Mathis' bound for cubic's kind, of the same", link.mathis / link.carries)
    figure(f"{link}: bytes of the card for each of the clip", (radio.sent_bytes(n) - before) / size)
