"""What stands on a sheet, in order: the one source of the HTML page and the PDF file."""

from dataclasses import dataclass
from itertools import groupby
from typing import Final

from agent.fitting.sheet import VERDICTS, Item, ItemState, Sealed, Sheet, Verdict, short

WORDS: Final[dict[ItemState, str]] = {
    "pass": "pass",
    "warn": "look at it",
    "fail": "FAIL",
    "skip": "left out",
    "absent": "none",
}
_CHECK: Final = "To check this sheet: roadwitness install verify FILE. It is genuine if that names the box above."


@dataclass(frozen=True, slots=True)
class Head:
    """The title and what came of it all."""

    title: str
    verdict: Verdict
    said: str
    note: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Facts with their names."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Checks:
    """The items of one step."""

    title: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Photos with their captions; JPEG."""

    rows: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Seal:
    """By what the sheet is known again; `code` is the text of the QR code."""

    code: str
    lines: tuple[str, ...]


Part = Head | Pairs | Checks | Pictures | Seal


def layout(sheet: Sheet, sealed: Sealed, titles: dict[str, str]) -> list[Part]:
    """Return the parts of a sheet; `titles` names the steps."""
    pictures = tuple(zip((p.name for p in sheet.photos), sealed.pictures(), strict=True))
    parts: list[Part] = [_head(sheet), _pairs(sheet)]
    for step, items in groupby(sheet.items, lambda item: item.step):
        parts.append(Checks(titles.get(step, step), tuple(items)))
    if pictures:
        parts.append(Pictures(pictures))
    return [*parts, _seal(sheet, sealed)]


def _head(sheet: Sheet) -> Head:
    counted = ((n, word) for state, word in _COUNTED.items() if (n := sheet.count(state)))
    return Head(
        "Roadwitness: fitting of a box",
        sheet.verdict,
        VERDICTS[sheet.verdict],
        ", ".join(f"{n} {word}" for n, word in counted),
    )


_COUNTED: Final[dict[ItemState, str]] = {
    "pass": "passed",
    "warn": "to look at",
    "fail": "failed",
    "skip": "left out",
    "absent": "not in this car",
}


def _pairs(sheet: Sheet) -> Pairs:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(sheet.versions.items()))
    return Pairs(
        (
            ("Vehicle (VIN)", sheet.vin or "not known"),
            ("Box", sheet.device),
            ("Fitted by", sheet.by),
            ("Begun", sheet.started or "time not known"),
            ("Finished", sheet.ended or "time not known"),
            ("Consent", sheet.consent or "none recorded"),
            ("Software", versions),
        )
    )


def _seal(sheet: Sheet, sealed: Sealed) -> Seal:
    digest = sealed.digest
    return Seal(
        f"roadwitness:fitting:{sheet.device}:{sheet.id}:{digest}",
        (
            f"Signed by box {sheet.device} with its own key. Short code: {short(digest)}",
            f"SHA-256 {digest}",
            _CHECK,
        ),
    )
