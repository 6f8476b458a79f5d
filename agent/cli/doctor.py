"""`roadwitness doctor`: what is wrong with this box, and what to do next."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from agent.doctor import Context, Finding
    from agent.doctor.finding import State

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES = """
Examples:

  sudo roadwitness doctor

  roadwitness doctor --only gps,network --watch

  sudo roadwitness doctor --fix

Exit code: 0 all passed, 1 something failed, 3 something to look at, 4 something unknown and nothing worse.
"""

EXIT: Final[dict["State", int]] = {"pass": 0, "fail": 1, "warn": 3, "unknown": 4}  # 2 is a wrong command line
AGAIN_S: Final = 5.0  # between two examinations of --watch


@app.command(epilog=EXAMPLES)
def doctor(
    store: Path = typer.Option(Path("/var/lib/roadwitness"), "--store", help="Folder of the store."),
    config: Path | None = typer.Option(None, "--config", help="agent.toml to use in place of the installed one."),
    dashcam: Path | None = typer.Option(None, "--dashcam", help="dashcam.toml to use in place of the one beside it."),
    only: str = typer.Option("", "--only", help="Examine only these groups, e.g. gps,network."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON; with --watch one line for each examination."),
    fix: bool = typer.Option(False, "--fix", help="Offer to repair what can be repaired safely."),
    yes: bool = typer.Option(False, "--yes", help="With --fix: repair without asking."),
    watch: bool = typer.Option(False, "--watch", help="Examine again and again and show what changes."),
    bit_rates: bool = typer.Option(
        False, "--bit-rates", help="Try bit rates on a silent CAN interface, which takes it down; needs root."
    ),
) -> None:
    """Examine this box: power, clock, storage, CAN, adapter, satellites, sensors, cameras, network, services."""
    from agent.doctor import Context, worst

    context = Context(
        store=store, config=config, dashcam=dashcam, groups=_groups(only), bit_rates=bit_rates or fix
    )  # fmt: skip
    if watch:
        _watch(context, as_json)
        return
    findings = _examined(context, quietly=as_json)
    done = _repair(findings, context, yes, as_json) if fix else []
    if any(repair["done"] for repair in done):
        findings = _examined(context, quietly=as_json)
    if as_json:
        typer.echo(json.dumps(_plain(findings) | ({"repairs": done} if fix else {})))
    else:
        _print(findings)
    raise typer.Exit(EXIT[worst(findings)])


def _examined(context: "Context", *, quietly: bool) -> "list[Finding]":
    """Examine; on a terminal say meanwhile what is still awaited."""
    from agent.doctor import examine
    from agent.doctor.examine import CHECKS

    if quietly or not sys.stdout.isatty():
        return examine(context)
    from rich.console import Console

    left = [check.title for group, check in CHECKS.items() if not context.groups or group in context.groups]
    with Console().status(f"Examining: {', '.join(left)}") as shown:

        def told(group: str, _: "list[Finding]") -> None:
            left.remove(CHECKS[group].title)
            shown.update(f"Examining: {', '.join(left)}")

        return examine(context, told)


def _groups(only: str) -> tuple[str, ...]:
    from agent.doctor.examine import CHECKS
    from agent.errors import ConfigError, near_names

    groups = tuple(name for part in only.split(",") if (name := part.strip()))
    for group in groups:
        if group not in CHECKS:
            near = near_names(group, CHECKS)
            raise ConfigError(f"--only {group}: is no group{near}; groups: {', '.join(CHECKS)}")
    return groups


def _plain(findings: "list[Finding]") -> dict[str, Any]:
    """Return findings as JSON has them: the row of advice in words, too, so that nobody needs the table."""
    import msgspec

    from agent.doctor import next_step, table, worst

    rows = [
        msgspec.to_builtins(f)
        | ({"meaning": table()[f.advice].meaning, "next": next_step(f)} if f.advice else {"meaning": "", "next": ""})
        for f in findings
    ]
    return {"state": worst(findings), "findings": rows}


def _print(findings: "list[Finding]") -> None:
    from agent.doctor.show import lines

    _console(lambda console: [console.print(text, style=style) for text, style in lines(findings, console.width)])


def _print_changes(before: "list[Finding]", after: "list[Finding]") -> None:
    from agent import clock
    from agent.doctor.watch import changes

    at = clock.iso_utc(clock.wall_ns())[11:19]
    _console(lambda c: [c.print(text, style=style) for text, style in changes(before, after, at, c.width)])


def _console(act: Callable[[Any], Any]) -> None:
    from rich.console import Console

    act(Console(highlight=False, markup=False, soft_wrap=True))


def _repair(findings: "list[Finding]", context: "Context", yes: bool, as_json: bool) -> list[dict[str, Any]]:
    """Offer each repair, do those that are wanted, and say what was done."""
    from agent.doctor.fix import repairs

    done: list[dict[str, Any]] = []
    for repair in repairs(findings, context):
        if not yes and not (sys.stdin.isatty() and not as_json and typer.confirm(f"May I {repair.words}?")):
            done.append({"repair": repair.words, "done": False, "trouble": "not asked for: add --yes"})
            continue
        trouble = repair.act()
        done.append({"repair": repair.words, "done": not trouble, "trouble": trouble})
    for one in done if not as_json else ():
        typer.echo(f"Repair: {one['repair']}: {'done' if one['done'] else one['trouble']}")
    if not done and not as_json:
        typer.echo("Nothing here can be repaired without you.")
    return done


def _watch(context: "Context", as_json: bool) -> None:
    """Examine until interrupted; show everything once, then what changes."""
    import threading

    from agent import clock
    from agent.doctor import examine

    before: list[Finding] | None = None
    never = threading.Event()
    try:
        while True:
            findings = examine(context)
            if as_json:
                typer.echo(json.dumps(_plain(findings)))
            elif before is None:
                _print(findings)
                typer.echo("Watching; Ctrl-C ends.")
            else:
                _print_changes(before, findings)
            sys.stdout.flush()
            before = findings
            clock.wait(never, AGAIN_S)
    except KeyboardInterrupt:
        raise typer.Exit from None
