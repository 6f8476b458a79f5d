"""`roadwitness receiver claims document|documents|survey`: what belongs to a claim beside the device's evidence."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from agent import clock
from agent.clock import iso_utc
from agent.errors import RoadwitnessError
from receiver.options import Config, Db, Json, open_database, print_json, settings_of

ClaimId = Annotated[str, typer.Argument(metavar="CLAIM", help="A claim's id: 16 hex digits.")]
Who = Annotated[str, typer.Option("--who", help="Who does this; it is kept.")]
_EXAMPLE = "Example: roadwitness receiver claims "


def add_to(claims: typer.Typer) -> None:
    """Add the commands to `roadwitness receiver claims`."""
    claims.command("document", epilog=f"{_EXAMPLE}document 0123456789abcdef photo.jpg --kind photo --who me")(document)
    claims.command("documents", epilog=f"{_EXAMPLE}documents 0123456789abcdef --save folder")(documents)
    claims.command("survey", epilog=f"{_EXAMPLE}survey 0123456789abcdef dispatched --who me")(survey)


def document(
    claim: ClaimId,
    file: Annotated[Path, typer.Argument(help="A JPEG, PNG, WebP, HEIC, PDF or MP4.")],
    who: Who,
    kind: Annotated[str, typer.Option("--kind", help="photo, police, licence, registration, invoice, …")] = "other",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Add a document to a claim; the same bytes twice are one document."""
    from receiver.claiming import documents as kept
    from receiver.filestore import FileStore

    try:
        with file.open("rb") as opened:
            data = opened.read(kept.MOST_BYTES + 1)
    except OSError as e:
        raise RoadwitnessError(f"{file}: cannot be read: {e.strerror}; check its name and owner") from e
    settings = settings_of(config, database)
    files = FileStore(settings.files, settings.database)
    engine = open_database(config, database)
    added = kept.add(engine, files, claim, kind, file.name, data, who, clock.wall_ns())
    if as_json:
        print_json(added._asdict())
    else:
        typer.echo(f"{added.name}: {added.media}, {added.size:,} bytes, {added.sha256}")


def documents(
    claim: ClaimId,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write them into this folder, named by their hash.")
    ] = None,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """List the documents of a claim, or save them as they were uploaded."""
    from receiver import db
    from receiver.claiming import documents as kept
    from receiver.claiming import states
    from receiver.filestore import FileStore

    settings = settings_of(config, database)
    with db.reading(open_database(config, database)) as connection:
        states.row_of(connection, claim)
        found = kept.listed(connection, claim)
    files = FileStore(settings.files, settings.database)
    for each in found if save is not None else ():
        assert save is not None
        try:
            (save / each.stored).write_bytes(kept.read(files, each))
        except OSError as e:
            raise RoadwitnessError(f"{save / each.stored}: cannot be saved: {e.strerror or e}") from e
    if as_json:
        print_json({"claim": claim, "documents": [d._asdict() for d in found]})
        return
    if not found:
        typer.echo(f"Claim {claim} has no document.")
    for d in found:
        typer.echo(f"{d.sha256}  {iso_utc(d.uploaded_utc_ns)}  {d.kind}  {d.media}  {d.size:,}  {d.by}  {d.name}")


def survey(
    claim: ClaimId,
    step: Annotated[Literal["dispatched", "surveyed"], typer.Argument(help="Somebody was sent, or has looked.")],
    who: Who,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Write down that somebody was sent to look at the car, or has looked."""
    from receiver.claiming import reporting

    reporting.survey(open_database(config, database), claim, step, who, clock.wall_ns())
    if as_json:
        print_json({"claim": claim, "step": step})
    else:
        typer.echo(f"Claim {claim}: {step}.")
