"""The sheet as a PDF file, A4, from the same parts as the page; it too holds what is needed to check it."""

from collections.abc import Callable
from html import escape
from io import BytesIO
from itertools import groupby
from typing import Any, Final

from agent.fitting.layout import WORDS, Checks, Head, Pairs, Part, Pictures, Seal
from agent.fitting.sheet import Sealed, packed

BEGIN: Final = b"%roadwitness-fitting "
_CHINESE: Final = "STSong-Light"  # of every PDF reader, so that no font has to come along
_COLOURS: Final = {
    "accepted": "#0b6b2e",
    "pass": "#0b6b2e",
    "reserved": "#8a5300",
    "warn": "#8a5300",
    "refused": "#a3101b",
    "fail": "#a3101b",
    "skip": "#8a5300",
    "absent": "#555b66",
}
_WIDTH: Final = 481.0  # points between the margins of A4
_PICTURE: Final = 300.0
_LINE: Final = "#d5d9e0"


def pdf(parts: list[Part], sealed: Sealed) -> bytes:
    """Return the file; the same parts always give the same bytes."""
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.pdfbase.pdfmetrics import registerFont
    from reportlab.platypus import SimpleDocTemplate

    registerFont(UnicodeCIDFont(_CHINESE))
    file = BytesIO()
    document = SimpleDocTemplate(
        file,
        pagesize=A4,
        leftMargin=57,
        rightMargin=57,
        topMargin=48,
        bottomMargin=48,
        title="Roadwitness: fitting of a box",
        invariant=1,
    )
    flow: list[Any] = []
    for part in parts:
        flow += _WRITERS[type(part)](part)
    document.build(flow, onFirstPage=_number, onLaterPages=_number)
    return _carrying(file.getvalue(), packed(sealed).encode())


def _carrying(file: bytes, text: bytes) -> bytes:
    """Put a comment with what is needed for checking before the last line: readers look for %%EOF at the end."""
    end = file.rindex(b"startxref")
    return file[:end] + BEGIN + text + b"\n" + file[end:]


def _number(canvas: Any, document: Any) -> None:
    canvas.setFont("Helvetica", 8)
    canvas.drawRightString(538, 30, f"page {document.page}")


def _text(text: str, size: float = 9.5, colour: str = "#1b1d21", *, bold: bool = False, space: float = 0.0) -> Any:
    from reportlab.lib.colors import HexColor
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    style = ParagraphStyle(
        "plain",
        fontName="Helvetica-Bold" if bold else "Helvetica",
        fontSize=size,
        leading=size * 1.3,
        textColor=HexColor(colour),
        spaceBefore=space,
        splitLongWords=1,
    )
    return Paragraph(_marked(text), style)


def _marked(text: str) -> str:
    """Return text for a paragraph, with another font where Helvetica has no letter."""
    return "".join(
        escape("".join(run)) if latin else f'<font name="{_CHINESE}">{escape("".join(run))}</font>'
        for latin, run in groupby(text, _latin)
    )


def _latin(character: str) -> bool:
    try:
        character.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


def _table(rows: list[list[Any]], widths: list[float]) -> Any:
    from reportlab.platypus import Table

    style: Any = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, _LINE),
        ("LEFTPADDING", (0, 0), (0, -1), 0),
    ]
    return Table(rows, colWidths=widths, style=style, hAlign="LEFT")


def _head(part: Head) -> list[Any]:
    colour = _COLOURS[part.verdict]
    return [
        _text(part.title, 17, bold=True),
        _text(part.said, 13, colour, bold=True, space=8),
        _text(part.note, 9.5, colour),
    ]


def _pairs(part: Pairs) -> list[Any]:
    rows = [[_text(name, bold=True), _text(value)] for name, value in part.rows]
    return [_text("This fitting", 11.5, bold=True, space=12), _table(rows, [120, _WIDTH - 120])]


def _checks(part: Checks) -> list[Any]:
    rows = []
    for item in part.items:
        said = [_text(item.value)] + ([_text(f"Next: {item.advice}", 8.5)] if item.advice else [])
        rows.append([_text(item.name), _text(WORDS[item.state], colour=_COLOURS[item.state], bold=True), said])
    return [_text(part.title, 11.5, bold=True, space=12), _table(rows, [145, 60, _WIDTH - 205])]


def _pictures(part: Pictures) -> list[Any]:
    from reportlab.platypus import Image, KeepTogether

    flow: list[Any] = [_text("Photos", 11.5, bold=True, space=12)]
    for name, data in part.rows:
        image = Image(BytesIO(data), _PICTURE, _PICTURE, kind="proportional", hAlign="LEFT")
        flow.append(KeepTogether([image, _text(name, 8.5)]))
    return flow


def _seal(part: Seal) -> list[Any]:
    import segno
    from reportlab.graphics.shapes import Drawing, Rect
    from reportlab.lib.colors import black
    from reportlab.platypus import KeepTogether, Spacer

    rows = [list(row) for row in segno.make(part.code, error="m", micro=False).matrix]
    unit = 90 / len(rows)
    code = Drawing(90, 90)
    ink: Any = {"fillColor": black, "strokeColor": None}
    for y, row in enumerate(rows):
        for x, dark in enumerate(row):
            if dark:
                code.add(Rect(x * unit, 90 - (y + 1) * unit, unit, unit, **ink))
    table = _table([[code, [_text(line, 8.5) for line in part.lines]]], [110, _WIDTH - 110])
    return [KeepTogether([Spacer(1, 14), table])]


_WRITERS: Final[dict[type[Any], Callable[[Any], list[Any]]]] = {
    Head: _head,
    Pairs: _pairs,
    Checks: _checks,
    Pictures: _pictures,
    Seal: _seal,
}
