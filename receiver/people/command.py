"""`roadwitness receiver people` and `roadwitness receiver tokens`: who may sign in, and which programs may ask."""

from typing import Annotated, Any

import typer

from agent.clock import iso_utc, wall_ns
from agent.errors import RoadwitnessError
from receiver.options import Config, Db, Json, open_database, print_json, settings_of
from receiver.people.rights import ROLES

people = typer.Typer(no_args_is_help=True, help="Who may sign in, and in which role.")
tokens = typer.Typer(no_args_is_help=True, help="Which programs may ask, and for what.")

Name = Annotated[str, typer.Argument(help="The name to sign in with; it stands in the logs for ever.")]
TokenName = Annotated[str, typer.Argument(help="What the token is called in lists and logs.")]
Role = Annotated[str, typer.Option("--role", help=f"One of {', '.join(ROLES)}.")]
Owner = Annotated[str, typer.Option("--owner", help="With --role owner: the id of the owner whose cars are seen.")]


def add_to(app: typer.Typer) -> None:
    """Add both groups."""
    app.add_typer(people, name="people")
    app.add_typer(tokens, name="tokens")


@people.command("add", epilog="Example: roadwitness receiver people add li.wei --role adjuster")
def add(name: Name, role: Role, owner: Owner = "", config: Config = None, database: Db = None) -> None:
    """Add a person and print the link by which he sets his password; it works once, for three days."""
    from receiver.people import accounts, invites

    now_ns = wall_ns()
    with open_database(config, database).begin() as connection:
        person = accounts.add(connection, name, role, now_ns, owner)
        _log(connection, "account", f"add {person.name}", now_ns)
        secret = invites.make(connection, person.id, invites.FIRST, now_ns)
    _tell(person.name, secret, config, database)


@people.command("list", epilog="Example: roadwitness receiver people list --json")
def listed(config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """List the people."""
    from receiver.people import accounts

    found = accounts.every(open_database(config, database))
    if as_json:
        print_json({"people": [one._asdict() for one in found]})
        return
    if not found:
        typer.echo("Nobody may sign in yet: roadwitness receiver people add NAME --role ROLE")
    for one in found:
        state = one.state if one.state != "active" or one.password_set else "waits for the first sign-in"
        factor = ", second factor" if one.second_factor else ""
        typer.echo(f"{one.name}  {one.role}{f' of {one.owner}' if one.owner else ''}  {state}{factor}")


@people.command("reset", epilog="Example: roadwitness receiver people reset li.wei")
def reset(name: Name, config: Config = None, database: Db = None) -> None:
    """Take a person's password, second factor and sessions, and print a link to begin again."""
    from receiver.people import accounts, invites

    now_ns = wall_ns()
    with open_database(config, database).begin() as connection:
        person = _known(connection, name)
        accounts.reset(connection, person.id)
        _log(connection, "account", f"reset {person.name}", now_ns)
        secret = invites.make(connection, person.id, invites.FIRST, now_ns)
    _tell(person.name, secret, config, database)


@people.command("disable", epilog="Example: roadwitness receiver people disable li.wei")
def disable(name: Name, config: Config = None, database: Db = None) -> None:
    """Let a person sign in no more; all his sessions end."""
    from receiver.people import accounts

    with open_database(config, database).begin() as connection:
        person = _known(connection, name)
        accounts.disable(connection, person.id)
        _log(connection, "account", f"disable {person.name}", wall_ns())
    typer.echo(f"{person.name} can sign in no more.")


@tokens.command(
    "add", epilog="Example: roadwitness receiver tokens add actuary --role underwriter --scope scores.read --days 90"
)
def add_token(
    name: TokenName,
    role: Role,
    scope: Annotated[list[str], typer.Option("--scope", help="A right that it carries; may be repeated.")],
    days: Annotated[int, typer.Option("--days", min=1, help="How long it holds.")] = 90,
    owner: Owner = "",
    config: Config = None,
    database: Db = None,
) -> None:
    """Make a token and print it; it is shown only now."""
    from receiver.people import tokens as kept

    now_ns = wall_ns()
    with open_database(config, database).begin() as connection:
        token = kept.add(connection, name, role, scope, days, now_ns, owner)
        _log(connection, "token", f"add {name}", now_ns)
    typer.echo(token)


@tokens.command("list", epilog="Example: roadwitness receiver tokens list")
def list_tokens(config: Config = None, database: Db = None, as_json: Json = False) -> None:
    """List the tokens with their rights."""
    from receiver.people import tokens as kept

    found, now_ns = kept.every(open_database(config, database)), wall_ns()
    if as_json:
        print_json({"tokens": [one._asdict() for one in found]})
        return
    if not found:
        typer.echo("No program may ask yet: roadwitness receiver tokens add NAME --role ROLE --scope RIGHT")
    for one in found:
        ended = "revoked" if one.revoked else "ended" if one.until_utc_ns <= now_ns else "holds"
        used = f"last used on {iso_utc(one.used_utc_ns)[:10]}" if one.used_utc_ns else "never used"
        of = f" of {one.owner}" if one.owner else ""
        typer.echo(f"{one.name}  {one.role}{of}  {ended} until {iso_utc(one.until_utc_ns)[:10]}, {used}")
        typer.echo(f"    {' '.join(one.scopes)}")


@tokens.command("revoke", epilog="Example: roadwitness receiver tokens revoke actuary")
def revoke(name: TokenName, config: Config = None, database: Db = None) -> None:
    """End a token."""
    from receiver.people import tokens as kept

    with open_database(config, database).begin() as connection:
        if not kept.revoke(connection, name):
            raise RoadwitnessError(f"token {name!r}: there is none of that name; see roadwitness receiver tokens list")
        _log(connection, "token", f"revoke {name}", wall_ns())
    typer.echo(f"{name} holds no more.")


def _known(connection: Any, name: str) -> Any:
    from receiver.people import accounts

    person = accounts.find(connection, name)
    if person is None:
        raise RoadwitnessError(f"{name!r}: no active person of that name; see roadwitness receiver people list")
    return person


def _log(connection: Any, what: str, name: str, now_ns: int) -> None:
    from receiver import access

    access.write(connection, access.Look(access.LOCAL, "", "", "", what, name), now_ns)


def _tell(name: str, secret: str, config: Any, database: str | None) -> None:
    from receiver import exposure

    where = exposure.address(settings_of(config, database).http)
    typer.echo(f"{name} begins here, within three days; the link works once:")
    typer.echo(f"{where}enter/{secret}")
