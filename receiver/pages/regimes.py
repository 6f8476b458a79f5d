"""The tariffs as an underwriter reads them: every table with its rows, bounds, version and source.

A page shows what the files under config/regimes say, row by row; they are changed there and nowhere else.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from fastapi import Depends, FastAPI, Path, Request, Response
from starlette.exceptions import HTTPException

from receiver.pages.owner_quote_view import day
from receiver.people.gate import needs
from receiver.people.person import Person
from receiver.pricing import RateBook, load_book
from receiver.pricing.money import plain
from receiver.pricing.schema import Compulsory, Names, Regime, Table
from receiver.site import Site
from receiver.words import Words

Reader = Annotated[Person, Depends(needs("regimes.read"))]
RegimeName = Annotated[str, Path(pattern="^[a-z0-9]{1,16}$")]
# columns that bound one quantity -> one column
SPANS: Final = {"seats": "", "tonnes": " t", "cc": " cc", "age": "", "price": ""}
ORIGIN: Final = frozenset({"version", "source", "verified", "en", "zh", "note_en", "note_zh"})


class Grid(NamedTuple):
    """Rows of a tariff table."""

    columns: list[str]
    rows: list[list[str]]


class Shown(NamedTuple):
    """One table of a tariff: what it says outside its rows, and the rows."""

    name: str
    title: str
    note: str
    version: str
    source: str
    verified: bool
    facts: list[tuple[str, str]]
    grids: list[Grid]


class Tariff(NamedTuple):
    """One file of the tariffs, as the list names it."""

    name: str
    title: str
    version: str
    source: str
    span: str
    tables: int
    unverified: int


@cache
def _book() -> RateBook:
    return load_book()


def add(app: FastAPI, site: Site) -> None:
    """Add the routes."""

    @app.api_route("/regimes", methods=["GET", "HEAD"])
    def all_regimes(request: Request, person: Reader) -> Response:
        words = site.words_of(request)
        return site.page(request, "regimes.html", words=words, tariffs=[_tariff(words, f) for f in _files()])

    @app.api_route("/regimes/{name}", methods=["GET", "HEAD"])
    def regime(request: Request, person: Reader, name: RegimeName) -> Response:
        file = next((f for f in _files() if f.name == name), None)
        if file is None:
            raise HTTPException(404)
        words = site.words_of(request)
        return site.page(
            request, "regime.html", words=words, tariff=_tariff(words, file), tables=list(_tables(words, file))
        )


def _files() -> list[Regime | Compulsory]:
    book = _book()
    return [*(rates.regime for rates in reversed(list(book.regimes.values()))), book.compulsory.law]


def _tariff(words: Words, file: Regime | Compulsory) -> Tariff:
    tables = list(_tables(words, file))
    starts = [span.starts for span in file.in_force if span.starts] if isinstance(file, Regime) else []
    ends = [span.ends for span in file.in_force] if isinstance(file, Regime) else []
    begins = day(words, min(starts)) if starts else ""
    over = day(words, max(e for e in ends if e)) if ends and all(ends) else ""
    key = "regimes.until" if begins and over else "regimes.since" if begins else "regimes.ended" if over else ""
    source = file.source if isinstance(file, Regime) else file.base.source
    return Tariff(
        file.name,
        file.zh if words.text.language == "zh" else file.en,
        file.version,
        source,
        words.text(key, **{k: v for k, v in (("first", begins), ("last", over)) if v}) if key else "",
        len(tables),
        sum(not table.verified for table in tables),
    )


def _tables(words: Words, file: Regime | Compulsory) -> Iterator[Shown]:
    """Yield every table of a file, in the order of the file's own description."""
    for name, value in msgspec.structs.asdict(file).items():
        yield from _under(words, name, value)


def _under(words: Words, name: str, value: Any) -> Iterator[Shown]:
    if isinstance(value, Table):
        yield _shown(words, name, value)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _under(words, f"{name}.{key}", each)
    elif isinstance(value, list) and value and isinstance(value[0], Table):
        for number, each in enumerate(value, 1):
            yield from _under(words, f"{name}.{number}", each)


def _shown(words: Words, name: str, table: Table) -> Shown:
    language = words.text.language
    given = msgspec.structs.asdict(table)
    kind = name.partition(".")[0]
    title = str(given.get(language) or words.text.among("regimes.table", kind))
    facts, grids = [], []
    for key, value in given.items():
        if key in ORIGIN or value in (None, "", []):
            continue
        if isinstance(value, list) and isinstance(value[0], msgspec.Struct):
            grids.append(_grid(words, value))
        elif isinstance(value, msgspec.Struct):
            facts += [(_column(words, k), _cell(words, v)) for k, v in msgspec.structs.asdict(value).items()]
        else:
            facts.append((_column(words, key), _cell(words, value)))
    note = str(given.get(f"note_{language}", ""))
    return Shown(name, title, note, table.version, table.source, table.verified, facts, grids)


def _grid(words: Words, rows: Sequence[Any]) -> Grid:
    """Make one column of every field that a row fills, and one of each pair of bounds."""
    plain_rows = [_spanned(msgspec.structs.asdict(row)) for row in rows]
    used = [key for key in plain_rows[0] if any(row.get(key) not in (None, "", []) for row in plain_rows)]
    return Grid(
        [_column(words, key) for key in used],
        [["" if row.get(key) is None else _cell(words, row[key]) for key in used] for row in plain_rows],
    )


def _spanned(row: dict[str, Any]) -> dict[str, Any]:
    """Put `x_from` and `x_below` together as one text."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        stem, _, side = key.rpartition("_")
        if stem in SPANS and side in ("from", "below"):
            low, high = row[f"{stem}_from"], row[f"{stem}_below"]
            if low is None and high is None:
                continue
            unit = SPANS[stem]
            told = f"≥ {plain(low)}{unit}" if high is None else f"< {plain(high)}{unit}"
            found[stem] = told if low is None or high is None else f"{plain(low)} – < {plain(high)}{unit}"
        elif key == "verified":
            found[key] = None if value is None else bool(value)
        else:
            found[key] = value
    for key in ("source", "verified"):  # last: they are about the row
        if key in found:
            found[key] = found.pop(key)
    return found


def _column(words: Words, key: str) -> str:
    return words.text.among("regimes.column", key)


def _cell(words: Words, value: Any) -> str:
    if isinstance(value, bool):
        return words.text("regimes.yes" if value else "regimes.no")
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return ", ".join(_word(words, str(each)) for each in value)
    if isinstance(value, msgspec.Struct):
        return ", ".join(f"{_column(words, k)} {_cell(words, v)}" for k, v in msgspec.structs.asdict(value).items())
    return _word(words, str(value))


def _word(words: Words, value: str) -> str:
    """Name a word that all tariffs share in the page's language."""
    if value == "*":
        return words.text("regimes.all")
    names: Names = _book().names
    for known in (names.use_classes, names.energies, names.regions):
        if value in known:
            return str(getattr(known[value], words.text.language))
    return words.text.among("regimes.word", value)
