"""`roadwitness receiver score`: score one vehicle or all of them, under one model or two side by side."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from receiver.options import Config, Db, Json, comparable_ns, open_database

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.scoring.model import Model
    from receiver.scoring.result import ScoreResult
    from receiver.scoring.trend import TrendPoint

EPILOG: Final = (
    "Examples: roadwitness receiver score rw-0123456789abcdef · "
    "roadwitness receiver score --from 2026-01-01 --to 2026-07-01 --compare relativity/1 --json"
)


def add_to(app: typer.Typer) -> None:
    """Add the command to `roadwitness receiver`."""
    app.command(epilog=EPILOG)(score)


def score(
    device: Annotated[str | None, typer.Argument(help="Id of a device; without it every enrolled vehicle.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Score model: name/version.")] = None,
    compare: Annotated[str | None, typer.Option("--compare", help="A second model, side by side.")] = None,
    by: Annotated[str | None, typer.Option("--trend", help="How the score went: by week or month.")] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="Trips from this day on, in the model's zone."),
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Trips before this day, in the model's zone.")
    ] = None,
    config: Config = None,
    database: Db = None,
    language: Annotated[str, typer.Option("--lang", help="en or zh.")] = "en",
    as_json: Json = False,
) -> None:
    """Score a vehicle, or all of them, and say what each point lost is for."""
    from agent.errors import ConfigError
    from receiver.scoring.model import DEFAULT_MODEL
    from receiver.scoring.model import model as find
    from receiver.texts import LANGUAGES

    if language not in LANGUAGES:
        raise ConfigError(f"--lang {language}: unknown; there are {', '.join(LANGUAGES)}")
    models = [find(name) for name in (model or DEFAULT_MODEL, compare) if name]
    if first and last and first >= last:
        raise ConfigError(f"--from {first:%Y-%m-%d} is not before --to {last:%Y-%m-%d}; turn them round")
    if by not in (None, "week", "month"):
        raise ConfigError(f"--trend {by}: unknown; there are week, month")
    engine = open_database(config, database)
    for told in _scores(engine, device, models, (first, last)):
        points = _trend(engine, told[0], models[0], by, last) if by else None
        if as_json:
            typer.echo(_json(told, points))
        else:
            _print(told, language, points)


def _scores(
    engine: "Engine", device: str | None, models: "list[Model]", days: tuple[datetime | None, datetime | None]
) -> "Iterator[list[ScoreResult]]":
    """Yield, vehicle by vehicle, its result under each model."""
    from agent.errors import ConfigError
    from receiver.devices import devices
    from receiver.scoring.score import score_vehicle

    known = sorted(d.id for d in devices(engine))
    if device is not None and device not in known:
        raise ConfigError(f"device {device}: not enrolled here; `roadwitness receiver devices` lists those that are")
    for each in [device] if device is not None else known:
        yield [score_vehicle(engine, each, m, _utc_ns(days[0], m.zone), _utc_ns(days[1], m.zone)) for m in models]


def _utc_ns(day: datetime | None, zone: str) -> int | None:
    from agent.clock import NS_PER_S
    from receiver.words import time_zone

    return None if day is None else comparable_ns(round(day.replace(tzinfo=time_zone(zone)).timestamp()) * NS_PER_S)


def _trend(
    engine: "Engine", result: "ScoreResult", model: "Model", by: str, last: datetime | None
) -> "list[TrendPoint]":
    from receiver.scoring.trend import trend

    return trend(engine, result.device, model, "week" if by == "week" else "month", _utc_ns(last, model.zone))


def _json(told: "list[ScoreResult]", points: "list[TrendPoint] | None") -> str:
    import msgspec

    value: Any = told[0]
    if len(told) > 1 or points is not None:
        value = {"device": told[0].device, "scores": told, **({} if points is None else {"trend": points})}
    return msgspec.json.encode(value).decode()


def _print(told: "list[ScoreResult]", language: str, points: "list[TrendPoint] | None") -> None:
    from receiver.scoring.telling import course, side_by_side, whole
    from receiver.texts import text

    words = text(language)
    for sentence in whole(words, told[0]):
        typer.echo(sentence)
    for sentence in side_by_side(words, told[0], told[1]) if len(told) > 1 else ():
        typer.echo(sentence)
    for sentence in course(words, points or []):
        typer.echo(sentence)
    typer.echo("")
