"""Steps that look at the box itself: what is plugged in, and whether it is wired well."""

from collections.abc import Sequence
from typing import Final

from agent.doctor.advice import next_step
from agent.doctor.examine import CHECKS, examine
from agent.doctor.finding import Finding
from agent.fitting.configuring import Cameras, TomlFile
from agent.fitting.fitting import Fitting, item
from agent.fitting.search import Found, search
from agent.fitting.sheet import Item, ItemState
from agent.fitting.talk import Row, Talk, rows_of
from agent.local.messages import Status

# What only later steps can bring about, so that it is examined when the sheet is made: before enrolment nobody lets the
# box in, before the consent nothing is recorded, before the drive nothing is learned.
LATER: Final = ("network.", "config.consent", "imu.mount", "imu.values")
DASHCAM: Final = "dashcam.toml"
CAMERAS: Final = "cameras"
NAMES: Final = ("front", "rear")  # as many cameras as one box films with
SETTLE_S: Final = 30.0  # for devices to be opened: an adapter is brought up in some ten seconds
STATES: Final[dict[str, ItemState]] = {"pass": "pass", "warn": "warn", "fail": "fail", "unknown": "warn"}


def devices(fitting: Fitting) -> list[Item]:
    """Find the devices and configure those that are new; what a person configured stays as it is."""
    talk = fitting.talk
    fitting.service.stop()  # two readers on one wire would take the other's words
    found = search(fitting.answers.look, lambda what: talk.say(f"looking at {what} …", "dim"))
    configuration, cameras = fitting.configuration(), Cameras(fitting.config.with_name(DASHCAM))
    known = _wires(fitting)
    for one in found:
        if one.table == CAMERAS:
            _take_camera(cameras, one.settings["source"])
        elif one.table and not known.intersection((_wire(one), *one.also)):
            configuration.put(one.table, one.settings, keep=True)
    for table, values in fitting.answers.settings.items():
        configuration.put(table, values)
    items = [_item(one) for one in found] or [
        item("devices", "Devices", "fail", "nothing is plugged in", "Plug adapter and receiver in, then start again.")
    ]
    talk.rows(rows_of(items))
    for file in (configuration, cameras):
        _write(file, talk)
    if not configuration.settings.drivers or not any(
        getattr(configuration.settings.drivers, kind) for kind in configuration.settings.drivers.__slots__
    ):
        items.append(
            item(
                "devices",
                "Configuration",
                "fail",
                "no device is configured",
                "Plug the adapter in and start again; nothing else can be checked without a device.",
            )
        )
    return items


def _item(one: Found) -> Item:
    return item("devices", one.what, "warn" if one.trouble else "pass", one.said, one.advice)


def _take_camera(cameras: Cameras, source: str) -> None:
    """Configure a camera under the first free name; a person's cameras, and the two that a box films with, stay."""
    films = cameras.settings.cameras
    names = [name for name in NAMES if name not in films]
    if names and len(films) < len(NAMES) and source not in {camera.source for camera in films.values()}:
        cameras.put(f"{CAMERAS}.{names[0]}", {"source": source})


def _write(file: TomlFile, talk: Talk) -> None:
    """Write a file of settings where something is new and the person agrees."""
    if not file.changed:
        return
    talk.say(f"For {file.path}:")
    for line in file.difference():
        talk.say(f"  {line}", "green" if line.startswith("+") else "red")
    if talk.choose("Write this?", {"y": "yes", "n": "no, leave the file as it is"}, "y") == "y":
        file.write()


def _wire(one: Found) -> str:
    """Return by what a wire is known that only one device may read."""
    for key in ("port", "channel"):
        if key in one.settings:
            return str(one.settings[key])
    return one.table


def _wires(fitting: Fitting) -> set[str]:
    """Return the wires that are configured already, by whatever name."""
    drivers = fitting.configuration().settings.drivers
    wires = {s.port for s in drivers.elm327.values()}
    wires |= {s.channel for s in (*drivers.canbus.values(), *drivers.obdcan.values())}
    wires |= {"drivers.gps.main"} if drivers.gps else set()
    return wires | ({"drivers.imu.box"} if drivers.imu else set())


def wiring(fitting: Fitting) -> list[Item]:
    """Let the doctor examine all but the network, with the agent running."""
    status = fitting.running()
    fitting.talk.say(f"The agent runs as {status.device}; examining …", "dim")
    fitting.awaited(_settled, SETTLE_S)
    findings = examine(fitting.context())
    items = [of_finding("wiring", finding) for finding in findings if not finding.check.startswith(LATER)]
    fitting.talk.rows(short_rows(items))
    return items


def _settled(status: Status) -> bool:
    return all(device.state != "opening" for device in status.devices) and (not asks(status) or bool(told_vin(status)))


def asks(status: Status) -> bool:
    """Say whether a device asks the car, and so can learn its VIN."""
    return any(device.kind in ("elm327", "obdcan") and device.state != "barred" for device in status.devices)


def told_vin(status: Status) -> str:
    """Return the VIN that the car tells through one of its devices, "" where it tells none."""
    for device in status.devices:
        for source, facts in device.facts.items():
            if source.endswith(":vin") and facts.get("vin"):
                return facts["vin"]
    return ""


def short_rows(items: Sequence[Item]) -> list[Row]:
    """Return the lines of what did not pass, and one for all that did: the sheet has them each."""
    passed = sum(i.state == "pass" for i in items)
    rows = rows_of([i for i in items if i.state != "pass"])
    return [*rows, ("pass", f"{passed} {'more ' if rows else ''}checks passed", "", "")] if passed else rows


def of_finding(step: str, finding: Finding) -> Item:
    """Return a finding of the doctor as an item of the sheet; unknown is no pass."""
    what = finding.check.partition(".")[2].replace("_", " ")
    name = f"{CHECKS[finding.group].title}: {what}" + (f" ({finding.device})" if finding.device else "")
    return item(step, name, STATES[finding.state], finding.found, next_step(finding))
