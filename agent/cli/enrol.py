"""`roadwitness enrol`: a code from the insurer becomes this box's certificate, broker and settings."""

import json
from pathlib import Path

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES = """
Examples:

  sudo roadwitness enrol --receiver https://desk.insurer.example --code ABCD-EFGH-JKLM-NPQR

  sudo roadwitness enrol --receiver https://192.0.2.7:8443 --code ABCD-… --ca-fingerprint 5f:0c:…

Legal again at any time: the box keeps its name and gets a new certificate.
"""


@app.command(epilog=EXAMPLES)
def enrol(
    receiver: str = typer.Option(..., "--receiver", help="Address of the insurer's receiver: https://HOST."),
    code: str = typer.Option(..., "--code", help="The one-time code from the insurer.", prompt=True),
    ca_fingerprint: str = typer.Option(
        "", "--ca-fingerprint", help="SHA-256 of the receiver's own authority, where the code does not carry it."
    ),
    key: str = typer.Option("ed25519", "--key", help="Kind of the certificate's key: ed25519 or p256."),
    config: Path | None = typer.Option(None, "--config", help="agent.toml to write in place of the installed one."),
    store: Path = typer.Option(Path("/var/lib/roadwitness"), "--store", help="Folder of the store."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Enrol this box at an insurer: prove its name, get a certificate, and write who is believed into agent.toml."""
    from agent.clock import iso_utc
    from agent.enrolment.enrol import enrol as run
    from agent.enrolment.keys import KINDS
    from agent.enrolment.moments import of_machine
    from agent.errors import ConfigError
    from agent.fitting.configuring import FILE, Configuration

    kind = next((k for k in KINDS if k == key), None)
    if kind is None:
        raise ConfigError(f"--key {key!r}: is no kind of key; give {' or '.join(KINDS)}")
    written = Configuration(config or FILE)
    _ = written.settings  # what is wrong with the file is told before the code is used
    done = run(store, receiver, code, of_machine(store), fingerprint=ca_fingerprint, kind=kind)
    for table, values in done.settings.items():
        written.put(table, values)
    if "ca" not in done.settings["enrolment"]:
        written.drop("enrolment.ca")
    written.write()
    until = iso_utc(done.ends_utc_ns)
    if as_json:
        typer.echo(
            json.dumps({"device": done.device, "broker": done.broker, "until": until, "config": str(written.path)})
        )
        return
    typer.echo(f"{done.device} is enrolled at {receiver}.")
    typer.echo(f"Broker: {done.broker}")
    typer.echo(f"Certificate: until {until[:10]}, renewed by itself.")
    typer.echo(f"Settings: {written.path}")
    typer.echo("Next: systemctl restart roadwitness-agent")
