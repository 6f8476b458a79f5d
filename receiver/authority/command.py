"""`roadwitness ca`: make the authority of the boxes, give certificates by hand, revoke them, list them.

Also `roadwitness receiver enrolment-code` and `broker-config`, which stand with the receiver's other commands.
"""

import getpass
import hashlib
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agent.clock import iso_utc
from agent.errors import RoadwitnessError, near_names
from receiver.options import Config, Db, Json, open_database, print_json, settings_of

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keep the certificate authority of an insurer's boxes.",
    epilog="Begin: roadwitness ca init · roadwitness ca issue server broker.insurer.example",
)
_KINDS: Final = ("server", "receiver", "device")
_DEVICE: Final = "rw-0123456789abcdef"


@app.command(epilog="Example: roadwitness ca init --name 'Insurer Ltd'")
def init(
    name: Annotated[str, typer.Option("--name", help="Whose authority it is; stands in the certificates.")] = (
        "Roadwitness"
    ),
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Make the root and the issuing key below it."""
    from agent import clock
    from receiver.authority import folder, revoking

    settings = settings_of(config, database)
    where, crl = folder.folder_of(settings), folder.crl_of(settings)
    if crl.parent not in (where, *where.parents) and not crl.parent.is_dir():
        raise folder.AuthorityError(f"{crl.parent}: is not there; make the folder that [enrolment] crl names first")
    authority = folder.make(where, name, clock.wall_ns())
    revoking.write(open_database(config, database), settings, clock.wall_ns())
    told = {"folder": str(where), "fingerprint": _fingerprint(authority), "until": _until(authority)}
    if as_json:
        print_json(told)
        return
    typer.echo(f"The authority is in {where}, until {told['until'][:10]}.")
    typer.echo(f"Fingerprint of its root: {told['fingerprint']}")
    typer.echo(f"Move {where / folder.ROOT_KEY} into a safe: only `ca renew` needs it.")
    typer.echo("Next: roadwitness ca issue server HOST · ca issue receiver · receiver broker-config DIR")


@app.command(epilog="Example: roadwitness ca renew")
def renew(
    name: Annotated[str, typer.Option("--name", help="Whose authority it is.")] = "Roadwitness",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Certify the issuing key for further years; the root's key must be in the folder for it."""
    from agent import clock
    from receiver.authority import folder, revoking

    settings = settings_of(config, database)
    authority = folder.renew(folder.folder_of(settings), name, clock.wall_ns())
    revoking.write(open_database(config, database), settings, clock.wall_ns())
    if as_json:
        print_json({"folder": str(authority.folder), "until": _until(authority)})
    else:
        typer.echo(f"The issuing key counts until {_until(authority)[:10]}. Move the root's key away again.")


@app.command(
    epilog="Examples: roadwitness ca issue server broker.insurer.example 192.0.2.7 · roadwitness ca issue receiver · "
    f"roadwitness ca issue device {_DEVICE} --request device.csr"
)
def issue(
    kind: Annotated[str, typer.Argument(help="server (broker or pages), receiver, or device.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="server: its host names and addresses; receiver: its number, one for each process; device: its id."
        ),
    ] = None,
    request: Annotated[
        Path | None, typer.Option("--request", help="device: its certificate request, PEM or DER.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for certificate and key.")] = Path(),
    days: Annotated[int, typer.Option("--days", help="How long it counts; at most 397, a device's at most 825.")] = 0,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Give a certificate by hand. Boxes get theirs by `roadwitness enrol`; a device here is one that cannot."""
    from cryptography.hazmat.primitives.asymmetric import ec

    from agent import clock
    from receiver.authority import brokerconfig, enrolling, folder, issuing

    settings, given = settings_of(config, database), names or []
    authority = folder.load(folder.folder_of(settings))
    now_ns, most = clock.wall_ns(), issuing.SERVER_DAYS
    if kind == "device":
        if len(given) != 1 or request is None:
            raise RoadwitnessError("ca issue device: give its id and --request FILE")
        subject, hosts, most = given[0], [], 825
        known = [str(d.id) for d in _devices(config, database)]
        if subject not in known:
            raise RoadwitnessError(f"device {subject!r}: is not enrolled{near_names(subject, known)}")
        public, key, default = issuing.key_of(_request(request)), None, settings.enrolment.life_days
    elif kind in _KINDS:
        if kind == "receiver":
            number = int(given[0]) if given and given[0].isdecimal() else 0 if given else 1
            if not 1 <= number <= len(brokerconfig.RECEIVERS) or len(given) > 1:
                raise RoadwitnessError(
                    f"ca issue receiver: give its number, 1 to {len(brokerconfig.RECEIVERS)}, or none"
                )
            given = [brokerconfig.RECEIVERS[number - 1]]
        if not given:
            raise RoadwitnessError("ca issue server: give its host names, e.g. ca issue server broker.insurer.example")
        subject, hosts, default = given[0], given if kind == "server" else [], most
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
    else:
        raise RoadwitnessError(f"ca issue {kind!r}: is none of {', '.join(_KINDS)}{near_names(kind, _KINDS)}")
    if not 0 <= days <= most:
        raise RoadwitnessError(f"--days {days}: give 1 to {most}")
    named: Any = kind
    issued = issuing.issue(authority, named, subject, public, days or default, now_ns, hosts)
    with open_database(config, database).begin() as connection:
        enrolling.keep(connection, kind, subject, issued, "by hand", now_ns)
    stem = subject.replace("/", "_").replace(":", "_")
    paths = {"certificate": out / f"{stem}.crt"}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if key is not None:
            paths["key"] = out / f"{stem}.key"
            folder.write(paths["key"], folder.pem_of(key), private=True)
        folder.write(paths["certificate"], issued.pem.encode())
    except OSError as e:
        raise RoadwitnessError(f"{out}: cannot be written: {e.strerror}; check the folder") from e
    told = {"subject": subject, "serial": issued.serial, "until": iso_utc(issued.ends_utc_ns)}
    told |= {what: str(path) for what, path in paths.items()}
    if as_json:
        print_json(told)
    else:
        typer.echo(f"{', '.join(str(p) for p in paths.values())}: {subject}, until {told['until'][:10]}")


@app.command(epilog=f"Example: roadwitness ca revoke {_DEVICE} --reason 'box stolen'")
def revoke(
    name: Annotated[str, typer.Argument(help="Id of a device, another common name, or a serial number.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept beside it.")] = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Let certificates count no more. The device can enrol again with a new code; `receiver block` keeps it out."""
    from agent import clock
    from receiver import access
    from receiver.access import LOCAL, Look
    from receiver.authority import enrolling, revoking

    settings, engine = settings_of(config, database), open_database(config, database)
    access.append(engine, Look(_user(), LOCAL, name[:64], "", "enrolment", "revoked"), clock.wall_ns())
    with engine.begin() as connection:
        count = enrolling.revoke(connection, name, reason, clock.wall_ns())
    if not count:
        raise RoadwitnessError(f"{name}: has no certificate in force; see: roadwitness ca list")
    path = revoking.write(engine, settings, clock.wall_ns())
    if as_json:
        print_json({"revoked": count, "list": str(path)})
    else:
        typer.echo(f"{name}: {count} revoked, {path} is written. Now: systemctl reload mosquitto")


@app.command("list", epilog="Example: roadwitness ca list --all --json")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """List the authority and the certificates it gave."""
    from sqlalchemy import select

    from agent import clock
    from receiver import db
    from receiver.authority import folder
    from receiver.authority.tables import certificate as table

    settings, now_ns = settings_of(config, database), clock.wall_ns()
    authority = folder.load(folder.folder_of(settings))
    query = select(table).order_by(table.c.issued_utc_ns.desc(), table.c.serial)
    with db.reading(open_database(config, database)) as connection:
        rows = connection.execute(query if every else query.where(table.c.ends_utc_ns > now_ns)).all()
    listed = [
        {
            "subject": r.subject,
            "kind": r.kind,
            "serial": r.serial,
            "state": "revoked" if r.revoked_utc_ns else "ended" if r.ends_utc_ns <= now_ns else "in force",
            "from": iso_utc(r.begins_utc_ns),
            "until": iso_utc(r.ends_utc_ns),
            "how": r.how,
            "reason": r.reason,
        }
        for r in rows
    ]
    about = {"folder": str(authority.folder), "fingerprint": _fingerprint(authority), "until": _until(authority)}
    if as_json:
        print_json({"authority": about, "certificates": listed})
        return
    typer.echo(f"Authority in {about['folder']}, issuing until {about['until'][:10]}")
    typer.echo(f"Fingerprint of its root: {about['fingerprint']}")
    for row in listed:
        why = f": {row['reason']}" if row["reason"] else ""
        typer.echo(f"{row['subject']}  {row['kind']}  until {row['until'][:10]}  {row['state']}{why}")


def add_to(receiver: typer.Typer) -> None:
    """Add what stands with the receiver's commands."""
    receiver.command("enrolment-code", epilog="Example: roadwitness receiver enrolment-code --hours 48")(enrolment_code)
    receiver.command("broker-config", epilog="Example: roadwitness receiver broker-config /etc/mosquitto/roadwitness")(
        broker_config
    )


def enrolment_code(
    device: Annotated[str, typer.Option("--device", help="Only for this device; otherwise for any one.")] = "",
    hours: Annotated[float, typer.Option("--hours", help="How long it may be used; at most 720.")] = 72.0,
    actor: Annotated[str, typer.Option("--actor", help="Who makes it; by default who is signed in here.")] = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Make a code with which one box enrols, once; it is shown here and kept nowhere."""
    import re

    from cryptography.hazmat.primitives.serialization import Encoding

    from agent import clock
    from agent.enrolmentmessages import mark_of
    from receiver import access
    from receiver.access import LOCAL, Look
    from receiver.authority import codes, folder

    settings, now_ns = settings_of(config, database), clock.wall_ns()
    authority = folder.load(folder.folder_of(settings))
    if device and not re.fullmatch("rw-[0-9a-f]{16}", device):
        raise RoadwitnessError(f"--device {device!r}: is no name of a device, e.g. {_DEVICE}")
    # pages behind a public authority need no mark, and boxes that have one recognise ours by it alone
    mark = mark_of(authority.root.public_bytes(Encoding.DER)) if folder.gave(authority, settings.http) else ""
    engine, who = open_database(config, database), actor or _user()
    access.append(engine, Look(who, LOCAL, device, "", "enrolment", "code"), now_ns)
    with engine.begin() as connection:
        code = codes.make(connection, who, hours, now_ns, device, mark)
    until = iso_utc(now_ns + round(hours * 3600e9))
    if as_json:
        print_json({"code": str(code), "until": until, "device": device})
    else:
        typer.echo(str(code))
        typer.echo(f"For one box, until {until[:16]}Z: roadwitness enrol --receiver https://HOST", err=True)


def broker_config(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; they are written over.")],
    certificate: Annotated[
        str, typer.Option("--certificate", help="The broker's own certificate (roadwitness ca issue server HOST).")
    ] = "/etc/mosquitto/certs/broker.crt",
    key: Annotated[str, typer.Option("--key", help="Its key.")] = "/etc/mosquitto/certs/broker.key",
    port: Annotated[int, typer.Option("--port", help="Where it listens.", min=1, max=65535)] = 8883,
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Write the configuration and the access rules of Mosquitto, and what says the same to EMQX."""
    from agent import clock
    from receiver.authority import brokerconfig, revoking
    from receiver.authority.folder import crl_of, folder_of, root_pem

    settings = settings_of(config, database)
    list_ = revoking.write(open_database(config, database), settings, clock.wall_ns())
    try:
        made = brokerconfig.write(folder, root_pem(folder_of(settings)), list_, certificate, key, port)
    except OSError as e:
        raise RoadwitnessError(f"{folder}: cannot be written: {e.strerror}; check the folder") from e
    if as_json:
        print_json({"files": [str(p) for p in made], "crl": str(crl_of(settings))})
        return
    typer.echo("\n".join(str(p) for p in made))
    typer.echo(f"The broker reads the list of revoked certificates from {list_}; [enrolment] crl moves it.", err=True)


def _devices(config: Path | None, database: str | None) -> Any:
    from receiver import devices

    return devices.devices(open_database(config, database))


def _request(path: Path) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        data = path.read_bytes()
        return x509.load_pem_x509_csr(data).public_bytes(Encoding.DER) if data.startswith(b"-----") else data
    except OSError as e:
        raise RoadwitnessError(f"{path}: cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise RoadwitnessError(f"{path}: is no certificate request") from e


def _fingerprint(authority: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return hashlib.sha256(authority.root.public_bytes(Encoding.DER)).hexdigest()


def _until(authority: Any) -> str:
    return iso_utc(authority.ends_utc_ns)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as e:
        raise RoadwitnessError("who makes the code is not known here; say it with --actor") from e
