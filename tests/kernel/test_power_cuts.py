"""Power cuts: migrations, updates, a drive into a collision and its upload, every disk write recorded, cut at any.

What was said to be stored has to be there in whatever the disk may hold at that moment; the store opens, its chain
holds, the receiver has nothing that the car lost. A bad card that answers flushes without doing them may lose the last
seconds, and never silently more. Then the same drive, killed while it runs: QEMU itself ends, with a machine in it that
was kept in the middle of its work.
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.store import Store
from tests.crashing import S
from tests.kernel.cache import CHECKOUT, need
from tests.kernel.conftest import Figure, NewGuest
from tests.kernel.driving import END_S, MOVES, Run, last_entries, record, wear
from tests.kernel.errors import CannotBeHadError
from tests.kernel.judging import CAR, GOOD, Found, Told, Truth, look
from tests.kernel.killing import Kill, boot_again, chosen, counted, kill, live_on_here
from tests.kernel.moving import judge_box, judge_migrated
from tests.kernel.recording import mounted
from tests.kernel.writes import FLUSH, Disk, Log
from tests.power_cuts import BOOT, START_S, ZERO_S

HOW = ("all", "none", "some", "torn")  # "all" is what pulling the plug of a machine with a good disk leaves
AT_ONCE = 4
TELEMETRY_S, VIDEO_S = 1.0, 2.0  # that a cut may cost
# of a disk's images, how many are of each phase
SHARES = {"migrate": 0.15, "upgrade": 0.1, "drive": 0.75}


@pytest.fixture(scope="module")
def workplace() -> Iterator[Path]:
    """A folder in memory where there is one: each cut writes a whole image."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="roadwitness-cuts-", dir=memory if memory.is_dir() else "/var/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def run(new_guest: NewGuest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """What is recorded once, for all tests here."""
    try:
        need("mosquitto")
    except CannotBeHadError as trouble:
        pytest.skip(str(trouble))
    recorded = record(new_guest, tmp_path_factory.mktemp("recorded"))
    yield recorded
    recorded.broker.stop()
    assert recorded.log is not None
    recorded.log.close()


@dataclass
class Known:
    """The run as it was, whatever a disk says later."""

    truth: Truth
    boundaries: list[int]  # of "migrate" and "upgrade" and their turns: the log when each began, and in the end


@pytest.fixture(scope="module")
def known(run: Run, workplace: Path) -> Known:
    """Take the disk as it was in the end, with all that was written."""
    assert run.log is not None
    disk = Disk(run.log, bytearray(run.disk.begun))
    disk.advance(len(run.log.writes))
    image = workplace / "end.img"
    image.write_bytes(disk.cut(random.Random(0), "all"))
    try:
        with mounted(image, workplace / "end") as wrong:
            assert not wrong
            entries = last_entries(workplace / "end" / CAR)
            with Store.open(workplace / "end" / CAR) as store:
                kept = store.read_block(START_S * S, 1 << 62, BOOT)
            for turn in range(MOVES):
                assert not judge_migrated(workplace / f"end/old-{turn}")
                assert not judge_box(workplace / f"end/box-{turn}")
    except CannotBeHadError as trouble:
        pytest.skip(str(trouble))
    image.unlink()
    assert not Truth.of(run.drive, None, exact=False).false(kept)
    assert run.held
    assert all(entries[key] == value for key, value in run.held.items())
    begun = [at for at, _, line in run.disk.said if line.startswith("begins ")]
    over = next(at for at, _, line in run.disk.said if line == f"over upgrade {MOVES - 1}")
    return Known(Truth.of(kept, entries, exact=True), [*begun, over])


def moments_of(run: Run, known: Known, points: int, chance: random.Random) -> list[int]:
    """Return numbers of writes before which power goes, half of them just before a flush is over."""
    assert run.log is not None
    writes, bounds = run.log.writes, known.boundaries
    found: list[int] = []
    for phase, share in SHARES.items():
        spans = {
            "migrate": list(zip(bounds[0::2], bounds[1::2], strict=False)),
            "upgrade": list(zip(bounds[1::2], bounds[2::2], strict=False)),
            "drive": [(bounds[-1], writes[-1].end)],
        }[phase]
        inside = [n for n, w in enumerate(writes) if any(first < w.end <= last for first, last in spans)]
        flushes = [n for n in inside if writes[n].flags & FLUSH]
        count = round(points * share)
        found += chance.choices([*inside, inside[-1] + 1], k=count - count // 2) + chance.choices(flushes, k=count // 2)
    return sorted(found)


def judge(at: Path, told: Told, known: Known) -> Found:
    """Look at what is at work: what is migrated, upgraded, or driven."""
    at_work = [begun for begun in told.begun if begun not in told.over]
    if not told.begun:
        return Found("not begun")
    if not at_work and not told.seqs and len(told.over) < 2 * MOVES:
        at_work = told.over[-1:]
    if not at_work:
        return look(at / CAR, told, known.truth)
    what, turn = at_work[0].split()
    wrong = judge_migrated(at / f"old-{turn}") if what == "migrate" else judge_box(at / f"box-{turn}")
    outcome, _, detail = wrong.partition(": ")
    return Found("whole" if not wrong else outcome if what == "migrate" else "lost", f"{what}: {detail}")


@dataclass
class Cuts:
    """What was found after cuts, and cars as some of them were left."""

    outcomes: Counter[str]
    found: list[Found]
    left: list[dict[str, Any]]


def cut(run: Run, known: Known, points: int, workplace: Path, seed: int, lies: int = 0, keep: int = 0) -> Cuts:
    """Cut the power at so many moments; return what was found, and `keep` cars as they were left."""
    assert run.log is not None
    chance = random.Random(seed)
    moments = moments_of(run, known, points, chance)
    driving = [n for n, moment in enumerate(moments) if run.log.writes[moment - 1].end > known.boundaries[-1]]
    kept = set(driving[:: max(1, len(driving) // keep)][:keep]) if keep else set()
    each = [(moment, HOW[n % len(HOW)], n in kept) for n, moment in enumerate(moments)]
    # mounting is waiting, mostly
    with ThreadPoolExecutor(AT_ONCE) as pool:
        parts = list(
            pool.map(
                lambda n: _cut(run, known, each[n::AT_ONCE], workplace / f"{seed}-{n}", random.Random(seed + n), lies),
                range(AT_ONCE),
            )
        )
    return Cuts(
        sum((part.outcomes for part in parts), Counter()),
        [seen for part in parts for seen in part.found],
        [car for part in parts for car in part.left],
    )


def _cut(
    run: Run, known: Known, moments: list[tuple[int, str, bool]], folder: Path, chance: random.Random, lies: int
) -> Cuts:
    """Cut the power at these moments, in their order: number of a write, how, whether the car is kept."""
    folder.mkdir()
    log = Log(run.recorded)
    disk, told, heard = Disk(log, bytearray(run.disk.begun), lies), Told(), 0
    cuts = Cuts(Counter(), [], [])
    image, at = folder / "cut.img", folder / "cut"
    for moment, how, keep in moments:
        disk.advance(moment)
        end = log.writes[moment - 1].end
        while heard < len(run.disk.said) and run.disk.said[heard][0] <= end:
            told.hear(run.disk.said[heard][2])
            heard += 1
        image.write_bytes(disk.cut(chance, how))
        with mounted(image, at) as wrong:
            if wrong.startswith("lost"):
                seen = Found("unmountable", wrong)
            else:
                if keep and told.now_ns:
                    left = folder / f"left-{moment}-{how}"
                    shutil.copytree(at / CAR, left, ignore=shutil.ignore_patterns("*.sock"))
                    cuts.left.append({"folder": str(left), "kill_s": told.now_ns / S})
                seen = judge(at, told, known)
                if wrong and seen.outcome == "whole":
                    seen.outcome = "mended"
        cuts.outcomes[f"{how} {seen.outcome}"] += 1
        seen.detail = f"cut at {moment} ({how}): {seen.detail}"
        cuts.found.append(seen)
    image.unlink()
    log.close()
    return cuts


def recover(run: Run, cars: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Boot each car on this machine, with what a cut left it, and wait until its package is whole."""
    lines = "".join(json.dumps(run.given(found=True, speed=8.0, **car)) + "\n" for car in cars)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.power_cuts", "4"],
        cwd=CHECKOUT, input=lines, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(cars), done.stderr[-2000:]
    for one in said:
        assert one.get("whole"), (one, done.stderr[-2000:])
        assert one["ended"] == [0, 0], one
        with Store.open(Path(one["given"]["folder"])) as store:
            assert store.verify().ok
    for car in cars:
        shutil.rmtree(car["folder"])
    return said


def judge_lost(found: list[Found], figure: Figure) -> None:
    """Hold what was lost while driving to what is promised."""
    for name, most_s, lost in (
        ("telemetry", TELEMETRY_S, [f.telemetry_s for f in found]),
        ("video", VIDEO_S, [f.video_s for f in found]),
    ):
        known_s = sorted(s for s in lost if s is not None)
        shown = f"s at most, {known_s[len(known_s) // 2]:.2f} s half of the time, of {len(known_s)} cuts"
        figure(f"{name} lost while driving", known_s[-1], shown)
        assert known_s[-1] <= most_s, (name, known_s[-5:])


def judge_honest(run: Run, known: Known, points: int, workplace: Path, figure: Figure, keep: int) -> None:
    cuts = cut(run, known, points, workplace, seed=points, keep=keep)
    found = cuts.found
    bad = [seen for seen in found if seen.outcome not in GOOD]
    figure("crash images of an honest disk", len(found))
    figure("of them bad", len(bad))
    assert not bad, (bad[:5], cuts.outcomes)
    judge_lost(found, figure)
    assert sum(seen.outcome == "whole" for seen in found) > points // 2, cuts.outcomes
    figure("packages whole after the next boot", len(recover(run, cuts.left)), f"of {len(cuts.left)} tried")


def kills(run: Run, workplace: Path, count: int, keep: int) -> list[Kill]:
    """Kill the machine so often; `keep` of the cars are kept as they were left."""
    chance = random.Random(count)
    truth = Truth.of(run.drive, None, exact=False)
    names = chosen(count)
    cars = [n for n, name in enumerate(names) if not run.moments[name].line]
    kept = set(cars[:: max(1, len(cars) // keep)][:keep])
    done: list[Kill] = []
    for number, name in enumerate(names):
        folder = workplace / f"killed-{number}-of-{count}" if number in kept else None
        if folder is not None:
            folder.mkdir()
        done.append(kill(run, truth, name, chance, workplace, folder))
        if number % 25 == 24:
            print(
                f"{number + 1} kills, {sum(k.found.outcome not in GOOD for k in done)} bad; {counted(done)}", flush=True
            )
    return done


def judge_kills(done: list[Kill], figure: Figure) -> None:
    bad = [killed for killed in done if killed.found.outcome not in GOOD]
    figure("kills of the machine", len(done))
    figure("they met", counted(done))
    figure("of them bad", len(bad))
    assert not bad, bad[:5]
    judge_lost([killed.found for killed in done], figure)


def live_on(run: Run, done: list[Kill], workplace: Path, figure: Figure, boots: int) -> None:
    """Let the cars that were kept live on: some on the machine itself, booted from what the kill left it."""
    kept = [killed for killed in done if killed.car is not None]
    chosen_boots = kept[:: max(1, len(kept) // boots)][:boots] if boots else []
    for killed in chosen_boots:
        assert killed.car is not None
        seen = boot_again(run, killed, killed.car.parent, workplace)
        assert seen.outcome == "whole", (killed, seen)
    figure("cars that lived on after a real boot of the machine, all sent once", len(chosen_boots))
    others = [killed for killed in kept if killed not in chosen_boots]
    for killed in others:
        seen = live_on_here(run, killed)
        assert seen.outcome == "whole", (killed, seen)
    figure("cars that lived on elsewhere, all sent once", len(others))


# The longest first: xdist gives a worker its next file while two tests of this one are left.
def test_a_machine_killed_at_300_moments_keeps_all_that_was_told_and_goes_on(
    run: Run, workplace: Path, figure: Figure
) -> None:
    done = kills(run, workplace, 300, keep=32)
    judge_kills(done, figure)
    live_on(run, done, workplace, figure, boots=6)


@pytest.mark.short
def test_a_machine_killed_at_6_moments_keeps_all_that_was_told(run: Run, workplace: Path, figure: Figure) -> None:
    done = kills(run, workplace, 6, keep=1)
    judge_kills(done, figure)
    live_on(run, done, workplace, figure, boots=0)


def test_an_honest_disk_keeps_all_that_was_told_at_any_of_1600_cuts(
    run: Run, known: Known, workplace: Path, figure: Figure
) -> None:
    judge_honest(run, known, 1600, workplace, figure, keep=36)


def test_a_card_that_lies_about_its_last_flushes_loses_the_end_and_never_silently_more(
    run: Run, known: Known, workplace: Path, figure: Figure
) -> None:
    cuts = cut(run, known, 300, workplace, seed=2, lies=3)
    figure("crash images of a lying card", len(cuts.found))
    for outcome, count in sorted(Counter(seen.outcome for seen in cuts.found).items()):
        figure(f"of them {outcome}", count)
    silent = [seen for seen in cuts.found if seen.outcome in ("false", "refused")]
    assert not silent, (silent[:5], cuts.outcomes)
    assert any(seen.outcome == "lost" for seen in cuts.found), "the judge here sees nothing that is lost"


@pytest.mark.short
def test_an_honest_disk_keeps_all_that_was_told_at_any_of_100_cuts(
    run: Run, known: Known, workplace: Path, figure: Figure
) -> None:
    for what, to_s in (("driving", ZERO_S), ("driving with a collision", END_S)):
        written, flushes = wear(run, START_S, to_s)
        figure(f"written an hour of {what}, by {to_s - START_S} s of it", written / 1e6, "MB")
        figure(f"flushes an hour of {what}", round(flushes))
    judge_honest(run, known, 100, workplace, figure, keep=3)
