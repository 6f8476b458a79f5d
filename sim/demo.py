"""`roadwitness demo`: the whole product on this machine. Virtual car → agent → broker → receiver → owner's page.

Every part is the real one; only the car is simulated, and the broker is Mosquitto where it is installed and the
embedded one elsewhere. Everything listens on 127.0.0.1 and lives in one folder.
"""

import json
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agent.clock import NS_PER_S, monotonic_ns, wait, wall_ns
from agent.errors import ConfigError, UplinkError
from sim import desk
from sim.accident import check_names

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

# What the virtual shop owner drove this week: scenario, seed, minutes, days ago, local hour. Short, so that it is there
# within seconds.
WEEK: Final = (
    ("commute", 11, 12.0, 5, 7.6),
    ("calm-city", 12, 8.0, 4, 12.2),
    ("motorway", 13, 12.0, 3, 9.8),
    ("hills-rough", 14, 8.0, 2, 15.5),
    ("night", 15, 8.0, 1, 22.4),
)
# And in the month before, so that the score of a whole month enters a price: day of the month, not days ago.
BEFORE: Final = (("commute", 16, 12.0, 12, 7.6), ("calm-city", 17, 8.0, 19, 17.5))
NOW: Final = (
    "commute",
    22,
    15.0,
)  # what it drives while somebody watches, in real time; the first fix comes after 10 s
LOCAL_H: Final = 8.0  # the car drives in China, which has one time zone
PROFILE: Final = "simcar"
MOSQUITTO_PATH: Final = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
START_S: Final = 10.0
HELD_S: Final = 60.0
PACKAGE_S: Final = 90.0  # from time zero to the whole package at the receiver, power cut included
ACCIDENT_SEED: Final = 6  # 16 g, 200 Hz, not clipped


@app.command(
    epilog="Examples:  roadwitness demo   ·   roadwitness demo --once --json   ·   "
    "roadwitness demo --once --scenario crash --fault power-cut"
)
def demo(
    once: Annotated[bool, typer.Option("--once", help="End when the receiver holds everything; say what.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object (with --once).")] = False,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Keep everything here [default: a folder that is removed at the end].")
    ] = None,
    http: Annotated[str, typer.Option("--http", help="Where the page is served.")] = "127.0.0.1:8080",
    drives: Annotated[
        int, typer.Option("--drives", min=1, max=len(WEEK), help="How much of the week is driven.")
    ] = len(WEEK),
    embedded_broker: Annotated[
        bool, typer.Option("--embedded-broker", help="Use the embedded broker although Mosquitto is installed.")
    ] = False,
    scenario: Annotated[
        str, typer.Option("--scenario", help="Instead of the week, have this accident in real time, e.g. crash.")
    ] = "",
    fault: Annotated[
        str, typer.Option("--fault", help="Goes wrong in it: power-cut, camera-frozen, disk-full or link-cut.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the accident and its fault.")] = ACCIDENT_SEED,
) -> None:
    """Drive the virtual car through a week, send it to a receiver on this machine and show the owner's page."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, with the agent and the broker
    with ExitStack() as stack:
        if scenario or fault:
            check_names(scenario, fault)
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roadwitness-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        say: Callable[[str], None] = (lambda _: None) if as_json else typer.echo
        product = Product(folder, stack, embedded_broker)
        say(f"Broker on {product.broker_url}, receiver on {product.database_url}")
        page = None if once else product.serve(http)
        if page:
            say(f"Page on {page} (Ctrl-C ends it). Each of these links signs in once, within the hour:")
            for role, link in desk.links(product.engine, page, wall_ns()):
                say(f"  {role:12}{link}")
        if scenario:
            _have_accident(product, folder, (scenario, seed, fault), say, as_json, page)
            return
        today_s = wall_ns() // NS_PER_S // 86_400 * 86_400
        if drives == len(WEEK):
            month_s = desk.month_before_s(wall_ns())
            for name, its_seed, minutes, day, hour in BEFORE:
                say(product.drive(name, its_seed, minutes, month_s + 86_400.0 * (day - 1) + 3600.0 * hour))
        for name, its_seed, minutes, days_ago, hour in WEEK[:drives]:
            say(product.drive(name, its_seed, minutes, today_s + 3600.0 * (hour - LOCAL_H) - 86_400.0 * days_ago))
        held = product.compare()
        held["desk"] = desk.work(product.engine, product.files, product.device, wall_ns())
        if as_json:
            typer.echo(json.dumps(held))
        else:
            _show(held)
        if not held["equal"] or not all(held["desk"].values()):
            raise typer.Exit(1)
        if page:
            say(f"The page shows it all; the car now drives on in real time: {page}vehicles/{product.device}")
            product.drive_on()


def _have_accident(
    product: "Product",
    folder: Path,
    which: tuple[str, int, str],
    say: Callable[[str], None],
    as_json: bool,
    page: str | None,
) -> None:
    """Have an accident, wait until the receiver holds its package, and say what of it is as it must be."""
    from sim.accident import Accident
    from sim.verdict import Verdict

    scenario, seed, fault = which
    with Accident(folder, product.broker_url, scenario, seed, fault, say) as accident:
        happened = accident.run()
        verdict = Verdict(product.engine, product.files, product.device, folder / "agent", happened)
        until_ns = happened.t_ns(happened.drive.collisions[-1].t_s) + round(PACKAGE_S * NS_PER_S)
        pause = threading.Event()
        while not verdict.whole() and monotonic_ns() < until_ns:
            accident.watch()
            wait(pause, 0.25)
        found = verdict.judge()
        if as_json:
            typer.echo(json.dumps(found))
        else:
            _show_accident(found)
        if not found["ok"]:
            raise typer.Exit(1)
        if page:
            say(f"The page shows it all: {page}vehicles/{product.device}")
            with suppress(KeyboardInterrupt):
                while not wait(pause, 1.0):
                    accident.watch()


class Product:
    """Broker, receiver and one agent's store, all in `folder` and closed by `stack`."""

    def __init__(self, folder: Path, stack: ExitStack, embedded_broker: bool) -> None:
        try:
            from receiver import db, devices, packages
            from receiver.filestore import FileStore
            from receiver.mqtt import Reception
            from receiver.settings import FileSettings
        except ImportError as e:
            raise ConfigError(
                f"the demo needs the receiver's libraries ({e.name}): pip install 'roadwitness[receiver]'"
            ) from e
        from agent.link import BrokerSettings
        from agent.store import Store

        self._folder = folder
        self._stack = stack
        self.broker_url = _broker(folder, stack, embedded_broker)
        self.database_url = f"sqlite:///{folder / 'receiver.db'}"
        self.engine = db.open_database(self.database_url)
        stack.callback(self.engine.dispose)
        with Store.open(folder / "agent") as store:
            self.device = store.device
            devices.enrol(self.engine, store.public_key.hex())
        desk.register(self.engine, self.device, wall_ns())
        self.files = files = FileStore(FileSettings(), self.database_url)
        on_package = partial(packages.arrived, self.engine, files)
        reception = Reception(self.engine, BrokerSettings(url=self.broker_url), files=files, on_package=on_package)
        reception.start()
        stack.callback(reception.stop)
        if not reception.connected.wait(START_S):
            raise UplinkError(f"receiver: no connection to the broker on {self.broker_url} within {START_S:.0f} s")

    def serve(self, http: str) -> str:
        """Serve the pages in a thread and return their address."""
        from receiver.serve import serve_in_thread

        return serve_in_thread(self.engine, http, self._stack, self.files)

    def drive(self, scenario: str, seed: int, minutes: float, start_utc_s: float) -> str:
        """Drive once, replay the log through the agent, send it, and return a line about it."""
        from agent.replay import run
        from sim.drive import simulate
        from sim.record import write_drive

        began_ns = monotonic_ns()
        drive = simulate(scenario, seed, minutes, start_utc_s)
        log = write_drive(drive, self._folder / "drives" / f"{scenario}-{seed}")[0]
        store = self._folder / "agent"
        found = run([log], profile=PROFILE, store=store, uplink=self.broker_url, wait_s=HELD_S)
        km = sum(t.distance_m for t in found.trips) / 1000
        seconds = (monotonic_ns() - began_ns) / NS_PER_S
        return (
            f"{scenario}: {found.recording['frames']:,} frames, {km:.1f} km, {len(found.trips)} trips,"
            f" {len(found.events)} events, in {seconds:.1f} s"
        )

    def drive_on(self) -> None:
        """Drive on the wires in real time, again and again, until the person at the terminal presses Ctrl-C."""
        from sim.live import Live

        scenario, seed, minutes = NOW
        with Live(self._folder, self.broker_url) as live:
            typer.echo(f"The agent reads the car's wires in a process of its own; its log is {live.log}")
            try:
                while True:
                    played = live.drive(scenario, seed, minutes)
                    typer.echo(
                        f"{scenario}: {played['played_s'] / 60:.0f} min, {played['frames_sent']:,} frames; again"
                    )
                    seed += 1
            except KeyboardInterrupt:
                typer.echo("Ending.")

    def compare(self) -> dict[str, Any]:
        """Return what the agent has and what the receiver holds, and whether they are equal entry by entry."""
        from sqlalchemy import func, select

        from agent.records import LANES
        from agent.store import Store
        from receiver import db

        with Store.open(self._folder / "agent", read_only=True) as store:
            trips, events = store.trips(), store.events()
            ours = {(lane, e.seq, e.hash) for lane in LANES for e in store.pending(lane, 0, 1 << 40)}
        with db.reading(self.engine) as connection:
            entry = db.entry.c
            rows = connection.execute(select(entry.lane, entry.seq, entry.hash).where(entry.device == self.device))
            theirs = {(lane, seq, bytes(digest)) for lane, seq, digest in rows}
            counts = {
                name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in (("trips", db.trip), ("events", db.harsh_event))
            }
        return {
            "device": self.device,
            "agent": {"trips": len(trips), "events": len(events), "entries": len(ours)},
            "receiver": {**counts, "entries": len(theirs)},
            "distance_m": round(sum(s.record.distance_m for s in trips), 1),
            "equal": ours == theirs and counts == {"trips": len(trips), "events": len(events)},
        }


def _broker(folder: Path, stack: ExitStack, embedded: bool) -> str:
    """Start a broker on a free port of 127.0.0.1 and return its URL."""
    program = None if embedded else shutil.which("mosquitto", path=MOSQUITTO_PATH)
    if program is None:
        from receiver.broker import EmbeddedBroker

        broker = EmbeddedBroker()
        stack.callback(broker.close)
        return broker.open()
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\n")
    process = subprocess.Popen(
        [program, "-c", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C ends the agent first, then the broker
    )
    stack.callback(_end, process)
    pause = threading.Event()
    deadline_ns = monotonic_ns() + round(START_S * NS_PER_S)
    while monotonic_ns() < deadline_ns:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return f"mqtt://127.0.0.1:{port}"
        wait(pause, 0.02)
    raise UplinkError(f"mosquitto on 127.0.0.1:{port}: did not start; see `mosquitto -v -c {config}`")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(5)


def _show(held: dict[str, Any]) -> None:
    agent, receiver = held["agent"], held["receiver"]
    verdict = "equal, entry by entry" if held["equal"] else "NOT EQUAL"
    typer.echo(
        f"Agent {held['device']}: {agent['trips']} trips, {agent['events']} events, {agent['entries']} signed entries,"
        f" {held['distance_m'] / 1000:.1f} km"
    )
    typer.echo(
        f"Receiver: {receiver['trips']} trips, {receiver['events']} events, {receiver['entries']} verified entries:"
        f" {verdict}"
    )
    typer.echo("At the desk: " + ", ".join(f"{count} {name}" for name, count in held["desk"].items()))


def _show_accident(found: dict[str, Any]) -> None:
    lines = [found["crashes_found"], *(check for one in found["incidents"] for check in one["checks"])]
    for check in lines:
        typer.echo(
            f"{'ok  ' if check['ok'] else 'FAIL'} {check['name']}: {check['figure']} (wanted: {check['wanted']})"
        )
    typer.echo("All is as it must be." if found["ok"] else "NOT as it must be.")
