"""What a technician is shown of a bus: each finding as data (what --json prints), and as a table from those data."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from agent.cli.laying import NARROW, Steady, console, facts, notes, table
from agent.clock import NS_PER_S
from agent.vehicle.decoding import Decoding
from agent.vehicle.frames import FrameSource
from agent.vehicle.matching import Match
from agent.vehicle.recognising import Recogniser
from agent.vehicle.sniffing import Sniffer, Watched
from agent.vehicle.traffic import Bus, Key, Traffic

Told = dict[str, Any]
_STYLES: Final = {"new": "bold red", "moved": "", "still": "dim"}
_AROUND: Final = 6  # lines of a screen that a table's title and head take
_WORDS: Final = {
    "lost": "frames were lost before they could be read: the file or table is not complete",
    "garbage": "lines or frames were garbage: check cable and adapter",
    "bad_lines": "lines of the recording are not frames",
    "refused": "commands were refused by the adapter",
    "error_frames": "error frames: check wiring, termination and bit rate",
    "error_protocol": "protocol errors on the bus: check wiring, termination and bit rate",
    "error_bus_error": "bus errors: check wiring, termination and bit rate",
    "error_bus_off": "times the controller went off the bus",
}


class Screen(Steady):
    """A table that stays in its place on a terminal and goes with the command; nothing where `live` is false."""

    def __init__(self, live: bool) -> None:
        super().__init__(live, transient=True)

    def show(self, draw: Callable[[int], RenderableType]) -> None:
        """Draw anew; `draw` is given how many rows there is room for."""
        if self._live is not None:
            self._live.update(draw(max(3, self._live.console.size.height - _AROUND)), refresh=True)


def losses(counts: dict[str, int]) -> list[str]:
    """Say in words what was lost or odd."""
    return [f"{n} {_WORDS.get(name, name.replace('_', ' '))}" for name, n in counts.items() if n]


# rates


def rates(traffic: Traffic, source: FrameSource, named_rate: int) -> Told:
    """Return each bus and identifier."""
    buses = [_bus(name, bus, source, named_rate) for name, bus in sorted(traffic.buses.items())]
    ids = [
        {
            "bus": key.bus,
            "id": key.text,
            "frames": seen.frames,
            "rate_hz": seen.rate_hz,
            "jitter_ms": None if seen.jitter_s is None else 1e3 * seen.jitter_s,
            "shortest_ms": seen.shortest_ns / 1e6 if seen.frames > 1 else None,
            "longest_ms": seen.longest_ns / 1e6 if seen.frames > 1 else None,
            "bytes": [seen.least_bytes, seen.most_bytes],
            "remote": seen.remote,
        }
        for key, seen in sorted(traffic.ids.items())
    ]
    return {"buses": buses, "ids": ids, "uncounted": traffic.uncounted, "notes": _noted(traffic, source)}


def _noted(traffic: Traffic, source: FrameSource) -> list[str]:
    told = [*source.notes, *losses(source.counts)]
    if not traffic.frames:
        told.append("no frame came: is the ignition on, and does the car talk on this bus?")
    if traffic.uncounted:
        told.append(
            f"{traffic.uncounted} frames had more identifiers than can be told apart: a broken bus, or an attack"
        )
    return told


def _bus(name: str, bus: Bus, source: FrameSource, named_rate: int) -> Told:
    known = named_rate or source.bit_rate(name)
    rate = known or bus.likely_bit_rate
    load = bus.load(rate) if rate else None
    link = source.link()
    return {
        "bus": name,
        "frames": bus.frames,
        "seconds": bus.lasted_s,
        "rate_hz": bus.rate_hz,
        "bit_rate": rate,
        "bit_rate_known": known is not None and known > 0,
        "load": None if load is None else load[0],
        "load_stuffed": None if load is None else load[1],
        "error_frames": bus.errors,
        "fd_frames": bus.fd,
        "sample_point": link.sample_point if link else None,
        "state": link.state if link else "",
        "listen_only": link.listen_only if link else None,
    }


def show_rates(told: Told) -> None:
    """Print buses, then identifiers."""
    out = console()
    for bus in told["buses"]:
        rows = [("Frames", f"{bus['frames']:,} in {bus['seconds']:.1f} s ({_or(bus['rate_hz'], '{:.0f}')}/s)")]
        rows += [("Bit rate", _bit_rate(bus["bit_rate"], bus["bit_rate_known"]))]
        if bus["load"] is not None:
            rows += [("Load", f"{bus['load']:.0%}; up to {bus['load_stuffed']:.0%} with stuff bits")]
        rows += [("Sample point", f"{bus['sample_point']:.1%}")] if bus["sample_point"] else []
        rows += [("Controller", bus["state"])] if bus["state"] else []
        rows += [("Error frames", str(bus["error_frames"]))] if bus["error_frames"] else []
        out.print(Text(bus["bus"], "bold"))
        out.print(facts(rows))
    several = len(told["buses"]) > 1
    head = [*(["Bus"] if several else []), "Id", "Hz", "Jitter ms", "Longest ms", "Bytes"]
    rows_of_ids = [
        [
            *([row["bus"]] if several else []),
            row["id"],
            _or(row["rate_hz"], "{:.1f}"),
            _or(row["jitter_ms"], "{:.2f}"),
            _or(row["longest_ms"], "{:.0f}"),
            _span(row["bytes"]),
        ]
        for row in told["ids"]
    ]
    if rows_of_ids:
        out.print(table(head, rows_of_ids, right=range(1 + several, 4 + several)))
    notes(out, told["notes"])


def _bit_rate(rate: int | None, known: bool) -> str:
    if rate is None:
        return "not known"
    return f"{rate / 1000:g} kbit/s{'' if known else ' (likely, by how fast bursts come)'}"


def _or(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _span(pair: list[int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}-{pair[1]}"


# identify


def identified(seen: Recogniser, source: FrameSource) -> Told:
    """Return what kind of buses these are and what fits."""
    traffic = seen.matcher.traffic
    buses = []
    for name in sorted(traffic.buses):
        found = seen.bus(name, source.bit_rate(name))
        buses.append({**asdict(found), "j1939": found.j1939, "frames": traffic.buses[name].frames})
    matches = [
        {"name": m.name, "title": m.title, "fits": m.fits, "share": m.share, "channels": len(m.gains)}
        for m in seen.matches()
    ]
    vehicle = {k: v for k, v in seen.vehicle.items() if k in ("vin", "vin_valid")}
    told = [*_noted(traffic, source), *seen.matcher.unreadable]
    return {"buses": buses, "profiles": matches, "vehicle": vehicle, "notes": told}


def show_identified(told: Told) -> None:
    """Print what kind of buses these are."""
    out = console()
    for bus in told["buses"]:
        rows = [
            ("Frames", f"{bus['frames']:,} of {bus['ids_11']} identifiers of 11 bits, {bus['ids_29']} of 29"),
            ("Bit rate", _bit_rate(bus["bit_rate"], bus["from_wire"])),
            ("J1939", _listed("yes", bus["groups"]) if bus["j1939"] else "no"),
            ("OBD-II", _obd(bus)),
        ]
        out.print(Text(bus["bus"], "bold"))
        out.print(facts(rows))
    if told["vehicle"]:
        out.print(f"VIN overheard: {told['vehicle']['vin']}")
    fitting = [m for m in told["profiles"] if m["fits"]]
    for m in fitting:
        out.print(f"Fits: {m['name']} ({m['title']}), {m['share']:.0%} of its messages, {m['channels']} channels.")
    if told["buses"] and not fitting:
        out.print("No known profile fits; see roadwitness profile suggest.")
    notes(out, told["notes"])


def _listed(word: str, names: Iterable[str]) -> str:
    return f"{word}: {', '.join(names)}"


def _obd(bus: Told) -> str:
    if bus["answers"]:
        return f"control units answer on {', '.join(bus['answers'])}{'; a tester asks' if bus['requests'] else ''}"
    return "a tester asks, nobody answers" if bus["requests"] else "nothing seen (nobody asks unless told to)"


# record


def show_recorded(told: Told) -> None:
    """Say what was recorded and what was lost."""
    out = console()
    size = told["bytes"] / 1e6
    written = f"{told['frames']:,} frames in {told['seconds']:.1f} s to {told['file']} ({size:.2f} MB)"
    out.print(f"{written}; ended {told['ended']}.", soft_wrap=True)
    out.print("Nothing was lost." if not told["lost"] else f"LOST: {told['lost']} frames.")
    skipped = ("file", "frames", "bytes", "seconds", "ended", "lost", "notes")
    notes(out, [*losses({k: v for k, v in told.items() if k not in skipped}), *told["notes"]])


# sniff


def _chosen(sniffer: Sniffer, wanted: frozenset[int], changing: bool) -> list[tuple[Key, Watched]]:
    return [
        (key, watched)
        for key, watched in sorted(sniffer.ids.items())
        if (not wanted or key.id in wanted) and (watched.changes or not changing)
    ]


def sniffed_rows(sniffer: Sniffer, traffic: Traffic, wanted: frozenset[int], changing: bool) -> list[Told]:
    """Return each identifier with its newest data and the bits that have changed."""
    return [
        {
            "bus": key.bus,
            "id": key.text,
            "rate_hz": traffic.ids[key].rate_hz if key in traffic.ids else None,
            "data": watched.data.hex().upper(),
            "changed_bits": watched.bits[: len(watched.data)].tobytes().hex().upper(),
            "changes": watched.changes,
            "length_changes": watched.lengths,
        }
        for key, watched in _chosen(sniffer, wanted, changing)
    ]


def sniffed(sniffer: Sniffer, traffic: Traffic, wanted: frozenset[int], changing: bool, rows: int) -> RenderableType:
    """Return the table: bytes that have just changed in red, those that never did dim."""
    found = _chosen(sniffer, wanted, changing)
    several = len({key.bus for key, _ in found}) > 1
    head = [*(["Bus"] if several else []), "Id", "Hz", "Data", "Chg"]
    lines = []
    for key, watched in found[:rows]:
        text = Text()
        for i, byte in enumerate(watched.data):
            text.append(f"{byte:02X}", _STYLES[watched.state(i, sniffer.now_ns)]).append(" " if i % 8 < 7 else "\n")
        text.rstrip()
        rate = traffic.ids[key].rate_hz if key in traffic.ids else None
        lines.append([*([key.bus] if several else []), key.text, _or(rate, "{:.1f}"), text, str(watched.changes)])
    title = f"{len(found)} identifiers" + (f", {len(found) - rows} below" if len(found) > rows else "")
    return table(head, lines, title=title, right=[1 + several, 3 + several])


def show_sniffed(
    sniffer: Sniffer, traffic: Traffic, wanted: frozenset[int], changing: bool, told: list[str], *, shown: bool
) -> None:
    """Print the outcome."""
    out = console()
    if sniffer.ids:
        out.print(sniffed(sniffer, traffic, wanted, changing, len(sniffer.ids)))
    elif not shown:
        out.print("No frame came.")
    if sniffer.left_out:
        told = [*told, f"{sniffer.left_out} frames had more identifiers than can be told apart"]
    notes(out, told)


# decode


def decoded(found: Decoding, rows: int) -> RenderableType:
    """Return the table of signals."""
    listed = found.rows()
    narrow = console().width < NARROW
    lines = [
        [
            row["name"],
            *(f"{row[which]:.6g}" for which in (("newest",) if narrow else ("newest", "least", "most"))),
            row["unit"],
        ]
        for row in listed[:rows]
    ]
    below = f", {len(listed) - rows} below" if len(listed) > rows else ""
    head = ["Signal", "Newest", "Unit"] if narrow else ["Signal", "Newest", "Least", "Most", "Unit"]
    return table(head, lines, title=f"{found.by}{below}", right=range(1, len(head) - 1), names=True)


def show_decoded(found: Decoding, told: list[str], *, shown: bool) -> None:
    """Print the outcome."""
    out = console()
    listed = found.rows()
    if listed:
        out.print(decoded(found, len(listed)))
    elif not shown:
        out.print(f"Nothing was decoded, by {found.by}.")
    notes(out, told)


# profiles


def suggested(matches: list[Match], unreadable: list[str], traffic: Traffic, source: FrameSource) -> Told:
    """Return what fits, what it would give and what speaks against it."""
    found = []
    for m in matches:
        row = {k: v for k, v in asdict(m).items() if k not in ("path", "taken_ids", "gains")}
        gains = [{**asdict(g), "plausible": g.plausible} for g in m.gains]
        found.append({**row, "file": str(m.path), "fits": m.fits, "share": m.share, "gains": gains})
    lasted_s = max((bus.last_ns for bus in traffic.buses.values()), default=0)
    lasted_s -= min((bus.first_ns for bus in traffic.buses.values()), default=0)
    return {
        "frames": traffic.frames,
        "ids": len(traffic.ids),
        "seconds": lasted_s / NS_PER_S,
        "matches": found,
        "notes": [*_noted(traffic, source), *unreadable],
    }


def show_suggested(told: Told, most: int) -> None:
    """Print what fits, best first."""
    out = console()
    out.print(f"{told['frames']:,} frames of {told['ids']} identifiers in {told['seconds']:.1f} s.")
    if not told["matches"] and told["frames"]:
        out.print("No known profile has even one message that is on this bus.")
    for m in told["matches"][:most]:
        kind = "fits" if m["fits"] else "does not fit"
        out.print(Text.assemble((f"\n{m['name']}", "bold"), f"  {m['title']}: {kind}"))
        rows = [
            ("Messages", f"{m['seen']} of {m['mapped']} are on the bus"),
            ("Describes", f"{m['ids']} of {m['of_ids']} identifiers, {_share(m['frames'], m['of_frames'])} of frames"),
        ]
        out.print(facts(rows))
        gains = [
            [g["channel"], _or(g["least"], "{:.4g}"), _or(g["most"], "{:.4g}"), g["unit"]]
            for g in m["gains"]
            if g["plausible"]
        ]
        if m["fits"] and gains:
            out.print(table(["Would give", "Least", "Most", "Unit"], gains, right=[1, 2], names=True))
        for conflict in m["conflicts"]:
            out.print(Text.assemble(("Against: ", "yellow"), conflict))
    if len(told["matches"]) > most:
        out.print(f"\n{len(told['matches']) - most} more have something in common with this bus; --all shows them.")
    best = next((m for m in told["matches"] if m["fits"] and m["is_profile"]), None)
    if best is not None:
        out.print(f'\nTo use it: profile = "{best["name"]}" for this bus in agent.toml.')
    notes(out, told["notes"])


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"
