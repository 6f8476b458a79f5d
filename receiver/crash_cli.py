"""`roadwitness receiver crashes`, `check` and `audit verify`."""

from typing import Annotated, Any

import typer

from agent.clock import iso_utc
from receiver.options import Config, Db, Json, open_database, print_json, settings_of

SIZE = 100  # crashes on one page
audit = typer.Typer(no_args_is_help=True, help="The log of who looked at what and who did what.")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    example = "Example: roadwitness receiver "
    app.command("crashes", epilog=f"{example}crashes --db sqlite:///roadwitness.db --json")(list_crashes)
    app.command("check", epilog=f"{example}check rw-0123456789abcdef 87d2e46bb5365d99")(check)
    app.add_typer(audit, name="audit")


def list_crashes(
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
    page: Annotated[int, typer.Option("--page", min=1, help="Which hundred, the latest first.")] = 1,
) -> None:
    """List the crashes that were reported, with their claims and how far their packages are."""
    from receiver import crashes

    rows, shown = crashes.crashes(open_database(config, database), page=page, size=SIZE)
    if as_json:
        print_json({"crashes": [_told(row) for row in rows], "page": shown.number, "pages": shown.pages})
        return
    if not rows:
        typer.echo("No crash has been reported.")
    for row in rows:
        change = "change of speed not known" if row.delta_v_mps is None else f"{row.delta_v_mps * 3.6:.0f} km/h"
        when = "time unknown" if row.utc_ns is None else iso_utc(row.utc_ns)
        package, claim = row.package, "none" if row.claim is None else row.claim.state
        share = f" {100 * package.received // max(1, package.size)} %" if package.state == "arriving" else ""
        typer.echo(f"{row.device}  {row.incident}  {when}  {row.kind}  {change}")
        typer.echo(f"  package: {package.state}{share}  claim: {claim}")
    if shown.pages > shown.number:
        typer.echo(f"Page {shown.number} of {shown.pages}; the next: --page {shown.number + 1}")


def _told(row: Any) -> dict[str, Any]:
    check, claim = row.package.check, row.claim
    return {
        "device": row.device,
        "incident": row.incident,
        "utc": None if row.utc_ns is None else iso_utc(row.utc_ns),
        "time_quality": row.clock.quality,
        "kind": row.kind,
        "complete": row.complete,
        "delta_v_mps": row.delta_v_mps,
        "direction_clock": row.direction_clock,
        "package": row.package.state,
        "package_bytes": row.package.size,
        "package_received": row.package.received,
        "check": None if check is None else {"exit_code": check.exit_code, "verdict": check.verdict},
        "claim": None if claim is None else {"id": claim.id, "state": claim.state, "suspected": claim.suspected},
    }


def check(
    device: Annotated[str, typer.Argument(help="Id of the device.")],
    incident: Annotated[str, typer.Argument(help="The crash, as `crashes` lists it.")],
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Verify a whole package again and keep what was found. Exit code 0: proved; 1: something does not hold."""
    from agent import clock
    from agent.errors import StoreError
    from receiver import checks
    from receiver.filestore import FileStore

    settings = settings_of(config, database)
    files = FileStore(settings.files, settings.database)
    try:
        found = checks.check(open_database(config, database), files, device, incident, clock.wall_ns())
    except OSError as e:
        raise StoreError(f"package {incident}: cannot be read: {e}; check files.root and its owner") from e
    if found is None:
        raise StoreError(f"package {incident} of device {device}: not whole here; see roadwitness receiver crashes")
    if as_json:
        print_json({"device": device, "incident": incident, "exit_code": found.exit_code, "lines": found.sentences})
    else:
        typer.echo("\n".join(found.sentences))
    raise typer.Exit(0 if found.proved else 1)


@audit.callback()
def _audit() -> None:
    """The log of who looked at what and who did what."""


@audit.command("verify", epilog="Example: roadwitness receiver audit verify --head 1042:9f0c…")
def verify_audit(
    config: Config = None,
    database: Db = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="ROW:HASH", help="A head noted earlier; it must still be there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that no row of the log was altered, removed, added or moved. Exit code 1 names the first that was."""
    from receiver import access

    found = access.verify(open_database(config, database), None if head is None else access.read_head(head))
    if as_json:
        last = {"row": found.head.seq, "hash": found.head.hash}
        print_json({"rows": found.rows, "head": last, "broken": found.broken, "why": found.why})
    elif found.broken is not None:
        typer.echo(f"FAIL row {found.broken}: {found.why}")
    else:
        typer.echo(f"{found.rows} rows hold. Head, to be noted elsewhere: {found.head.seq}:{found.head.hash}")
    raise typer.Exit(0 if found.broken is None else 1)
