"""What a box told last of its fitting: who fitted it and with which sheet, that it left its car, or was reset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from receiver.boxhealth import Said
from receiver.words import Words

SOURCE: Final = "fitting"  # of the health records that tell of it (agent.fitting.word)
# what happened -> looks of its badge
LOOKS: Final = {"accepted": "good", "reserved": "fair", "refused": "poor", "removed": "open", "reset": "poor"}
SHOWN_DIGITS: Final = 16  # of a sheet's SHA-256, as it stands on the sheet


@dataclass(frozen=True, slots=True)
class Fitting:
    """The last word, for the page."""

    looks: str
    what: str
    help: str  # what a technician does next, "" for nothing
    by: str
    sheet: str  # its short code, "" where the word is not about a sheet
    received_utc_ns: int


def last(words: Words, said: Sequence[Said]) -> Fitting | None:
    """Put the last word into words; None where there was none, or none that this receiver understands."""
    one = next((each for each in said if each.source == SOURCE), None)
    if one is None:
        return None
    deed = one.facts.get("deed", "")
    happened = one.facts.get("verdict", "") if deed == "fitted" else deed
    if happened not in LOOKS:
        return None
    digest = one.facts.get("sheet", "")[:SHOWN_DIGITS]
    return Fitting(
        looks=LOOKS[happened],
        what=words.text(f"box.fitting.{happened}"),
        help=words.text(f"box.fitting.{happened}_help") if deed != "fitted" else "",
        by=one.facts.get("by", "")[:100],
        sheet=" ".join(digest[i : i + 4] for i in range(0, len(digest), 4)),
        received_utc_ns=one.received_utc_ns,
    )


def others(said: Sequence[Said]) -> list[Said]:
    """Return what was said of the box's parts."""
    return [one for one in said if one.source != SOURCE]
