"""`roadwitness receiver policies`: which car is covered from when to when, as the insurer's own system says it."""

import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from agent.errors import RoadwitnessError
from agent.known import known
from receiver.options import Config, Db, Json, open_database, print_json

if TYPE_CHECKING:
    from receiver.policies import Policy

policies = typer.Typer(no_args_is_help=True, help="Policies: put, show, list.")

MOST_BYTES: Final = 64 << 20  # some 100,000 policies
_EXAMPLE: Final = "Example: roadwitness receiver policies "


class _Cover(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    sum_yuan: Decimal | None = None
    waived: bool = False


class _Policy(msgspec.Struct, forbid_unknown_fields=True):
    """A policy as a file has it: sums in yuan."""

    id: str
    regime: str
    starts: date
    ends: date
    vin: str = ""
    plate: str = ""
    device: str = ""
    owner: str = ""
    use_class: str = "family"
    premium_yuan: Decimal = Decimal(0)
    compulsory: bool = True
    sales_confirmed: bool = True
    covers: list[_Cover] = []


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(policies, name="policies")


@policies.command("put", epilog=f"{_EXAMPLE}put policies.json")
def put(
    file: Annotated[str, typer.Argument(help="JSON: one policy or a list of them; - reads the input.")],
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Keep policies, in place of those of the same id: all of a file, or none where one is wrong."""
    from receiver import policies as kept

    told = _read(file)
    with open_database(config, database).begin() as connection:
        for policy in told:
            kept.put(connection, policy)
    if as_json:
        print_json({"policies": [p.id for p in told]})
    else:
        typer.echo(f"{len(told)} policies are kept.")


@policies.command("show", epilog=f"{_EXAMPLE}show P-2026-000123 --json")
def show(
    policy: Annotated[str, typer.Argument(help="Id of a policy.")],
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """Show one policy with its covers."""
    from receiver import db
    from receiver import policies as kept

    with db.reading(open_database(config, database)) as connection:
        found = kept.get(connection, policy)
    if found is None:
        raise RoadwitnessError(
            f"policy {policy[:32]!r}: there is none of that id; see: roadwitness receiver policies list"
        )
    if as_json:
        print_json(_told(found))
        return
    typer.echo(_line(found))
    for cover in found.covers:
        amount = "no sum" if cover.sum_fen is None else f"{_yuan(cover.sum_fen)} yuan"
        typer.echo(f"  {cover.code:14} {amount}{'  no deductible' if cover.waived else ''}")


@policies.command(
    "list", epilog=f"{_EXAMPLE}list --device rw-0123456789abcdef · {_EXAMPLE[9:]}list --after P-2026-000123"
)
def list_policies(
    device: Annotated[str, typer.Option("--device", help="Only those of a device.")] = "",
    vin: Annotated[str, typer.Option("--vin", help="Only those of a VIN.")] = "",
    plate: Annotated[str, typer.Option("--plate", help="Only those of a plate.")] = "",
    owner: Annotated[str, typer.Option("--owner", help="Only those of an owner, by the insurer's reference.")] = "",
    after: Annotated[str, typer.Option("--after", help="Go on after this id.")] = "",
    config: Config = None,
    database: Db = None,
    as_json: Json = False,
) -> None:
    """List policies by id, a thousand at a time."""
    from receiver import db
    from receiver import policies as kept

    with db.reading(open_database(config, database)) as connection:
        found = kept.listed(connection, after, device=device, vin=vin, plate=plate, owner=owner)
    if as_json:
        print_json({"policies": [_told(p) for p in found]})
        return
    if not found:
        typer.echo("There is no such policy.")
    for policy in found:
        typer.echo(_line(policy))


def _read(name: str) -> "list[Policy]":
    from receiver.policies import Cover, Policy, PolicyError

    try:
        if name == "-":
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MOST_BYTES + 1)
    except OSError as e:
        raise RoadwitnessError(f"{name}: cannot be read: {e.strerror}; check its name and owner") from e
    if len(data) > MOST_BYTES:
        raise RoadwitnessError(f"{name}: has more than {MOST_BYTES:,} bytes; split it")
    try:
        whole = data if data.lstrip()[:1] == b"[" else b"[%b]" % data
        found = msgspec.json.decode(whole, type=known(list[_Policy]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise RoadwitnessError(f"{name}: {e}") from e
    told = []
    for p in found:
        same = {f: getattr(p, f) for f in p.__struct_fields__ if f not in ("premium_yuan", "covers")}
        try:
            covers = tuple(Cover(c.code, None if c.sum_yuan is None else _fen(c.sum_yuan), c.waived) for c in p.covers)
            told.append(Policy(**same, premium_fen=_fen(p.premium_yuan), covers=covers))
        except ValueError as e:
            raise PolicyError(f"policy {p.id[:32]!r}: {e}") from e
    return told


def _fen(yuan: Decimal) -> int:
    if not yuan.is_finite() or abs(yuan) > 10**12 or yuan != yuan.quantize(Decimal("0.01")):
        raise ValueError(f"{str(yuan)[:40]} is no amount of whole fen")
    return int(yuan * 100)


def _yuan(fen: int) -> Decimal:
    return Decimal(fen).scaleb(-2)


def _line(p: "Policy") -> str:
    car = p.plate or p.vin
    return f"{p.id}  {car}  {p.starts} to {p.ends}  {p.regime}  {_yuan(p.premium_fen)} yuan  {p.device or 'no device'}"


def _told(p: "Policy") -> dict[str, Any]:
    same = {name: getattr(p, name) for name in _Policy.__struct_fields__ if name not in ("premium_yuan", "covers")}
    covers = [
        {"code": c.code, "sum_yuan": None if c.sum_fen is None else str(_yuan(c.sum_fen)), "waived": c.waived}
        for c in p.covers
    ]
    told = {**same, "starts": str(p.starts), "ends": str(p.ends), "premium_yuan": str(_yuan(p.premium_fen))}
    return {**told, "covers": covers}
