"""A crash in plain sentences: what happened, how sure that is, and how far its evidence is."""

from dataclasses import dataclass
from typing import Final

from agent.clock import NS_PER_S
from agent.records import Crash
from receiver.contents import Contents
from receiver.crashes import CrashRow, PackageNow
from receiver.explain import G_MPS2, Finding, listed, mount_finding, time_finding
from receiver.views import Figure, when_of
from receiver.words import Words

GOOD_RATE_HZ: Final = 100.0  # of the accelerometer: below, a pulse of 100 ms has too few points
GOOD_PLACE_M: Final = 10.0
WITHIN_S: Final = 0.3  # 49 CFR 563: velocity change of largest magnitude within 300 ms


@dataclass(frozen=True, slots=True)
class PackageWords:
    """How far the package is; `looks` names the state for CSS, `percent` is None where nothing is on its way."""

    looks: str
    label: str
    sentences: list[str]
    percent: int | None


@dataclass(frozen=True, slots=True)
class CrashLine:
    """One crash in a list."""

    row: CrashRow
    kind: str
    when: str
    certain: bool
    hard: str
    package: PackageWords


def line(words: Words, row: CrashRow) -> CrashLine:
    """Put one crash of a list into words."""
    text = words.text
    change = _change(words, row.delta_v_mps, row.clipped)
    side = None if row.direction_clock is None else side_of(words, row.direction_clock)
    said = [part for part in (change, side) if part]
    return CrashLine(
        row=row,
        kind=text.among("crash_kind", row.kind),
        when=when_of(words, row.utc_ns, row.received_utc_ns),
        certain=words.certain(row.clock),
        hard=text("event.separator").join(said) or text("crash.unknown"),
        package=package(words, row.package),
    )


def side_of(words: Words, clock: int) -> str:
    """Name the side of a clock hour."""
    hour = (clock - 1) % 12 + 1
    return words.text(f"crash_from.{hour}")


def lead(words: Words, crash: Crash) -> list[str]:
    """Say in one to four sentences what happened."""
    text = words.text
    said = [_blow(words, crash)]
    if crash.number > 1 and crash.since_previous_ns is not None:
        said.append(text("crash.second", gap=words.duration(crash.since_previous_ns / NS_PER_S)))
    if crash.speed_before_mps is not None and crash.speed_after_mps is not None:
        before, after = words.speed(crash.speed_before_mps), words.speed(crash.speed_after_mps)
        said.append(text("crash_lead.speed.both", before=before, after=after))
    elif crash.speed_before_mps is not None:
        said.append(text("crash_lead.speed.before", before=words.speed(crash.speed_before_mps)))
    if crash.clipped:
        said.append(text("crash_lead.clipped"))
    if not crash.complete:
        said.append(text("crash_lead.early"))
    return said


def _blow(words: Words, crash: Crash) -> str:
    text = words.text
    if crash.kind == "suspected":
        return text("crash_lead.suspected")
    if crash.kind == "rollover":
        if crash.roll_deg is None:
            return text("crash_lead.rollover.bare")
        return text("crash_lead.rollover.angle", angle=words.number(abs(crash.roll_deg), 0))
    change = _change(words, crash.delta_v_mps, crash.clipped)
    if not change:
        return text("crash_lead.impact.none")
    within = words.number(WITHIN_S if crash.delta_v_max_ns is None else max(0.01, crash.delta_v_max_ns / NS_PER_S), 2)
    if crash.direction_clock is None:
        return text("crash_lead.impact.bare", change=change, within=within)
    side = side_of(words, crash.direction_clock)
    return text("crash_lead.impact.from", side=side, change=change, within=within)


def _change(words: Words, mps: float | None, clipped: bool) -> str:
    if mps is None:
        return ""
    return f"{words.text('crash.at_least')} {words.speed(abs(mps))}" if clipped else words.speed(abs(mps))


def figures(words: Words, crash: Crash) -> list[Figure]:
    """Return the five numbers that people ask for."""
    text, unit = words.text, words.text("unit.kmh")

    def speed(name: str, mps: float | None, note: str = "") -> Figure:
        known = mps is not None
        return Figure(name, words.kmh(abs(mps or 0.0)) if known else "–", f"{unit}{note}" if known else "")

    note = f", {text('crash.at_least')}" if crash.clipped else ""
    found = [speed(text("crash.change"), crash.delta_v_mps, note)]
    if crash.kind == "rollover" and crash.roll_deg is not None:
        found.append(Figure(text("crash.roll"), f"{words.number(abs(crash.roll_deg), 0)}°", ""))
    elif crash.direction_clock is not None:
        hour = (crash.direction_clock - 1) % 12 + 1
        found.append(Figure(text("crash.from"), text("crash.oclock", n=hour), ""))
    else:
        found.append(Figure(text("crash.from"), "–", ""))
    found.append(speed(text("crash.before"), crash.speed_before_mps))
    found.append(speed(text("crash.after"), crash.speed_after_mps))
    peak = crash.peak_mps2
    value = "–" if peak is None else words.number(abs(peak) / G_MPS2, 1)
    found.append(Figure(text("crash.peak"), value, "" if peak is None else text("crash.peak_unit") + note))
    return found


def sure(words: Words, row: CrashRow, crash: Crash, contents: Contents) -> list[Finding]:
    """Say how sure it is: what else saw it, how it was measured, direction, time, place, completeness."""
    return [
        _confirmed(words, crash),
        _measured(words, crash),
        mount_finding(words, crash.mount_confidence),
        time_finding(words, row.clock),
        _place(words, crash),
        _record(words, contents),
    ]


def _confirmed(words: Words, crash: Crash) -> Finding:
    text = words.text
    title = text("crash_sure.confirmed.title")
    names = [text.among("crash_by", by) for by in crash.confirmed_by[:8]]
    if names:
        sentence = text("crash_sure.confirmed.some", names=listed(words, names))
        return Finding("fair" if crash.kind == "suspected" else "good", title, sentence[:1].upper() + sentence[1:])
    if crash.kind == "suspected":
        return Finding("poor", title, text("crash_sure.confirmed.suspected"))
    return Finding("fair", title, text("crash_sure.confirmed.none"))


def _measured(words: Words, crash: Crash) -> Finding:
    text = words.text
    title, sensors = text("crash_sure.measured.title"), listed(words, crash.sensors[:8])
    if crash.rate_hz is None:
        return Finding("poor", title, text("crash_sure.measured.none", sensors=sensors))
    key = "clipped" if crash.clipped else "good"
    state = "fair" if crash.clipped or crash.rate_hz < GOOD_RATE_HZ else "good"
    rate = words.number(crash.rate_hz, 0)
    return Finding(state, title, text(f"crash_sure.measured.{key}", rate=rate, sensors=sensors))


def _place(words: Words, crash: Crash) -> Finding:
    text = words.text
    title = text("crash_sure.place.title")
    if crash.latitude is None or crash.longitude is None:
        return Finding("poor", title, text("crash_sure.place.none"))
    if crash.accuracy_m is None:
        return Finding("fair", title, text("crash_sure.place.about"))
    age = words.duration(abs(crash.position_age_ms or 0) / 1000)
    sentence = text("crash_sure.place.known", m=words.number(crash.accuracy_m, 0), age=age)
    return Finding("good" if crash.accuracy_m <= GOOD_PLACE_M else "fair", title, sentence)


def _record(words: Words, contents: Contents) -> Finding:
    text = words.text
    title = text("crash_sure.record.title")
    if contents.complete is None:
        return Finding("fair", title, text("crash_sure.record.coming"))
    if not contents.complete and contents.reached_s is not None:
        return Finding("fair", title, text("crash_sure.record.cut", reached=words.number(contents.reached_s, 1)))
    gaps = sum(max(0.0, b - a) for a, b in contents.gaps_s)
    if gaps > 0:
        return Finding("fair", title, text("crash_sure.record.gaps", gaps=words.number(gaps, 1)))
    return Finding("good", title, text("crash_sure.record.whole"))


def package(words: Words, now: PackageNow, kept: bool = True) -> PackageWords:
    """Say how far a package is; `kept` is false at a receiver that keeps no files."""
    text, check = words.text, now.check
    size, received = size_of(words, now.size), size_of(words, now.received)
    percent = None if now.state == "none" or not now.size else int(100 * min(1.0, now.received / now.size))
    label = text(f"crash_package.{now.state}.label", percent=percent or 0)
    files = text.many("crash.proof_files", check.files) if check else ""
    records = text.many("crash.proof_records", check.records) if check else ""
    values = {"size": size, "received": received, "files": files, "records": records}
    said = [text(f"crash_package.{now.state}.sentence", **values)]
    if now.state == "arriving" and check is not None and check.edition is not None:
        said.append(text("crash_package.newer", edition=check.edition))
    if now.state in ("proved", "failed") and not now.complete:
        said.append(text("crash_package.more"))
    if not kept:
        said = [text("crash_package.kept_nowhere")]
    return PackageWords(now.state, label, said, percent if now.state == "arriving" else None)


def size_of(words: Words, size: int) -> str:
    """Write bytes as people read them."""
    if size < 1000:
        return f"{size} B"
    for unit, scale in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if size < 999.5 * scale or unit == "GB":
            return f"{words.number(size / scale, 1 if size < 99.5 * scale else 0)} {unit}"
    return ""
