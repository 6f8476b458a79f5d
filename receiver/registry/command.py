"""`roadwitness receiver owners|vehicles|bind|unbind|bindings|consent|erasure|my-data`: who is whose, and who agreed."""

import getpass
from datetime import date
from typing import Annotated, Any

import typer

from agent.clock import iso_utc
from receiver.options import Config, Db, Json, open_database, print_json, settings_of

owners = typer.Typer(no_args_is_help=True, help="Owners of vehicles: put, list.")
vehicles = typer.Typer(no_args_is_help=True, help="Vehicles: put, list, code.")
consent = typer.Typer(no_args_is_help=True, help="What owners agree to: give, withdraw, show, text.")
erasure = typer.Typer(no_args_is_help=True, help="Erasure of what was withdrawn: ask, run, show.")

Device = Annotated[str, typer.Argument(help="Id of an enrolled device.")]
By = Annotated[str, typer.Option("--by", help="Who does it; by default who is signed in here.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to `roadwitness receiver`."""
    app.add_typer(owners, name="owners")
    app.add_typer(vehicles, name="vehicles")
    app.add_typer(consent, name="consent")
    app.add_typer(erasure, name="erasure")
    app.command(
        "bind", epilog="Example: roadwitness receiver bind rw-0123456789abcdef LFV2A21K6A3000000 --code ABCD2345"
    )(bind)
    app.command("unbind", epilog="Example: roadwitness receiver unbind rw-0123456789abcdef --reason 'car sold'")(unbind)
    app.command("bindings", epilog="Example: roadwitness receiver bindings --mismatch")(list_bindings)
    app.command("my-data", epilog="Example: roadwitness receiver my-data K-1 --out K-1.zip")(my_data)


@owners.command(
    "put", epilog="Example: roadwitness receiver owners put K-1 --name '王 店主' --phone '+86 138 0000 0000'"
)
def put_owner(
    owner: Annotated[str, typer.Argument(help="The insurer's own reference, as policies name it.")],
    name: Annotated[str, typer.Option("--name", help="Name, up to 100 characters.")],
    phone: Annotated[str, typer.Option("--phone")] = "",
    email: Annotated[str, typer.Option("--email")] = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Register an owner, or change one."""
    from agent import clock
    from receiver.registry.owners import Owner, put

    made = Owner(owner, name, phone, email)
    with open_database(config, database).begin() as connection:
        put(connection, made, clock.wall_ns())
    _told({"owner": owner}, f"{owner} is registered.", as_json)


@owners.command("list", epilog="Example: roadwitness receiver owners list --json")
def list_owners(config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """List owners, and how many vehicles each has."""
    from receiver import db
    from receiver.registry import owners as kept
    from receiver.registry.vehicles import of_owner

    with db.reading(open_database(config, database)) as connection:
        found = [(o, of_owner(connection, o.id)) for o in kept.listed(connection)]
    rows = [{"id": o.id, "name": o.name, "vehicles": [v.vin for v in cars]} for o, cars in found]
    _listed("owners", rows, [f"{r['id']}  {r['name']}  {', '.join(r['vehicles'])}" for r in rows], as_json)


@vehicles.command(
    "put",
    epilog="Example: roadwitness receiver vehicles put LFV2A21K6A3000000 --owner K-1 --plate 鲁A12345 "
    "--use-class family --seats 5 --energy fuel --first-registered 2020-05-04",
)
def put_vehicle(
    vin: Annotated[str, typer.Argument(help="17 letters and digits, as in the vehicle's papers.")],
    owner: Annotated[str, typer.Option("--owner", help="Id of a registered owner.")],
    use_class: Annotated[str, typer.Option("--use-class", help="As config/regimes/names.toml names it.")],
    seats: Annotated[int, typer.Option("--seats")],
    energy: Annotated[str, typer.Option("--energy", help="As config/regimes/names.toml names it.")],
    first_registered: Annotated[str, typer.Option("--first-registered", help="Day, e.g. 2020-05-04.")],
    plate: Annotated[str, typer.Option("--plate")] = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Register a vehicle, or change one."""
    from agent import clock
    from agent.errors import RoadwitnessError
    from receiver.pricing.book import load_book
    from receiver.registry.vehicles import Vehicle, put

    try:
        day = date.fromisoformat(first_registered)
    except ValueError as e:
        raise RoadwitnessError(f"--first-registered {first_registered!r}: write a day like 2020-05-04") from e
    names = load_book().names
    made = Vehicle(vin, owner, use_class, seats, energy, day, plate)
    with open_database(config, database).begin() as connection:
        put(connection, made, clock.wall_ns(), use_classes=names.use_classes, energies=names.energies)
    _told({"vehicle": vin}, f"{vin} is registered.", as_json)


@vehicles.command("list", epilog="Example: roadwitness receiver vehicles list --owner K-1")
def list_vehicles(
    owner: Annotated[str, typer.Option("--owner", help="Only this owner's.")] = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """List vehicles with the devices in them."""
    from dataclasses import asdict

    from receiver import db
    from receiver.registry import vehicles as kept
    from receiver.registry.bindings import device_of

    with db.reading(open_database(config, database)) as connection:
        cars = kept.of_owner(connection, owner) if owner else kept.listed(connection)
        rows = [{**asdict(v), "device": device_of(connection, v.vin) or ""} for v in cars]
    for row in rows:
        row["first_registered"] = str(row["first_registered"])
    lines = [
        f"{r['vin']}  {r['plate'] or '-'}  {r['use_class']}  {r['owner']}  {r['device'] or 'no device'}" for r in rows
    ]
    _listed("vehicles", rows, lines, as_json)


@vehicles.command("code", epilog="Example: roadwitness receiver vehicles code LFV2A21K6A3000000")
def code(
    vin: Annotated[str, typer.Argument()], config: Config = None, database: Db = None, as_json: Json = False
) -> None:
    """Print the one-time code by which a device is bound to a vehicle; an earlier one ends."""
    from agent import clock
    from receiver.registry.bindings import CODE_LIFE_NS, offer

    now_ns = clock.wall_ns()
    with open_database(config, database).begin() as connection:
        made = offer(connection, vin, now_ns)
    until = iso_utc(now_ns + CODE_LIFE_NS)
    _told({"vin": vin, "code": made, "until": until}, f"{made[:4]} {made[4:]}, once, until {until}", as_json)


def bind(
    device: Device,
    vin: Annotated[str, typer.Argument(help="VIN of a registered vehicle.")],
    code: Annotated[str, typer.Option("--code", help="As `receiver vehicles code` printed it.")],
    by: By = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Bind a device to a vehicle by the vehicle's one-time code."""
    from agent import clock
    from receiver.registry import bindings

    made = bindings.bind(open_database(config, database), device, vin, code, clock.wall_ns(), by=by or _user())
    _told(made._asdict(), f"{device} is bound to {vin}.", as_json)


def unbind(
    device: Device,
    reason: Annotated[str, typer.Option("--reason", help="Why.")],
    by: By = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """End a device's binding; what its owner agreed to ends with it, and the device forgets the car."""
    from agent import clock
    from receiver.registry import bindings

    ended = bindings.unbind(open_database(config, database), device, clock.wall_ns(), reason=reason, by=by or _user())
    _told(ended._asdict(), f"{device} is bound to no vehicle any more.", as_json)


def list_bindings(
    mismatch: Annotated[bool, typer.Option("--mismatch", help="Only cars that tell another VIN.")] = False,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """List which device is in which vehicle, and cars that tell another VIN than they are bound to."""
    from receiver import db
    from receiver.registry import bindings

    with db.reading(open_database(config, database)) as connection:
        found = {m.device: m for m in bindings.mismatches(connection)}
        kept = bindings.listed(connection, ended=False)
    rows: list[dict[str, Any]] = [
        {**b._asdict(), "mismatch": found[b.device].read_vin or "another VIN" if b.device in found else ""}
        for b in kept
        if not mismatch or b.device in found
    ]
    lines = [f"{r['device']}  {r['vin']}  since {iso_utc(r['bound_utc_ns'])}{_other(r['mismatch'])}" for r in rows]
    _listed("bindings", rows, lines, as_json)


@consent.command(
    "give", epilog="Example: roadwitness receiver consent give rw-0123456789abcdef recording --how 'sheet 4711'"
)
def give(
    device: Device,
    purpose: Annotated[str, typer.Argument(help="recording, scoring, video, regulator, clip or track.")],
    how: Annotated[str, typer.Option("--how", help="Where the signed paper is.")],
    language: Annotated[str, typer.Option("--language", help="Of the text that was signed: zh or en.")] = "zh",
    by: By = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Write down that the owner signed the text of a purpose."""
    from agent import clock
    from receiver.registry import consents

    engine = open_database(config, database)
    row = consents.give(engine, device, purpose, clock.wall_ns(), by=by or _user(), language=language, how=how)
    _told(row._asdict(), f"{row.id}: {row.owner} agrees to {purpose} (text {row.version}).", as_json)


@consent.command("withdraw", epilog="Example: roadwitness receiver consent withdraw rw-0123456789abcdef recording")
def withdraw(
    device: Device,
    purpose: Annotated[str, typer.Argument(help="recording, scoring, video, regulator, clip or track.")],
    how: Annotated[str, typer.Option("--how", help="How the owner said so.")] = "told to us",
    by: By = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Write down that the owner withdraws a purpose and what rests on it; the device is told, and erasure begins."""
    from agent import clock
    from receiver.registry import consents

    engine = open_database(config, database)
    rows = consents.withdraw(engine, device, purpose, clock.wall_ns(), by=by or _user(), how=how)
    ended = ", ".join(row.purpose for row in rows)
    _told(
        {"withdrawn": [row._asdict() for row in rows]}, f"Withdrawn: {ended or 'nothing, it was not given'}.", as_json
    )


@consent.command("show", epilog="Example: roadwitness receiver consent show rw-0123456789abcdef --json")
def show(device: Device, config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """List all that was agreed to and withdrawn for a device, first things first."""
    from receiver import db
    from receiver.registry import consents

    with db.reading(open_database(config, database)) as connection:
        rows = [row._asdict() for row in consents.history(connection, device)]
    lines = [
        f"{r['id']}  {iso_utc(r['at_utc_ns'])}  {'gives' if r['given'] else 'withdraws'} {r['purpose']}  "
        f"by {r['by']}: {r['how']}"
        for r in rows
    ]
    _listed("consents", rows, lines, as_json)


@consent.command("text", epilog="Example: roadwitness receiver consent text recording --language en")
def text(
    purpose: Annotated[str, typer.Argument(help="recording, scoring, video, regulator, clip or track.")],
    language: Annotated[str, typer.Option("--language", help="zh or en.")] = "zh",
    as_json: Json = False,
) -> None:
    """Print the text that owners agree to now, to be signed on paper."""
    from receiver.registry import consents, wording

    consents.known(purpose)
    shown, version = wording.current(purpose, language), wording.latest(purpose).version
    _told({"version": version, **shown._asdict()}, f"{shown.title} ({version})\n\n{shown.text}", as_json)


@erasure.command("ask", epilog="Example: roadwitness receiver erasure ask --owner K-1")
def ask(
    owner: Annotated[str, typer.Option("--owner", help="Erase all that is kept of this owner's driving.")] = "",
    device: Annotated[str, typer.Option("--device", help="Erase all that this device sent.")] = "",
    by: By = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Withdraw everything that an owner agreed to, or for one device, and have erased what was kept."""
    from agent import clock
    from agent.errors import ConfigError
    from receiver.registry import erasing

    if bool(owner) == bool(device):
        raise ConfigError("erasure ask: give --owner or --device")
    engine = open_database(config, database)
    made = erasing.ask(engine, clock.wall_ns(), owner=owner, device=device, by=by or _user())
    _told({"erasures": made}, f"Asked: {', '.join(map(str, made)) or 'nothing is kept'}.", as_json)


@erasure.command("run", epilog="Example: roadwitness receiver erasure run --config receiver.toml")
def run(config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """Erase what was asked for; `receiver serve` does the same every minute. May be killed and started again."""
    from agent import clock
    from receiver.filestore import FileStore
    from receiver.registry import erasing

    settings = settings_of(config, database)
    engine = open_database(config, database)
    done = erasing.run(engine, FileStore(settings.files, settings.database), clock.wall_ns())
    _told({"done": done}, f"Done: {', '.join(map(str, done)) or 'nothing'}.", as_json)


@erasure.command("show", epilog="Example: roadwitness receiver erasure show --json")
def show_erasures(
    owner: Annotated[str, typer.Option("--owner", help="Only this owner's.")] = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """List erasures: what was asked, until when it is due, how far it is, and what an open claim still needs."""
    from agent import clock
    from receiver import db
    from receiver.registry import erasures

    now_ns = clock.wall_ns()
    with db.reading(open_database(config, database)) as connection:
        found = erasures.listed(connection, owner=owner)
    rows = [{**e._asdict(), "overdue": e.overdue(now_ns)} for e in found]
    lines = [
        f"{e.id}  {e.device}  {e.purpose}  {e.state}{' OVERDUE' if e.overdue(now_ns) else ''}  "
        f"due {iso_utc(e.due_utc_ns)}"
        f"{'  kept for claims: ' + ', '.join(e.kept) if e.kept else ''}"
        for e in found
    ]
    _listed("erasures", rows, lines, as_json)


def my_data(
    owner: Annotated[str, typer.Argument(help="Id of a registered owner.")],
    out: Annotated[str, typer.Option("--out", help="The ZIP file, or - for standard output.")],
    by: By = "",
    config: Config = None,
    database: Db = None,
) -> None:
    """Write all that is kept of an owner into a ZIP file."""
    from agent import clock
    from receiver import access
    from receiver.exports.files import opened
    from receiver.filestore import FileStore
    from receiver.registry.exporting import export_owner

    settings = settings_of(config, database)
    engine = open_database(config, database)
    access.append(engine, access.Look(by or _user(), "", "", "", "export", f"owner {owner}"[:100]), clock.wall_ns())
    with opened(out) as sink:
        counts = export_owner(engine, FileStore(settings.files, settings.database), owner, sink)
    if out != "-":
        typer.echo(f"{out}: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())), err=True)


def _told(value: dict[str, Any], line: str, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        typer.echo(line)


def _listed(name: str, rows: list[dict[str, Any]], lines: list[str], as_json: bool) -> None:
    if as_json:
        print_json({name: rows})
    else:
        typer.echo("\n".join(lines) or f"There are no {name}.")


def _other(vin: str) -> str:
    return f"  the car tells {vin}" if vin else ""


def _user() -> str:
    from receiver import access

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return access.LOCAL
