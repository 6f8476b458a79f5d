"""`roadwitness support-bundle`: one file from which a desk can see what is wrong with this box."""

import json
import os
import sys
from pathlib import Path

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES = """
Examples:

  sudo roadwitness support-bundle

  sudo roadwitness support-bundle --out -  > bundle.zip      (the disk of the box is full or read-only)

  roadwitness support-bundle --check bundle.zip              (at the desk: did the box sign it as it is?)

In it: what the doctor finds, logs, settings, versions, the newest health, how much the store holds. Never in it: keys,
passwords, tokens, plates, tracks, video; places in logs are rounded to about 1 km and VINs shortened.
"""


@app.command("support-bundle", epilog=EXAMPLES)
def support_bundle(
    out: str = typer.Option("", "--out", help="File to write; - is standard output. By default in this folder."),
    with_position: bool = typer.Option(
        False, "--with-position", help="Leave places as exact as they are; only if the owner agrees."
    ),
    log_mb: float = typer.Option(2.0, "--log-mb", min=0.01, max=8.0, help="Newest MB of each log."),
    store: Path = typer.Option(Path("/var/lib/roadwitness"), "--store", help="Folder of the store."),
    config: Path | None = typer.Option(None, "--config", help="agent.toml to use in place of the installed one."),
    check: Path | None = typer.Option(None, "--check", help="Make none: check this one, and say what is in it."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Make one file that shows a desk what is wrong with this box, without secrets and places; needs half a minute."""
    if check is not None:
        _check(check, as_json)
        return
    from agent.support.bundle import make
    from agent.support.parts import Source

    def told(name: str) -> None:
        if not as_json and sys.stderr.isatty():
            typer.echo(f"\r\x1b[K{name} …", nl=False, err=True)

    made = make(Source(store, config, round(log_mb * 1024 * 1024)), with_position=with_position, told=told)
    told("done")
    if not as_json and sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    if out == "-":
        sys.stdout.buffer.write(made.data)
        sys.stdout.buffer.flush()
        _tell_missing(made.missing)
        return
    path = Path(out or _name(made.device))
    _write(path, made.data)
    if as_json:
        found = {"file": str(path), "bytes": len(made.data), "device": made.device}
        typer.echo(json.dumps(found | {"files": made.files, "missing": made.missing}))
        return
    typer.echo(f"{path}: {len(made.data):,} bytes, {len(made.files)} files{'' if made.device else ', not signed'}.")
    _tell_missing(made.missing)


def _check(path: Path, as_json: bool) -> None:
    from agent.support.bundle import check

    manifest = check(path)
    if as_json:
        typer.echo(json.dumps(manifest))
        return
    typer.echo(f"{path}: as {manifest['device']} signed it at {manifest['made']}; places: {manifest['position']}.")
    for row in manifest["files"]:
        typer.echo(f"  {row['name']}  {row['size']:,} bytes")
    for row in manifest["missing"]:
        typer.echo(f"  {row['name']}  missing: {row['why']}")


def _tell_missing(missing: dict[str, str]) -> None:
    for name, why in missing.items():
        typer.echo(f"  without {name}: {why}", err=True)


def _name(device: str) -> str:
    from agent.clock import iso_utc, wall_ns

    stamp = iso_utc(wall_ns())[:19].replace("-", "").replace(":", "")
    return f"roadwitness-support-{device or 'unknown'}-{stamp}Z.zip"


def _write(path: Path, data: bytes) -> None:
    from agent.errors import StoreError

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError as e:
        why = e.strerror or e
        raise StoreError(f"{path}: the bundle cannot be written: {why}; name another disk, or use --out -") from e
