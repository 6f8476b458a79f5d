"""`roadwitness verify`: check a package, by the file that also stands alone."""

import json
from pathlib import Path

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES = """
Examples:

  roadwitness verify /var/lib/roadwitness/packages/1f0c… --key rw-3a…

  roadwitness verify ./claim-4711 --key device-key.hex --tsa-ca authority.pem --json

Exit code 0: everything holds, signed by KEY. 1: something does not. 2: nothing to check, or wrong usage. 3: everything
holds, but no KEY was given. The same check stands alone in agent/evidence/verify_package.py.
"""


@app.command(epilog=EXAMPLES)
def verify(
    package: Path = typer.Argument(..., help="Folder of the package."),
    key: str | None = typer.Option(None, "--key", help="The device's public key (hex, or a file), or its name (rw-…)."),
    tsa_ca: Path | None = typer.Option(None, "--tsa-ca", help="PEM file of trusted time-stamping authorities."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check that nothing in a package was altered, removed or added since its device signed it."""
    from agent.evidence import verify_package as verifier

    try:
        expected = None if key is None else verifier.read_key(key)
        authorities = None if tsa_ca is None else verifier.read_authorities(str(tsa_ca))
        report = verifier.verify(str(package), expected, authorities)
    except verifier.UnreadableError as e:
        typer.echo(json.dumps({"error": str(e), "exit_code": 2}) if as_json else f"roadwitness: {e}", err=not as_json)
        raise typer.Exit(2) from None
    typer.echo(json.dumps(report.as_json()) if as_json else "\n".join(verifier.sentences(report)))
    raise typer.Exit(report.exit_code)
