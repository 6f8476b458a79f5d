"""`roadwitness receiver rate`: keep the scores of a month, show them, compare two models, give and list quotes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent import clock
from agent.clock import iso_utc
from agent.errors import RoadwitnessError
from receiver.options import Config, Db, Json, open_database

if TYPE_CHECKING:
    from receiver.rating.batch import Rated
    from receiver.rating.portfolio import Distribution
    from receiver.rating.quotes import KeptQuote
    from receiver.scoring.model import Model

rate = typer.Typer(help="Scores and quotes that are kept as they were told.")

Period = Annotated[str, typer.Option("--period", help="A month, YYYY-MM; without it the last that ended.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Score model: name/version.")]
Device = Annotated[str, typer.Option("--device", help="Id of a device.")]
Workers = Annotated[int, typer.Option("--workers", min=1, max=256, help="How many processes compute.")]
_EXAMPLE = "Example: roadwitness receiver rate "


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(rate, name="rate")


@rate.callback(invoke_without_command=True, epilog=f"{_EXAMPLE}--period 2026-10 --workers 4 --json")
def score_month(
    context: typer.Context,
    period: Period = "",
    model: ModelName = None,
    again: Annotated[bool, typer.Option("--again", help="Also those for whom nothing changed.")] = False,
    workers: Workers = 1,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Score every car for a month and keep it; what is kept already is skipped. For a timer."""
    if context.invoked_subcommand is not None:
        if period or model or again or workers > 1 or config or database or as_json:
            raise RoadwitnessError(f"rate: give the options after {context.invoked_subcommand}, not before it")
        return
    from receiver.rating.batch import score_all

    chosen, month, now_ns = _chosen(model, period)
    engine = open_database(config, database)
    done = score_all(engine, month, chosen, now_ns, again=again, workers=workers, told=_progress(as_json))
    told = {"period": month, "model": chosen.id, **done._asdict()}
    n = f"{done.vehicles} vehicles of {month} under {chosen.id}, {done.not_agreed} without consent"
    _say(as_json, told, f"{n}: {done.computed} scored, {done.changed} new or otherwise than before.")


@rate.command("show", epilog=f"{_EXAMPLE}show rw-0123456789abcdef --months 6")
def show(
    device: Annotated[str, typer.Argument(help="Id of a device.")],
    months: Annotated[int, typer.Option("--months", min=1, max=1200, help="How many, the latest first.")] = 12,
    model: ModelName = None,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Show the kept scores of a car, month by month."""
    from receiver import db
    from receiver.rating import scores

    with db.reading(open_database(config, database)) as connection:
        found = scores.history(connection, device, months, _model(model).id)
    if as_json:
        _say(True, {"device": device, "scores": [one._asdict() for one in found]}, "")
        return
    if not found:
        typer.echo(f"No score of {device} is kept; make it: roadwitness receiver rate")
    for k in found:
        score = "–" if k.score is None else str(k.score)
        state = "" if k.final else "  so far"
        revised = f"  revision {k.revision}" if k.revision > 1 else ""
        typer.echo(
            f"{k.period}  {score:>3}  {k.km:,.0f} km  Z {k.credibility:.2f}  r {k.relativity:.3f}{revised}{state}"
        )


@rate.command("spread", epilog=f"{_EXAMPLE}spread --period 2026-10 --json")
def spread(
    period: Period = "", model: ModelName = None, config: Config = None, database: Db = None, as_json: Json = False
) -> None:
    """Show how the kept scores of a month lie."""
    from receiver import db
    from receiver.rating import portfolio

    chosen, month, _ = _chosen(model, period)
    with db.reading(open_database(config, database)) as connection:
        found = portfolio.distribution(connection, chosen.id, month)
    if as_json:
        _json({**_built(found), "tens": found.tens()})
        return
    for line in _spread(found):
        typer.echo(line)


@rate.command("backtest", epilog=f"{_EXAMPLE}backtest --period 2026-10 --model relativity/2 --against relativity/1")
def backtest(
    against: Annotated[str, typer.Option("--against", help="The other model: name/version.")],
    period: Period = "",
    model: ModelName = None,
    workers: Workers = 1,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Score a month under two models and show side by side how they lie and whom they see otherwise."""
    from receiver.rating import portfolio

    chosen, month, now_ns = _chosen(model, period)
    engine = open_database(config, database)
    told = _progress(as_json)
    found = portfolio.backtest(engine, chosen, _model(against), month, now_ns, workers=workers, told=told)
    if as_json:
        _json(_built(found))
        return
    for side in (found.a, found.b):
        for line in _spread(side):
            typer.echo(line)
    shift = "–" if found.mean_shift is None else f"{found.mean_shift:+.2f}"
    order = "–" if found.correlation is None else f"{found.correlation:.3f}"
    typer.echo(f"{found.both} under both: mean shift {shift}, {found.moved_over_5} by more than 5, ranks {order}")
    for m in found.movers:
        typer.echo(f"  {m.device}  {m.score_a} → {m.score_b}  ({m.shift:+d})  {m.km:,.0f} km")


@rate.command("quote", epilog=f"{_EXAMPLE}quote --device rw-0123456789abcdef --request request.json --who me")
def give_quote(
    request: Annotated[str, typer.Option("--request", metavar="FILE", help="The request in JSON; - reads the input.")],
    who: Annotated[str, typer.Option("--who", help="Who asks; it is kept.")],
    device: Device = "",
    policy: Annotated[str, typer.Option("--policy", help="The policy that it would renew.")] = "",
    owner: Annotated[str, typer.Option("--owner", help="The insurer's reference of the owner.")] = "",
    model: ModelName = None,
    regimes: Annotated[Path | None, typer.Option("--regimes", help="Folder of the rate tables.")] = None,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Price a request with the kept score of the last month, where its owner agreed, and keep the answer."""
    from receiver.pricing import load_book, parse_request
    from receiver.pricing.cli import describe, text_of
    from receiver.rating import quotes

    asked = quotes.Asked(
        request=parse_request(text_of(request)), device=device, policy=policy, owner=owner, model=_model(model).id
    )
    book = load_book(regimes)
    with open_database(config, database).begin() as connection:
        kept = quotes.quote(connection, asked, book, clock.wall_ns(), who)
        answer = quotes.answer(connection, kept.id)
    if as_json:
        _json({"quote": _quote(kept), "answer": _built(answer)})
        return
    why = f"no score: {kept.no_score}" if kept.no_score else f"score of {kept.score_period} by consent {kept.consent}"
    typer.echo(f"Quote {kept.id}, {why}")
    typer.echo("\n".join(describe(answer)))


@rate.command("quotes", epilog=f"{_EXAMPLE}quotes --policy P-2026-000123")
def list_quotes(
    device: Device = "",
    owner: Annotated[str, typer.Option("--owner", help="Only those of an owner.")] = "",
    policy: Annotated[str, typer.Option("--policy", help="Only those for a policy.")] = "",
    page: Annotated[int, typer.Option("--page", min=1, help="Which fifty, the latest first.")] = 1,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """List the quotes that were given, the latest first."""
    from receiver import db
    from receiver.rating import quotes

    devices = [device] if device else None
    with db.reading(open_database(config, database)) as connection:
        of = {"devices": devices, "owner": owner or None, "policy": policy or None, "page": page}
        found, shown = quotes.quotes(connection, **of)  # type: ignore[arg-type]
    if as_json:
        _json({"quotes": [_quote(q) for q in found], "page": shown.number, "pages": shown.pages})
        return
    if not found:
        typer.echo("No quote was given.")
    for q in found:
        why = q.no_score or f"score of {q.score_period}"
        typer.echo(f"{q.id}  {iso_utc(q.given_utc_ns)}  {q.total_yuan} ({q.plain_yuan} without)  {why}  {q.device}")


def _chosen(model: str | None, period: str) -> "tuple[Model, str, int]":
    from receiver.rating.periods import last_ended

    chosen, now_ns = _model(model), clock.wall_ns()
    return chosen, period or last_ended(now_ns, chosen.zone), now_ns


def _model(name: str | None) -> "Model":
    from receiver.scoring.model import DEFAULT_MODEL
    from receiver.scoring.model import model as find

    return find(name or DEFAULT_MODEL)


def _progress(as_json: bool) -> Any:
    def told(done: "Rated") -> None:
        if not as_json and done.vehicles % 1000 == 0:
            typer.echo(f"{done.vehicles} vehicles", err=True)

    return told


def _spread(of: "Distribution") -> list[str]:
    if not of.scored:
        return [f"{of.period} {of.model}: no score of {of.vehicles} vehicles"]
    among = ", ".join(f"{q} %: {score}" for q, score in of.quantiles.items())
    lines = [f"{of.period} {of.model}: {of.scored} of {of.vehicles} vehicles, mean {of.mean:.1f}; {among}"]
    most = max(of.tens())
    for ten, n in enumerate(of.tens()):
        last = 100 if ten == 9 else ten * 10 + 9
        lines.append(f"  {ten * 10:>3}–{last:<3} {n:>8}  {'█' * -(-40 * n // most)}")
    return lines


def _quote(kept: "KeptQuote") -> dict[str, Any]:
    return {**kept._asdict(), "total_yuan": str(kept.total_yuan), "plain_yuan": str(kept.plain_yuan)}


def _built(value: Any) -> Any:
    import msgspec

    return msgspec.json.decode(msgspec.json.encode(value))


def _json(value: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(value).decode())


def _say(as_json: bool, value: dict[str, Any], sentence: str) -> None:
    if as_json:
        _json(value)
    else:
        typer.echo(sentence)
