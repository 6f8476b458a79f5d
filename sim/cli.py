"""`roadwitness sim`: record drives of the virtual car with the truth beside them, or drive it on real wires."""

import json
import signal
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sim.tape import Tape

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Drive the virtual car: into recordings with the truth beside them, or on wires for an agent.",
)


def _complete(incomplete: str) -> list[str]:
    """Offer the scenarios' names to the shell."""
    from sim.crash import names

    return [name for name in names() if name.startswith(incomplete)]


@app.command(
    epilog="Example: roadwitness sim record /tmp/drive --scenario commute --seed 7 && "
    "roadwitness replay /tmp/drive/commute-7.log --profile simcar"
)
def record(
    out: Annotated[Path, typer.Argument(help="A folder, or the .log file to write.", show_default=False)],
    scenario: Annotated[
        str, typer.Option(help="What is driven; see the list of scenarios.", autocompletion=_complete)
    ] = "commute",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 1,
    minutes: Annotated[
        float | None,
        typer.Option(min=1.0, max=300.0, help="About how long.", show_default="the scenario's own"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON object.")] = False,
) -> None:
    """Drive once and write a candump log, its DBC and truth.json (what happened, when, how hard)."""
    from sim.drive import simulate
    from sim.record import write_drive

    drive = simulate(scenario, seed, minutes)
    log, dbc, truth_path = write_drive(drive, out)
    truth = drive.truth()
    if as_json:
        summary = {k: truth[k] for k in ("scenario", "seed", "frames", "duration_s", "distance_m", "start_utc")}
        paths = {"log": str(log), "dbc": str(dbc), "truth": str(truth_path)}
        typer.echo(json.dumps({**paths, **summary, "events": len(truth["events"])}))
        return
    typer.echo(
        f"{log}: {truth['frames']:,} frames, {truth['duration_s'] / 60:.1f} min, {truth['distance_m'] / 1000:.1f} km, "
        f"{len(truth['events'])} events"
    )
    typer.echo(f"{dbc}\n{truth_path}")


@app.command(epilog="Example: roadwitness sim scenarios --json")
def scenarios(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the scenarios that can be driven."""
    from sim.crash import known, names

    those = [known(name) for name in names()]
    if as_json:
        rows = [{"name": s.name, "minutes": s.minutes, "what": s.what} for s in those]
        typer.echo(json.dumps({"scenarios": rows}))
        return
    for s in those:
        typer.echo(f"{s.name:<15} {s.minutes:>3.0f} min  {s.what}")


Speed = Annotated[str, typer.Option(help="1x is real time; 10x plays ten seconds in each.")]
Fault = Annotated[
    list[str] | None,
    typer.Option("--fault", help="NAME@T or NAME@T+SECONDS, in seconds of the drive; may be repeated."),
]
Dir = Annotated[
    Path | None, typer.Option("--dir", help="Where the devices stand [default: a folder that is removed at the end].")
]
GpsdPort = Annotated[int, typer.Option(help="Port of gpsd on 127.0.0.1; 0 takes a free one.", min=0, max=65535)]
SocketCan = Annotated[
    str, typer.Option("--socketcan", help="Send on this interface (vcan0) in place of slcan.", show_default=False)
]
Protocol = Annotated[str, typer.Option(help="What the ELM327 finds: 6 is CAN 11/500, 3 is ISO 9141-2.")]
AgentConfig = Annotated[
    Path | None,
    typer.Option("--agent-config", help="Write here the agent.toml that finds these wires.", show_default=False),
]
Disk = Annotated[
    Path | None,
    typer.Option("--disk", help="Where the agent's store lies, on a small file system: disk-full fills it."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object when ready and one at the end.")]


@app.command(
    epilog="Example: roadwitness sim car --scenario commute --seed 7 --agent-config /tmp/agent.toml, "
    "and beside it: roadwitness agent --config /tmp/agent.toml --store /tmp/box"
)
def car(
    scenario: Annotated[
        str, typer.Option(help="What is driven; see the list of scenarios.", autocompletion=_complete)
    ] = "commute",
    seed: Annotated[int, typer.Option(min=0, help="The same seed drives the same.")] = 1,
    minutes: Annotated[
        float | None,
        typer.Option(min=1.0, max=300.0, help="About how long.", show_default="the scenario's own"),
    ] = None,
    speed: Speed = "1x",
    fault: Fault = None,
    folder: Dir = None,
    gpsd_port: GpsdPort = 0,
    socketcan: SocketCan = "",
    protocol: Protocol = "6",
    agent_config: AgentConfig = None,
    disk: Disk = None,
    as_json: Json = False,
) -> None:
    """Drive the virtual car on wires: slcan, ELM327, gpsd and IIO, as an agent finds them in a car."""
    from agent.config import config_dir
    from drivers.decode.profile import load_profile
    from sim.drive import simulate
    from sim.tape import drive_tape

    folders = config_dir()
    tape = drive_tape(simulate(scenario, seed, minutes), folders, load_profile("simcar", folders))
    _play(tape, speed, fault, folder, gpsd_port, socketcan, protocol, agent_config, disk, as_json)


@app.command(epilog="Example: roadwitness sim play drive.log.xz --profile canmod --speed 5x")
def play(
    recordings: Annotated[
        list[Path], typer.Argument(metavar="RECORDING...", help="What `roadwitness replay` reads.", show_default=False)
    ],
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="Vehicle profile: name or file; found by itself if absent.")
    ] = "",
    speed: Speed = "1x",
    fault: Fault = None,
    folder: Dir = None,
    gpsd_port: GpsdPort = 0,
    socketcan: SocketCan = "",
    protocol: Protocol = "6",
    agent_config: AgentConfig = None,
    disk: Disk = None,
    as_json: Json = False,
) -> None:
    """Play recordings on the same wires; fixes and inertial samples that they hold leave CAN for their own wires."""
    from agent.config import config_dir
    from drivers.decode.profile import load_profile
    from sim.tape import recorded_tape

    folders = config_dir()
    tape = recorded_tape(recordings, folders, load_profile(profile, folders) if profile else None)
    _play(tape, speed, fault, folder, gpsd_port, socketcan, protocol, agent_config, disk, as_json)


@app.command(epilog="Example: roadwitness sim faults --json")
def faults(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the faults that `car` and `play` can inject."""
    from sim.wire_faults import FAULTS

    if as_json:
        rows = [{"name": n, "wire": f.wire, "lasts_s": f.lasts_s, "what": f.what} for n, f in FAULTS.items()]
        typer.echo(json.dumps({"faults": rows}))
        return
    for name, f in FAULTS.items():
        typer.echo(f"{name:<24} {f.wire:<7} {f.lasts_s:>3.0f} s  {f.what}")


def _play(
    tape: "Tape",
    speed: str,
    fault: list[str] | None,
    folder: Path | None,
    gpsd_port: int,
    socketcan: str,
    protocol: str,
    agent_config: Path | None,
    disk: Path | None,
    as_json: bool,
) -> None:
    """Put a tape on wires until it ends, or somebody ends it."""
    from sim.car import play as play_on
    from sim.car import speed_of
    from sim.wire_faults import plan
    from sim.wires import Wires, known_protocol
    from sim.wiring import agent_toml

    stop = threading.Event()
    with ExitStack() as stack:
        stack.callback(tape.close)
        times, planned = speed_of(speed), plan(fault or [])
        known_protocol(protocol)
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roadwitness-car-")))
        wires = stack.enter_context(
            Wires(folder, tape, socketcan=socketcan, gpsd_port=gpsd_port, protocol=protocol, disk=disk)
        )
        if agent_config is not None:
            agent_config.write_text(agent_toml(wires), encoding="utf-8")
        _end_on_signal(stack, stop)
        _say({"ready": True, "speed": times, **wires.described}, as_json)
        _say(play_on(tape, wires, stop, speed=times, faults=planned), as_json)


def _end_on_signal(stack: ExitStack, stop: threading.Event) -> None:
    """Let Ctrl-C and SIGTERM set `stop`, from a thread: a handler may interrupt the very lock that `set` takes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.signal(number, lambda *_: threading.Thread(target=stop.set, daemon=True).start())
        stack.callback(signal.signal, number, before)


def _say(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(told))
        return
    for name, value in told.items():
        if isinstance(value, dict):
            for key, inner in value.items():
                text = " ".join(f"{k}={v}" for k, v in inner.items()) if isinstance(inner, dict) else inner
                typer.echo(f"{name} {key}: {text}")
        else:
            typer.echo(f"{name}: {value}")
