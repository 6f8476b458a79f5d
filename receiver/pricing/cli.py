"""`roadwitness receiver quote` and `roadwitness receiver regimes`: prices and rate tables for people and scripts."""

import sys
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from agent import clock
from agent.errors import ConfigError, near_names
from receiver.moments import read_day
from receiver.pricing import Quote, QuoteError, load_book, parse_request, quote
from receiver.pricing.answer import FactorLine
from receiver.pricing.book import RegimeRates
from receiver.pricing.money import plain
from receiver.pricing.request import MOST_BYTES

BEIJING: Final = timezone(timedelta(hours=8))  # a policy's days are China's, whatever the server's zone

regimes_app = typer.Typer(no_args_is_help=True, help="Check or show the rate tables that prices are made of.")

Folder = Annotated[Path | None, typer.Option("--regimes", help="Folder of the rate tables; else config/regimes.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def quote_command(
    request: Annotated[str, typer.Option("--request", metavar="FILE", help="The request in JSON; - reads the input.")],
    folder: Folder = None,
    on: Annotated[str | None, typer.Option("--on", metavar="DATE", help="The day of the quote; else today.")] = None,
    as_json: Json = False,
) -> None:
    """Price a request: every factor, bound and table, with and without the driving score."""
    try:
        answer = quote(parse_request(text_of(request)), load_book(folder), _day(on))
    except QuoteError as e:
        if not as_json:
            raise
        problem = {"error": str(e), "kind": "QuoteError", "field": e.field, "code": e.code, "known": e.known}
        typer.echo(msgspec.json.encode({**problem, "reason": e.reason, "reason_zh": e.reason_zh}).decode())
        raise typer.Exit(1) from e
    if as_json:
        typer.echo(msgspec.json.encode(answer).decode())
    else:
        typer.echo("\n".join(describe(answer)))


@regimes_app.command("check", epilog="Example: roadwitness receiver regimes check --json")
def check(folder: Folder = None, as_json: Json = False) -> None:
    """Read all rate tables; exit 1 with file, table and row when one is wrong."""
    book = load_book(folder)
    if as_json:
        told = [
            {
                "regime": rates.name,
                "version": rates.regime.version,
                "file": str(rates.path),
                "covers": list(rates.covers),
                "rows": _rows(rates),
                "unverified": _unverified(rates),
            }
            for rates in book.regimes.values()
        ]
        compulsory = {"version": book.compulsory.law.version, "rows": len(book.compulsory.law.base.rows)}
        typer.echo(msgspec.json.encode({"regimes": told, "compulsory": compulsory}).decode())
        return
    for rates in book.regimes.values():
        covers = ", ".join(rates.covers)
        typer.echo(f"{rates.name}  version {rates.regime.version}  {_rows(rates)} rows  covers {covers}")
        typer.echo(f"      not verified: {', '.join(_unverified(rates)) or 'nothing'}")
    law = book.compulsory.law
    typer.echo(f"compulsory  version {law.version}  {len(law.base.rows)} rows")
    typer.echo("All tables are in order.")


@regimes_app.command("show", epilog="Example: roadwitness receiver regimes show 2020")
def show(
    name: Annotated[str, typer.Argument(help="A regime's name, or: compulsory, names.")],
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Show one regime's file, as it is or as JSON."""
    book = load_book(folder)
    files: dict[str, tuple[Path, object]] = {r.name: (r.path, r.regime) for r in book.regimes.values()}
    files["compulsory"] = (book.compulsory.path, book.compulsory.law)
    files["names"] = (book.compulsory.path.with_name("names.toml"), book.names)
    if name not in files:
        raise ConfigError(f"regimes: '{name}' is not one of {', '.join(files)}{near_names(name, files)}")
    path, content = files[name]
    typer.echo(msgspec.json.encode(content).decode() if as_json else path.read_text(encoding="utf-8"), nl=as_json)


def describe(answer: Quote) -> list[str]:
    """Write a quote as lines of text."""
    title = f"{answer.regime_title.en} ({answer.regime}, version {answer.regime_version})"
    lines = [
        f"{title}, {answer.region_title.en}",
        f"Cover {answer.starts} to {answer.ends}, quoted {answer.quoted_on}, valid until {answer.valid_until}",
        "",
    ]
    for factor in answer.factors:
        lines.extend(_factor(factor))
    if answer.multiplier is not None:
        lines.extend(_factor(answer.multiplier))
        lines.append("")
    for line in answer.lines:
        lines.append(f"{line.premium_yuan:>12}  {line.cover:8} {line.title.en}")
        lines.append(f"{'':14}{line.formula} = {plain(line.basis_yuan)}, benchmark {line.benchmark_yuan}; {line.table}")
    if answer.compulsory is not None:
        law = answer.compulsory
        lines.append(f"{law.premium_yuan:>12}  {law.title.en}")
        floating = f"zone {law.zone} {law.code}: {law.floating.reason.en}"
        lines.append(f"{'':14}{plain(law.base_yuan)} × {plain(law.floating.value)}, {floating}")
    beside = f"{answer.without_telematics_yuan} without the score"
    lines.append(f"{answer.total_yuan:>12}  {answer.currency} in all; {beside}")
    offer = answer.per_km
    if offer is not None:
        lines.extend(
            [
                "",
                f"{offer.title.en}: {offer.reason.en}",
                f"{offer.total_yuan:>12}  {answer.currency} in all at {offer.declared_km} km a year, "
                f"never below {offer.floor_yuan} or above {offer.ceiling_yuan} for {', '.join(offer.covers)}",
            ]
        )
    lines.extend(["", answer.rounding.en])
    if answer.unverified:
        lines.append("Not for sale: tables that nobody has verified are in this price:")
        lines.extend(f"  {told}" for told in answer.unverified)
    return lines


def _factor(factor: FactorLine, indent: str = "") -> list[str]:
    bounds = "" if factor.low is None and factor.high is None else f" [{factor.low} to {factor.high}]"
    bit = ", bounded" if factor.bounded else ""
    own = f"{indent}{plain(factor.value):>12}  {factor.title.en}{bounds}{bit}: {factor.reason.en}"
    return [own, *(line for part in factor.parts for line in _factor(part, indent + "    "))]


def _rows(rates: RegimeRates) -> int:
    return sum(len(c.cover.rows) for c in rates.covers.values())


def _unverified(rates: RegimeRates) -> list[str]:
    regime = rates.regime
    tables = {
        "ncd": regime.ncd,
        "expense": regime.expense,
        "traffic": regime.traffic,
        "telematics": regime.telematics,
        "total": regime.total,
        "depreciation": regime.depreciation,
        "deductible": regime.deductible,
        "liability": regime.liability,
        "per_km": regime.per_km,
        **{f"own.{n}": o.own for n, o in rates.own.items()},
        **{f"covers.{n}": c.cover for n, c in rates.covers.items()},
    }
    return [n for n, table in tables.items() if table is not None and not table.verified]


def text_of(name: str) -> str:
    """Read a request; no more than a request may be long, so that a wrong file does not fill the memory."""
    try:
        if name == "-":
            return sys.stdin.read(MOST_BYTES + 1)
        with Path(name).open(encoding="utf-8") as file:
            return file.read(MOST_BYTES + 1)
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"quote: {name}: cannot be read: {e}") from e


def _day(given: str | None) -> date:
    if given is None:
        return datetime.fromtimestamp(clock.wall_ns() / clock.NS_PER_S, UTC).astimezone(BEIJING).date()
    return read_day("--on", given)


def add_to(app: typer.Typer) -> None:
    """Hang both commands into the receiver's."""
    example = "roadwitness receiver quote --request request.json --json"
    app.command("quote", epilog=f"Example: {example}")(quote_command)
    app.add_typer(regimes_app, name="regimes")
