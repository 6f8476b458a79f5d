"""What happened and how good the data are, in plain sentences: each says only what the record itself says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.clock import NS_PER_S
from agent.records import DRIVING_KINDS, SEVERITIES, Event, Quality
from receiver.charts import Chart, window_chart
from receiver.queries import BootClock, EventRow
from receiver.words import Words

G_MPS2: Final = 9.80665
FORCES: Final = ("harsh_braking", "harsh_acceleration", "harsh_cornering")
# shares of a trip (0..1) from which a word is used
GOOD_SHARE: Final = 0.95
FAIR_SHARE: Final = 0.7
GOOD_MOUNT: Final = 0.8
GAP_S: Final = 10.0  # shorter gaps are bridged without a doubt
MOST_DETAIL: Final = 200  # characters of a record's own words that a page shows
STANDING_MPS: Final = 0.5  # slower is not driving


@dataclass(frozen=True, slots=True)
class Told:
    """One event in words. `mark` is the number of its pin and flag; `looks` names severity and confirmation for CSS."""

    mark: int
    id: int
    looks: str
    kind: str
    severity: str
    confirmed: bool
    counts: bool  # it may weigh in a score: confirmed, and about driving
    utc_ns: int | None
    certain: bool
    time: str
    hard: str
    threshold: str
    levels: str
    duration: str
    before: str
    where: str
    detail: str
    sources: list[str]
    why: list[str]
    rule: str
    chart: Chart | None
    lateral: bool  # the chart shows the force across the car
    trip_id: int | None
    received_utc_ns: int
    place: tuple[float, float] | None
    t_ns: int
    duration_ns: int


def tell(words: Words, row: EventRow, mark: int, origin_ns: int | None) -> Told:
    """Put one event into words; where its time is not known it counts from `origin_ns`, the trip's start."""
    event, text = row.record, words.text
    utc_ns = row.clock.utc_ns(event.t_ns)
    known = event.latitude is not None and event.longitude is not None
    return Told(
        mark=mark,
        id=row.id,
        looks=f"{event.severity} {'confirmed' if event.confirmed else 'unconfirmed'}",
        kind=text.among("kind", event.kind),
        severity=text.among("severity", event.severity),
        confirmed=event.confirmed,
        counts=event.confirmed and event.kind in DRIVING_KINDS,
        utc_ns=utc_ns,
        certain=words.certain(row.clock),
        time=moment(words, row.clock, event.t_ns, origin_ns),
        hard=how_hard(words, event),
        threshold=threshold(words, event),
        levels=_levels(words, event),
        duration=words.duration(event.duration_ns / NS_PER_S),
        before=text("event.unknown") if event.speed_before_mps is None else words.speed(event.speed_before_mps),
        where=words.coordinates(event.latitude or 0.0, event.longitude or 0.0) if known else text("event.no_place"),
        detail=_detail(event),
        sources=[text.among("source", s) for s in event.sources],
        why=list(why(words, event)),
        rule=event.rule,
        chart=window_chart(event, _limits(words, event), relative(words, event.t_ns)),
        lateral=event.kind == "harsh_cornering",
        trip_id=row.trip_id,
        received_utc_ns=row.received_utc_ns,
        place=words.shown(event.latitude or 0.0, event.longitude or 0.0) if known else None,
        t_ns=event.t_ns,
        duration_ns=event.duration_ns,
    )


def moment(words: Words, clock: BootClock, t_ns: int, origin_ns: int | None) -> str:
    """Write the time of day of a monotonic time, or how long after `origin_ns` it was."""
    utc_ns = clock.utc_ns(t_ns)
    if utc_ns is not None:
        return words.seconds(utc_ns)
    return words.text("time.unknown") if origin_ns is None else f"+{words.elapsed(t_ns - origin_ns)}"


def relative(words: Words, zero_ns: int) -> Callable[[int], str]:
    """Return what writes seconds before and after a time."""
    return lambda t_ns: words.text("unit.seconds", n=f"{(t_ns - zero_ns) / NS_PER_S:+.0f}".replace("-", "−"))


def how_hard(words: Words, event: Event) -> str:
    """Say how hard, fast or long it was."""
    text, peak = words.text, abs(event.peak)
    match event.kind:
        case "harsh_braking" | "harsh_acceleration":
            return text(f"hard.{event.kind}", peak=words.number(peak), rate=words.kmh(peak))
        case "harsh_cornering":
            side = "left" if event.peak >= 0 else "right"  # y is to the left (ISO 8855)
            return text(f"hard.harsh_cornering.{side}", peak=words.number(peak), g=words.number(peak / G_MPS2, 2))
        case "speeding" if event.limit_mps:
            over = words.kmh(peak - event.limit_mps)
            return text("hard.speeding.limit", speed=words.kmh(peak), limit=words.kmh(event.limit_mps), over=over)
        case "speeding":
            return text("hard.speeding.bare", speed=words.kmh(peak))
        case "idling" | "fatigue":
            return text(f"hard.{event.kind}", duration=words.duration(peak))
        case "over_rev":
            return text("hard.over_rev", rpm=words.number(peak, 0))
        case "power_lost":
            return text(
                "hard.power_lost.moving" if peak > STANDING_MPS else "hard.power_lost.standing", speed=words.kmh(peak)
            )
        case "towed":
            return text("hard.towed.tilted" if event.unit == "deg" else "hard.towed.moved", peak=words.number(peak, 0))
        case "device_moved":
            return text("hard.device_moved", peak=words.number(peak, 0))
        case "gnss_lost" | "clock_unknown":
            return text(f"hard.{event.kind}", duration=words.duration(peak))
        case "vin_mismatch" | "dtc_set" | "dtc_cleared":
            return text(f"hard.{event.kind}", detail=_detail(event) or text("event.unknown"))
        case "bump" | "parked_impact" | "low_battery" | "gnss_jammed" | "over_temperature" | "disk_nearly_full":
            return text(f"hard.{event.kind}", peak=words.number(peak))
        case _ if event.unit == "s":
            return text("hard.lasting", duration=words.duration(peak))
        case _:
            return text("hard.other", peak=words.number(peak), unit=event.unit)


def _detail(event: Event) -> str:
    return event.detail[:MOST_DETAIL]


def threshold(words: Words, event: Event) -> str:
    """Say from where its severity begins, as the record has it; "" where a thing is there or not, without a measure."""
    if event.levels is None:
        return words.text("event.no_levels") if event.kind in DRIVING_KINDS else ""
    level = event.levels[SEVERITIES.index(event.severity)]
    severity = words.text.among("severity", event.severity)
    return words.text("event.threshold", severity=severity, level=_level(words, event, level))


def _levels(words: Words, event: Event) -> str:
    if event.levels is None:
        return words.text("event.no_levels") if event.kind in DRIVING_KINDS else ""
    shown = [
        f"{words.text.among('severity', s)} {_level(words, event, v)}"
        for s, v in zip(SEVERITIES, event.levels, strict=True)
    ]
    return words.text("event.separator").join(shown)


def _level(words: Words, event: Event, value: float) -> str:
    match event.unit:
        case "m/s":
            return words.speed(value)
        case "s":
            return words.duration(value)
        case "rpm":
            return words.text("unit.rpm", n=words.number(value, 0))
        case "m/s2":
            return f"{words.number(value)} {words.text('unit.mps2')}"
        case _:
            return f"{words.number(value)} {event.unit}"


def _limits(words: Words, event: Event) -> list[tuple[float, str]]:
    """Return the levels to draw into the window: for forces only, on the side where the force was."""
    if event.levels is None or event.kind not in FORCES:
        return []
    sign = -1.0 if event.peak < 0 else 1.0
    reached = SEVERITIES.index(event.severity)
    return [
        (sign * v, words.text.among("severity", s))
        for i, (s, v) in enumerate(zip(SEVERITIES, event.levels, strict=True))
        if i <= reached + 1 and abs(v) < 100
    ]


def listed(words: Words, sources: Sequence[str]) -> str:
    """Name sources in one phrase."""
    text = words.text
    names = [text.among("source", s) for s in sources]
    if not names:
        return text("event.unknown")
    head = text("event.separator").join(names[:-1])
    return f"{head}{text('event.and')}{names[-1]}" if head else names[-1]


def why(words: Words, event: Event) -> Sequence[str]:
    """Say why an event counts or why it does not, and what its rule asks for."""
    text = words.text
    unoriented = event.rule.startswith("harsh_unoriented")
    sources = listed(words, event.sources)
    said = []
    if event.kind not in DRIVING_KINDS:
        said.append(text("why.no_driving"))
        if not event.confirmed:
            said.append(text("why.suspected"))
    elif event.confirmed:
        said.append(text("why.agreed" if len(event.sources) > 1 else "why.confirmed", sources=sources))
    elif unoriented:
        said.append(text("why.unoriented"))
    elif event.speed_before_mps is None and event.kind in FORCES:
        said.append(text("why.no_speed", sources=sources))
    elif len(event.sources) == 1:
        said.append(text("why.single", source=sources))
    elif event.kind in FORCES:
        # they saw it, but the milder of them stayed below the threshold (agent.detect.harsh)
        said.append(text("why.too_mild", sources=sources))
    else:
        said.append(text("why.unconfirmed", sources=sources))
    said.append(text(f"rule.{event.kind}"))
    return said


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about the data; `state` is good, fair or poor."""

    state: str
    title: str
    sentence: str


def findings(words: Words, quality: Quality, clock: BootClock, duration_s: float) -> list[Finding]:
    """Say how good a trip's data are: time, gaps, speed, position, mount."""
    text = words.text
    said = [time_finding(words, clock)]
    if quality.longest_gap_s <= GAP_S:
        sentence = text("quality.gaps.none" if quality.gap_s <= 0 else "quality.gaps.small")
        said.append(Finding("good", text("quality.gaps.title"), sentence))
    else:
        total, longest = words.duration(quality.gap_s), words.duration(quality.longest_gap_s)
        share = quality.gap_s / duration_s if duration_s > 0 else 1.0
        sentence = text("quality.gaps.some", total=total, longest=longest)
        said.append(Finding("fair" if share < 1 - GOOD_SHARE else "poor", text("quality.gaps.title"), sentence))
    shares = sorted(quality.speed_share.items(), key=lambda item: (-item[1], item[0]))[:8]
    best = shares[0][1] if shares else 0.0
    listed = text("event.separator").join(
        f"{text.among('source', n)} {words.percent(s)}\N{NO-BREAK SPACE}%" for n, s in shares
    )
    sentence = text("quality.speed.shares", shares=listed) if shares else text("quality.speed.none")
    said.append(Finding(_state(best), text("quality.speed.title"), sentence))
    key = "none" if quality.position_share <= 0 else "share"
    sentence = text(f"quality.position.{key}", share=words.percent(quality.position_share))
    said.append(Finding(_state(quality.position_share), text("quality.position.title"), sentence))
    said.append(mount_finding(words, quality.mount_confidence))
    return said


def mount_finding(words: Words, confidence: float) -> Finding:
    """Say how well it is known how the box sits."""
    key = "none" if confidence <= 0 else "sure" if confidence >= GOOD_MOUNT else "unsure"
    sentence = words.text(f"quality.mount.{key}", share=words.percent(confidence))
    return Finding(_mount(confidence), words.text("quality.mount.title"), sentence)


def time_finding(words: Words, clock: BootClock) -> Finding:
    """Say how well a boot's time is known."""
    text = words.text
    quality = clock.quality if clock.offset_ns is not None else "none"
    state = {"gnss": "good", "ntp": "good", "restored": "fair"}.get(quality, "poor")
    within = words.duration(max(0.1, clock.uncertainty_ns / NS_PER_S))
    return Finding(state, text("quality.time.title"), text(f"quality.time.{quality}", within=within))


def _state(share: float) -> str:
    return "good" if share >= GOOD_SHARE else "fair" if share >= FAIR_SHARE else "poor"


def _mount(confidence: float) -> str:
    return "good" if confidence >= GOOD_MOUNT else "fair" if confidence > 0 else "poor"
