"""Parts of the daemon alone: a store that refuses, the crash ladder, devices from configuration, what is shown."""

import logging
import re
import tomllib
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.blocks import Block
from agent.cli.config import app
from agent.config import build, config_dir
from agent.devices import DriverTables, makers
from agent.errors import ConfigError, StoreError
from agent.ladder import Ladder, LadderSettings
from agent.patience import PatientStore
from agent.settings import AgentConfig, load_agent
from tests.sample_records import event, some

S = 1_000_000_000


class FullStore:
    """A store whose disk is full while `full`."""

    def __init__(self) -> None:
        self.full = False
        self.records: list[Any] = []

    def append(self, records: list[Any]) -> None:
        if self.full:
            raise StoreError("store.db: writing failed: disk or store is full")
        self.records += records

    def append_block(self, block: Block) -> None:
        if self.full:
            raise StoreError("store.db: writing failed: disk or store is full")

    def flush(self) -> None:
        self.append_block(Block)  # type: ignore[arg-type]


def test_records_that_a_full_disk_refuses_are_stored_in_order_once_it_takes_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now = [0]
    disk = FullStore()
    patient = PatientStore(disk, lambda: now[0])  # type: ignore[arg-type]
    given = some(12)
    patient.append(given[:4])
    disk.full = True
    for pair in given[4:]:
        now[0] += S
        patient.append([pair])
        patient.tend()
    assert patient.waiting == 8 + 1  # and the record that says so
    assert len(disk.records) == 4
    with pytest.raises(StoreError):
        patient.last()
    disk.full = False
    now[0] += 10 * S
    patient.tend()
    assert patient.waiting == 0
    kinds = [r for _, r in disk.records if getattr(r, "source", "") == "store"]
    assert [h.state for h in kinds] == ["lost", "ok"]
    assert [p for p in disk.records if p in given] == given
    assert len(caplog.records) == 2
    patient.append([(1, event())])
    assert len(caplog.records) == 2


def test_crashes_within_the_window_climb_the_ladder_and_time_comes_down(tmp_path: Path) -> None:
    settings = LadderSettings(window_s=100.0, minimal_after=2, hold_after=3)

    def begin(t_s: int, boot: str = "a") -> tuple[str, Ladder]:
        ladder = Ladder(tmp_path, boot, settings)
        return ladder.begin(t_s * S), ladder

    assert begin(0)[0] == "normal"
    level, ladder = begin(10)  # the one before never said goodbye
    assert level == "normal"
    assert "without a word" in ladder.reason
    ladder.crashed(20 * S, "ValueError: broken")
    level, ladder = begin(21)
    assert (level, ladder.reason) == ("minimal", "ValueError: broken")
    assert ladder.level(125 * S) == "normal"
    assert begin(30)[0] == "hold"
    assert begin(31, boot="b")[0] == "normal"  # the power was cut: no crash
    level, ladder = begin(32, boot="b")
    ladder.ended()
    assert begin(33, boot="b")[0] == "normal"


def test_a_damaged_ladder_file_is_as_none(tmp_path: Path) -> None:
    for content in ("", "[]", '{"boot": "a", "crashes": ["x"], "running": 1}'):
        (tmp_path / "crashes.json").write_text(content)
        assert Ladder(tmp_path, "a", LadderSettings()).begin(0) == "normal"


def test_every_kind_of_device_can_be_configured_without_being_opened(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        '[drivers.canbus.body]\nchannel = "can0"\n[drivers.canbus.drive]\nchannel = "can1"\noptions = {}\n'
        '[drivers.obdcan.diag]\nchannel = "can2"\ntransmit = true\n'
        '[drivers.elm327.obd]\nport = "/dev/rfcomm0"\n[drivers.gps.main]\nport = 2950\n'
        "[drivers.imu.box]\nrate_hz = 200\n[drivers.power.board]\nvoltage = 'hwmon:ina219/in1'\n"
    )
    names = [make().name for make in makers(load_agent(path).drivers, config_dir())]
    assert names == [
        "canbus:can0",
        "canbus:can1",
        "obdcan:can2",
        "elm327:/dev/rfcomm0",
        "gps:127.0.0.1:2950",
        "imu:first",
        "power",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[drivers.gpss.main]", "gps"),
        ("[drivers.gps.main]\nhots = 'x'", "host"),
        ("[drivers.gps.a]\n[drivers.gps.b]", "drivers.gps.b and drivers.gps.a both read gps:127.0.0.1:2947"),
        (
            "[drivers.canbus.body]\n[drivers.obdcan.diag]\ntransmit = true",
            "drivers.canbus.body and drivers.obdcan.diag both read socketcan can0: all on it would count twice",
        ),
        (
            "[drivers.canbus.a]\ninterface = 'slcan'\nchannel = '/dev/ttyUSB0'\n[drivers.elm327.b]",
            "drivers.canbus.a and drivers.elm327.b both read /dev/ttyUSB0",
        ),
        ("[drivers.gps.a]\n[drivers.replay.b]\nfiles = ['a.log']", "stands alone"),
        ("[drivers.replay.b]\nfiles = []", "files must name a recording"),
        ("[daemon.crashes]\nminimal_after = 9", "minimal_after"),
        ("[daemon.feed]\nretry_s = 100.0", "retry_s"),
        ("[daemon]\nhold_s = 0.0", "hold_s"),
    ],
)
def test_wrong_devices_are_one_line(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        makers(load_agent(path).drivers, config_dir())
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_shipped_file_shows_every_key_of_every_kind_of_device_at_its_default() -> None:
    text = (config_dir() / "agent.toml").read_text(encoding="utf-8")
    section = text.split("\n[drivers]\n")[1]
    shown = tomllib.loads(re.sub(r"(?m)^# ", "", section))["drivers"]
    kinds = {f.name: typing.get_args(typing.get_type_hints(DriverTables)[f.name])[1] for f in fields(DriverTables)}
    assert shown.keys() | {"obdcan"} == kinds.keys()  # it takes the keys of canbus
    for kind, tables in shown.items():
        keys = {f.name for f in fields(kinds[kind])}
        for table in tables.values():
            assert table.keys() == keys
            if kind != "replay":
                table.pop("cache", None)  # none by default, which TOML cannot say
                assert build(kinds[kind], table, kind) == kinds[kind]()


def test_what_config_shows_can_be_read_again_and_is_the_same(tmp_path: Path) -> None:
    given = tmp_path / "agent.toml"
    given.write_text(
        '[broker]\nca = "/etc/ca.pem"\nusername = "日本 \\" x"\n[drivers.canbus."can 0"]\n'
        'options = { tty = "a", n = 1 }\n'
        "[drivers.replay]\n[daemon.feed]\nretry_s = 2\n"
    )
    shown = CliRunner().invoke(app, ["show", "--config", str(given)])
    assert shown.exit_code == 0
    assert tomllib.loads(shown.stdout)["daemon"]["feed"]["retry_s"] == 2.0
    again = tmp_path / "again.toml"
    again.write_text(shown.stdout, encoding="utf-8")
    assert load_agent(again) == load_agent(given) != AgentConfig()
    checked = CliRunner().invoke(app, ["check", "--config", str(given)])
    assert "canbus:can0" in checked.stdout
    assert "Consent: nobody has agreed" in checked.stdout
