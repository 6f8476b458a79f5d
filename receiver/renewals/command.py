"""`roadwitness receiver renewals`: who is due, the list as a file, and telling others."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import typer

from agent import clock
from agent.errors import RoadwitnessError
from receiver.moments import read_day
from receiver.options import Config, Db, Json, open_database, print_json, settings_of

renewals = typer.Typer(no_args_is_help=True, help="Policies that end: due, export, send.")

On = Annotated[str, typer.Option("--on", help="The day, YYYY-MM-DD; today without it.")]
By = Annotated[str, typer.Option("--schedule", help="V1 to V4; without it that of receiver.toml.")]
_EXAMPLE = "Example: roadwitness receiver renewals "


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(renewals, name="renewals")


@renewals.command("due", epilog=f"{_EXAMPLE}due --schedule V2 --json")
def list_due(on: On = "", schedule: By = "", config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """List the policies that end and are not renewed, with what is to be done next."""
    from receiver import db
    from receiver.renewals.due import due

    by = schedule or settings_of(config, database).renewals.schedule
    with db.reading(open_database(config, database)) as connection:
        rows = due(connection, _day(on), by)
    if as_json:
        told = [
            {
                "policy": d.policy.id,
                "vin": d.policy.vin,
                "plate": d.policy.plate,
                "ends": str(d.policy.ends),
                "days_left": d.days_left,
                "next": None if d.next is None else {"day": str(d.next.day), "kind": d.next.kind, "sms": d.next.sms},
                "escalated": d.escalated,
                "excluded": d.excluded,
                "score_change": d.score_change,
                "price_difference": None if d.price_difference is None else str(d.price_difference),
            }
            for d in rows
        ]
        print_json({"schedule": by, "due": told})
        return
    if not rows:
        typer.echo("No policy is due.")
    for d in rows:
        step = "nothing more" if d.next is None else f"{d.next.kind} {d.next.day}{' by SMS' if d.next.sms else ''}"
        marks = "  ESCALATED" if d.escalated else ""
        car = d.policy.plate or d.policy.vin
        marks += "" if d.score_change is None else f"  score {d.score_change:+g}"
        marks += "" if d.price_difference is None else f"  price {d.price_difference:+}"
        typer.echo(f"{d.policy.id}  {car}  ends {d.policy.ends} ({d.days_left} days)  next: {step}{marks}")


@renewals.command("export", epilog=f"{_EXAMPLE}export due.csv · roadwitness receiver renewals export due.ics --lang zh")
def export(
    file: Annotated[Path, typer.Argument(help="Where to write it: NAME.csv or NAME.ics.")],
    on: On = "",
    schedule: By = "",
    language: Annotated[Literal["en", "zh"], typer.Option("--lang", help="Of the calendar.")] = "en",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Write the due list for a spreadsheet or a calendar."""
    from receiver import db
    from receiver.renewals import exporting
    from receiver.renewals.due import due

    if file.suffix not in (".csv", ".ics"):
        raise RoadwitnessError(f"{file}: end the name with .csv or .ics")
    by = schedule or settings_of(config, database).renewals.schedule
    with db.reading(open_database(config, database)) as connection:
        rows = due(connection, _day(on), by)
    csv = file.suffix == ".csv"
    # a spreadsheet takes UTF-8 for what it is only where it begins with a mark
    text = "\ufeff" + exporting.to_csv(rows) if csv else exporting.to_ics(rows, clock.wall_ns(), language)
    try:
        file.write_bytes(text.encode())
    except OSError as e:
        raise RoadwitnessError(f"{file}: cannot be written: {e.strerror}; check the folder") from e
    if as_json:
        print_json({"file": str(file), "policies": len(rows)})
    else:
        typer.echo(f"{file}: {len(rows)} policies.")


@renewals.command("send", epilog=f"{_EXAMPLE}send --config receiver.toml")
def send(on: On = "", config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """Tell others what is due today, and again what they did not take before. For a timer; off until configured."""
    from receiver.renewals import telling
    from receiver.renewals.due import due

    settings = settings_of(config, database).renewals
    if not settings.webhook.url and not settings.email.host:
        raise RoadwitnessError("renewals send: nobody to tell; set renewals.webhook.url or renewals.email.host")
    engine, now_ns = open_database(config, database), clock.wall_ns()
    with engine.begin() as connection:
        rows = due(connection, _day(on), settings.schedule)
        new = telling.announce(connection, rows, settings, now_ns)
    done = telling.deliver(engine, settings, now_ns)
    if as_json:
        print_json({"new": new, **done._asdict()})
    else:
        typer.echo(f"{new} new notices; {done.sent} sent, {done.failed} to be tried again, {done.refused} refused.")


def _day(text: str) -> date:
    if not text:
        from receiver.claiming.assessing import local_day

        return local_day(clock.wall_ns())
    return read_day("--on", text)
