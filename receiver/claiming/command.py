"""`roadwitness receiver claims`: the queue, one claim, a report, cars and losses, checks, assessment, settlement."""

import re
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from agent import clock
from agent.clock import iso_utc
from agent.errors import RoadwitnessError
from receiver.claiming import papers
from receiver.moments import read_moment
from receiver.options import Config, Db, Json, open_database, print_json, settings_of

claims = typer.Typer(no_args_is_help=True, help="Claims: list, show, report, check, assess, settle.")

ClaimId = Annotated[str, typer.Argument(metavar="CLAIM", help="A claim's id: 16 hex digits.")]
Who = Annotated[str, typer.Option("--who", help="Who does this; it is kept.")]
Why = Annotated[str, typer.Option("--why", help="Why; it is kept.")]
_EXAMPLE = "Example: roadwitness receiver claims "
_NUMBER: Final = re.compile(r"[0-9]{1,6}")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    papers.add_to(claims)
    app.add_typer(claims, name="claims")


@claims.command("list", epilog=f"{_EXAMPLE}list --state reported --json")
def list_claims(
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
    state: Annotated[str | None, typer.Option("--state", help="Only those that are in this state.")] = None,
    page: Annotated[int, typer.Option("--page", min=1, help="Which hundred, the latest first.")] = 1,
) -> None:
    """List claims, the latest first, with what the checks flagged."""
    from receiver.claiming import reading

    found, shown = reading.queue(open_database(config, database), state=state, page=page)
    if as_json:
        print_json({"claims": [c._asdict() for c in found], "page": shown.number, "pages": shown.pages})
        return
    if not found:
        typer.echo("There is no claim.")
    for c in found:
        flags = ", ".join(c.flags) or ("not checked yet" if c.checked_utc_ns is None else "no flag")
        when = "time unknown" if c.accident_utc_ns is None else iso_utc(c.accident_utc_ns)
        typer.echo(f"{c.id}  {c.state}  {when}  {c.device}  by {c.opened_by}: {flags}")


@claims.command("show", epilog=f"{_EXAMPLE}show 0123456789abcdef --lang zh")
def show(
    claim: ClaimId,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
    language: Annotated[str, typer.Option("--lang", help="en or zh.")] = "en",
) -> None:
    """Show one claim: its checks, losses, proposal, documents, disputes and history."""
    from receiver.claiming import reading, wording
    from receiver.pricing.book import load_book
    from receiver.texts import LANGUAGES

    if language not in LANGUAGES:
        raise RoadwitnessError(f"--lang {language!r}: known are {', '.join(LANGUAGES)}")
    found = reading.claim(open_database(config, database), load_book(), claim)
    if as_json:
        print_json({f.name: _named(getattr(found, f.name)) for f in fields(found)})
        return
    words = wording.text(language)
    typer.echo(f"{found.id}  {words.among('state', found.state)}  {found.device}  {found.incident}")
    for f in found.findings:
        typer.echo(f"  {words(f'result.{f.result}')}: {wording.name(f, words)}. {wording.sentence(f, words)}")
    for loss in found.losses:
        typer.echo(f"  {loss.number}. {words.among('head', loss.head)}: {loss.estimated} / {loss.assessed or '–'}")
    if found.proposal is not None:
        for line in found.proposal.lines:
            typer.echo(f"  {wording.line(line, words)} = {line.paid}")
        typer.echo(f"  = {found.proposal.total}; {found.paid}")
    for step in found.history:
        typer.echo(f"  {iso_utc(step.utc_ns)}  {step.who}: {step.what} {step.before} → {step.after}  {step.why}")


@claims.command("report", epilog=f"{_EXAMPLE}report rw-0123456789abcdef --at 2026-11-01T08:00:00Z --who owner-7")
def report(
    device: Annotated[str, typer.Argument(help="The car's device.")],
    at: Annotated[str, typer.Option("--at", help="When it happened, ISO 8601 with zone.")],
    who: Who,
    place: Annotated[str, typer.Option("--place", help="Where: LATITUDE,LONGITUDE (WGS-84).")] = "",
    said: Annotated[str, typer.Option("--said", help="What happened.")] = "",
    injured: Annotated[bool, typer.Option("--injured", help="Somebody was hurt.")] = False,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Report a loss: it joins the claim that the device opened by itself, or opens one."""
    from receiver.claiming import assessing, facts, reporting
    from receiver.filestore import FileStore

    engine, now_ns = open_database(config, database), clock.wall_ns()
    declared = reporting.Declared(device, read_moment("--at", at), who, said, _place(place), injured)
    claim = reporting.report(engine, declared, now_ns, facts.limits())
    settings = settings_of(config, database)
    assessing.check(engine, claim, now_ns, FileStore(settings.files, settings.database))
    _say(as_json, {"claim": claim}, f"Reported: claim {claim}.")


@claims.command("car", epilog=f"{_EXAMPLE}car 0123456789abcdef 1 --fault primary --compulsory --agrees --who me")
def car(
    claim: ClaimId,
    number: Annotated[int, typer.Argument(help="1 is the insured car.")],
    who: Who,
    vin: Annotated[str, typer.Option("--vin")] = "",
    plate: Annotated[str, typer.Option("--plate")] = "",
    device: Annotated[str, typer.Option("--device", help="Its device, where it has one of ours.")] = "",
    fault: Annotated[str, typer.Option("--fault", help="none, secondary, equal, primary or full.")] = "",
    share: Annotated[int | None, typer.Option("--share", help="Percent by the police, where they gave one.")] = None,
    compulsory: Annotated[bool, typer.Option("--compulsory", help="It has the compulsory cover.")] = False,
    agrees: Annotated[bool, typer.Option("--agrees", help="To fault and to fast settlement.")] = False,
    injured: Annotated[bool, typer.Option("--injured")] = False,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Note a car of the accident."""
    from receiver.claiming import reporting

    known = reporting.Car(number, vin, plate, device, compulsory, fault, share, agrees, injured)
    reporting.put_car(open_database(config, database), claim, known, who, clock.wall_ns())
    _say(as_json, {"claim": claim, "car": number}, f"Claim {claim}: car {number} is noted.")


@claims.command("loss", epilog=f"{_EXAMPLE}loss 0123456789abcdef vehicle 8600.00 --who me")
def loss(
    claim: ClaimId,
    head: Annotated[str, typer.Argument(help="death, medical, property, vehicle, driver, passenger, glass, …")],
    amount: Annotated[str, typer.Argument(help="Estimated, yuan.")],
    who: Who,
    party: Annotated[int, typer.Option("--party", help="Whose: the number of the car.")] = 1,
    person: Annotated[int, typer.Option("--person", help="Which of several persons.")] = 0,
    others: Annotated[str, typer.Option("--paid-by-others", help="Of it already paid by others, yuan.")] = "0",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Note an estimated loss."""
    from receiver.claiming import reporting

    paid = _yuan(others)
    number = reporting.add_loss(
        open_database(config, database),
        claim,
        head,
        _yuan(amount),
        who,
        clock.wall_ns(),
        party=party,
        person=person,
        paid_by_others=paid,
    )
    _say(as_json, {"claim": claim, "loss": number}, f"Claim {claim}: loss {number} is noted.")


@claims.command("check", epilog=f"{_EXAMPLE}check 0123456789abcdef · roadwitness receiver claims check --open")
def check(
    claim: Annotated[str, typer.Argument(metavar="[CLAIM]", help="A claim's id.")] = "",
    open_ones: Annotated[bool, typer.Option("--open", help="All that are not settled: for a timer.")] = False,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Check a claim against the evidence again. Flags tell where to look; they change no state and no amount."""
    from receiver.claiming import assessing, wording
    from receiver.filestore import FileStore

    if bool(claim) == open_ones:
        raise RoadwitnessError("claims check: give a claim, or --open for all that are not settled")
    settings = settings_of(config, database)
    engine, files = open_database(config, database), FileStore(settings.files, settings.database)
    if open_ones:
        done = assessing.check_open(engine, clock.wall_ns(), files)
        _say(as_json, {"checked": done}, f"{len(done)} claims were checked.")
        return
    found = assessing.check(engine, claim, clock.wall_ns(), files)
    words = wording.text("en")
    if as_json:
        print_json({"claim": claim, "findings": [msgspec.to_builtins(f) for f in found]})
        return
    for f in found:
        typer.echo(f"{f.result:8} {wording.name(f, words)}: {wording.sentence(f, words)}")


@claims.command("assess", epilog=f"{_EXAMPLE}assess 0123456789abcdef --loss 1=8600.00 --who me --why 'seen'")
def assess(
    claim: ClaimId,
    who: Who,
    why: Why,
    losses: Annotated[list[str] | None, typer.Option("--loss", help="NUMBER=YUAN, for each loss.")] = None,
    regimes: Annotated[Path | None, typer.Option("--regimes", help="Folder of the rate tables.")] = None,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Fix the losses and keep the payment that is proposed for them."""
    from receiver.claiming import assessing, wording
    from receiver.pricing.book import load_book

    amounts: dict[int, Decimal] = {}
    for given in losses or []:
        number, equals, amount = given.partition("=")
        if not equals or not _NUMBER.fullmatch(number):
            raise RoadwitnessError(f"--loss {given!r}: write NUMBER=YUAN, e.g. 1=8600.00")
        amounts[int(number)] = _yuan(amount)
    engine = open_database(config, database)
    proposal = assessing.assess(engine, load_book(regimes), claim, amounts, who, why, clock.wall_ns())
    if as_json:
        print_json({"claim": claim, "proposal": msgspec.to_builtins(proposal, enc_hook=_told)})
        return
    words = wording.text("en")
    for line in proposal.lines:
        typer.echo(f"{line.paid:>12} {wording.line(line, words)}")
    typer.echo(f"{proposal.total:>12} in all")


@claims.command("settle", epilog=f"{_EXAMPLE}settle 0123456789abcdef --who me --why 'owner agreed'")
def settle(
    claim: ClaimId, who: Who, why: Why, config: Config = None, database: Db = None, as_json: Json = False
) -> None:
    """Accept the last proposal: its payments are noted and the claim is settled."""
    from receiver.claiming import assessing

    amount = assessing.settle(open_database(config, database), claim, who, why, clock.wall_ns())
    _say(as_json, {"claim": claim, "paid": str(amount)}, f"Claim {claim} is settled: {amount} yuan.")


@claims.command("verify", epilog=f"{_EXAMPLE}verify")
def verify(
    head: Annotated[str, typer.Option("--head", help="ROW:HASH noted earlier, which must still stand there.")] = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Check the history of all claims: was a row altered, removed or put in? Exit 1 where one was."""
    from receiver.chained import read_head
    from receiver.claiming import history

    noted = read_head(head) if head else None
    found = history.verify(open_database(config, database), noted)
    told = {"rows": found.rows, "head": f"{found.head.seq}:{found.head.hash}", "broken": found.broken, "why": found.why}
    said = "whole" if found.broken is None else f"BROKEN: row {found.broken} {found.why}"
    _say(as_json, told, f"{found.rows} rows, {said}. Head {told['head']}")
    if found.broken is not None:
        raise typer.Exit(1)


def _say(as_json: bool, value: dict[str, Any], sentence: str) -> None:
    if as_json:
        print_json(value)
    else:
        typer.echo(sentence)


def _place(text: str) -> Any:
    from receiver.claiming.facts import Place

    if not text:
        return None
    try:
        latitude, longitude = map(float, text.split(","))
    except ValueError as e:
        raise RoadwitnessError(f"--place {text!r}: write LATITUDE,LONGITUDE in degrees") from e
    return Place(latitude, longitude)


def _yuan(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as e:
        raise RoadwitnessError(f"{text!r} is no amount; write yuan like 8600.00") from e


def _named(value: Any) -> Any:
    """Make JSON's own types of a part of a claim; tuples with names keep them."""
    if isinstance(value, list):
        return [_named(one) for one in value]
    return msgspec.to_builtins(value._asdict() if hasattr(value, "_asdict") else value, enc_hook=_told)


def _told(value: object) -> object:
    return str(value)
