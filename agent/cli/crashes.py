"""Crashes as the command line shows them: one row each, and what stands in a package."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from agent.incident.folder import Incident
    from agent.records import Crash
    from agent.store import Store
    from agent.store.reading import Stored


def newest_told(store: "Store") -> "list[Stored[Crash]]":
    """Return each crash as it was told last, oldest first."""
    from agent.records import Crash

    return list({(s.boot, s.record.id): s for s in store.records(Crash)}.values())


def crash_table(crashes: list[tuple[str, dict[str, Any]]]) -> "Table":
    """Return the table of crashes given as (when, fields of agent.records.Crash)."""
    from rich.table import Table

    table = Table("At", "What", "Velocity change", "Force from", "Speed before", "Also seen by", "Seen by")
    table.columns[0].no_wrap = True
    table.title, table.title_justify = "Crashes", "left"
    for when, crash in crashes:
        change, clock, before = crash["delta_v_mps"], crash["direction_clock"], crash["speed_before_mps"]
        table.add_row(
            when,
            crash["kind"] + ("" if crash["complete"] else ", still measured"),
            "unknown" if change is None else f"{'over ' if crash['clipped'] else ''}{change * 3.6:.0f} km/h",
            "unknown" if clock is None else f"{clock} o'clock",
            "unknown" if before is None else f"{before * 3.6:.0f} km/h",
            ", ".join(crash["confirmed_by"]).replace("_", " "),
            ", ".join(crash["sensors"]),
        )
    return table


def package_of(incident: "Incident | None") -> dict[str, Any]:
    """Return the JSON that says what stands in a package; None where there is none."""
    if incident is None:
        return {"package": None}
    return {
        "package": {
            "folder": str(incident.folder),
            "files": list(incident.files),
            "record_complete": incident.record_complete,
            "record_final": incident.record_final,
            "signed": incident.signed,
            "acknowledged": incident.acknowledged,
        }
    }


def package_in_words(id_: str, incident: "Incident | None") -> str:
    """Say in one line what stands in a package."""
    if incident is None:
        return f"{id_}: no package here"
    if incident.acknowledged:
        state = "the receiver holds it"
    elif incident.signed:
        state = "signed, waits to be sent"
    elif incident.record_final:
        state = "waits for its video and signature"
    else:
        state = "still growing"
    whole = "" if incident.record_complete else ", record cut short"
    return f"{id_}: {len(incident.files)} files, {state}{whole if incident.record_final else ''} ({incident.folder})"
