"""Check a sheet: is it as the box signed it, and does the file show what was signed?"""

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.fitting import page, paper
from agent.fitting.layout import WORDS, layout
from agent.fitting.sheet import MOST_BYTES, VERDICTS, Sealed, Sheet, SheetError, proved, short, unpacked
from agent.fitting.titles import TITLES
from agent.version import installed_version


@dataclass(frozen=True, slots=True)
class Verified:
    """A sheet whose signature holds; `shown` says whether the file shows it, None where that cannot be told."""

    sheet: Sheet
    digest: str
    shown: bool | None


def verify(path: Path) -> Verified:
    """Return what a sheet says and whether it is shown as signed; raise SheetError naming file and fault."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SheetError(f"{path}: is no sheet: larger than {MOST_BYTES // 1024**2} MB")
        data = path.read_bytes()
    except OSError as e:
        raise SheetError(f"{path}: cannot be read: {e.strerror}") from e
    try:
        sealed = unpacked(_carried(data))
        sheet = proved(sealed)
    except SheetError as e:
        raise SheetError(f"{path}: {e}") from e
    return Verified(sheet, sealed.digest, _shown(data, sheet, sealed))


def made(sheet: Sheet, sealed: Sealed) -> dict[str, bytes]:
    """Return both files of a sheet by their endings."""
    parts = layout(sheet, sealed, TITLES)
    return {"html": page.html(parts, sealed), "pdf": paper.pdf(parts, sealed)}


def _shown(data: bytes, sheet: Sheet, sealed: Sealed) -> bool | None:
    """Say whether the file is what this version makes of the sheet; other versions may write it in other words."""
    ending = "pdf" if data.startswith(b"%PDF") else "html"
    if made(sheet, sealed)[ending] == data:
        return True
    return False if sheet.versions.get("roadwitness") == installed_version() else None


def _carried(data: bytes) -> str:
    """Return what a file holds for checking; raise SheetError."""
    begin, end = (paper.BEGIN, b"\n") if data.startswith(b"%PDF") else (page.BEGIN.encode(), page.END.encode())
    start = data.rfind(begin)
    stop = data.find(end, start + len(begin))
    if start < 0 or stop < 0:
        raise SheetError("is no sheet of a fitting")
    return data[start + len(begin) : stop].decode("ascii", "replace")


def report(path: Path, device: str = "", *, as_json: bool = False) -> tuple[str, bool]:
    """Return what is to be said of a sheet, and whether it is sound; raise SheetError where it is not signed."""
    verified = verify(path)
    sheet, shown = verified.sheet, verified.shown
    right = not device or device == sheet.device
    sound = right and shown is not False
    if as_json:
        told = {"sound": sound, "device": sheet.device, "vin": sheet.vin, "verdict": sheet.verdict, "by": sheet.by}
        more = {"sheet": verified.digest, "shown": shown, "items": msgspec.to_builtins(sheet.items)}
        return json.dumps({**told, **more}), sound
    lines = [
        f"{path}: signed by box {sheet.device}, short code {short(verified.digest)}",
        f"{VERDICTS[sheet.verdict]}: VIN {sheet.vin or 'not known'}, by {sheet.by}, {sheet.ended or 'time not known'}",
        *(f"  {WORDS[i.state]}: {i.name}: {i.value}" for i in sheet.items if i.state not in ("pass", "absent")),
    ]
    if not right:
        lines.append(f"NOT the box that was named: {device}")
    if shown is False:
        lines.append("The file does NOT show what was signed: believe the lines above, not the page.")
    if shown is None:
        made_by = sheet.versions.get("roadwitness", "another version")
        lines.append(
            f"Made by version {made_by}: whether the page shows the same cannot be told; the lines above count."
        )
    return "\n".join(lines), sound
