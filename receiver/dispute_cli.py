"""`roadwitness receiver disputes`: what owners dispute, and what was decided."""

from typing import Annotated, Final

import typer

from agent import clock
from agent.clock import iso_utc
from agent.errors import RoadwitnessError
from receiver.options import Config, Db, Json, open_database, print_json

disputes = typer.Typer(no_args_is_help=True, help="Disputes of events, trips and findings: list, open, decide.")

Who = Annotated[str, typer.Option("--who", help="Who does this; it is kept.")]
Why = Annotated[str, typer.Option("--why", help="Why; it is kept.")]
_EXAMPLE: Final = "Example: roadwitness receiver disputes "


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(disputes, name="disputes")


@disputes.command("list", epilog=f"{_EXAMPLE}list --device rw-0123456789abcdef")
def list_disputes(
    device: Annotated[str, typer.Option("--device", help="Only those of a device.")] = "",
    claim: Annotated[str, typer.Option("--claim", help="All of a claim, also those that were decided.")] = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """List the disputes that nobody has decided, the oldest first, or all of a claim."""
    from receiver import db
    from receiver import disputes as kept

    if device and claim:
        raise RoadwitnessError("disputes list: give --device or --claim, not both")
    with db.reading(open_database(config, database)) as connection:
        found = kept.of_claim(connection, claim) if claim else kept.waiting(connection, device or None)
    if as_json:
        print_json({"disputes": [d._asdict() for d in found]})
        return
    if not found:
        typer.echo("There is no such dispute.")
    for d in found:
        what = f"claim {d.claim} {d.rule}" if d.claim else f"{d.device} {d.lineage}/{d.lane}/{d.seq}"
        decided = f" ({d.decided_by}: {d.decision})" if d.decided_by else ""
        typer.echo(f"{d.id}  {d.state}  {iso_utc(d.opened_utc_ns)}  {what}  {d.by}: {d.why}{decided}")


@disputes.command(
    "entry", epilog=f"{_EXAMPLE}entry rw-0123456789abcdef 0123456789ab event 17 --who owner-7 --why 'a dog'"
)
def entry(
    device: Annotated[str, typer.Argument(help="Id of a device.")],
    lineage: Annotated[str, typer.Argument(help="Lineage of its store.")],
    lane: Annotated[str, typer.Argument(help="event or trip.")],
    seq: Annotated[int, typer.Argument(min=1, max=2**62, help="Number in the lane, as pages and scores name it.")],
    who: Who,
    why: Why,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Dispute an event or trip by its signed entry: it weighs in no score until somebody decides."""
    from receiver import disputes as kept

    engine = open_database(config, database)
    number = kept.dispute_entry(engine, device, (lineage, lane, seq), who, why, clock.wall_ns())
    _opened(as_json, number)


@disputes.command(
    "flag", epilog=f"{_EXAMPLE}flag 0123456789abcdef left_scene --who owner-7 --why 'the police asked me to'"
)
def flag(
    claim: Annotated[str, typer.Argument(help="A claim's id.")],
    rule: Annotated[str, typer.Argument(help="Name of the check, or settlement.")],
    who: Who,
    why: Why,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Dispute what a check of a claim found, or its payment."""
    from receiver import disputes as kept

    _opened(as_json, kept.dispute_flag(open_database(config, database), claim, rule, who, why, clock.wall_ns()))


@disputes.command("decide", epilog=f"{_EXAMPLE}decide 3 --uphold --who me --why 'the video shows a dog'")
def decide(
    number: Annotated[int, typer.Argument(min=1, max=2**62, help="Number of the dispute.")],
    upheld: Annotated[bool, typer.Option("--uphold/--reject", help="Is the owner right?")],
    who: Who,
    why: Why,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Decide a dispute: upheld, its event never weighs again; rejected, it weighs as before."""
    from receiver import disputes as kept

    kept.decide(open_database(config, database), number, upheld, who, why, clock.wall_ns())
    state = kept.UPHELD if upheld else kept.REJECTED
    if as_json:
        print_json({"dispute": number, "state": state})
    else:
        typer.echo(f"Dispute {number} is {state}.")


def _opened(as_json: bool, number: int) -> None:
    if as_json:
        print_json({"dispute": number})
    else:
        typer.echo(f"Dispute {number} is open.")
