"""`roadwitness demo` with a page: the agent in its own process reads the car's wires, and the page follows."""

import json
import re
import signal
import subprocess
import sys
import threading
import tomllib
import urllib.request
from pathlib import Path

import pytest

from agent.clock import NS_PER_S, monotonic_ns, wait
from agent.config import config_dir
from agent.records import DRIVING_KINDS, Health
from agent.settings import load_agent
from agent.store import Store
from drivers.decode.profile import load_profile
from sim.drive import simulate
from sim.elm_car import VIN
from sim.tape import drive_tape
from sim.wires import Wires
from sim.wiring import agent_toml

PATIENCE_S = 60.0


def test_the_agent_accepts_the_configuration_that_the_car_writes(tmp_path: Path) -> None:
    tape = drive_tape(simulate("commute", 1, 2.0), config_dir(), load_profile("simcar", config_dir()))
    with Wires(tmp_path / "car", tape) as wires:
        text = agent_toml(wires, "mqtt://127.0.0.1:1")
    tape.close()
    (tmp_path / "agent.toml").write_text(text, encoding="utf-8")
    assert {kind: list(named) for kind, named in tomllib.loads(text)["drivers"].items()} == {
        "canbus": ["can0"],
        "elm327": ["obd"],
        "gps": ["main"],
        "imu": ["box"],
    }
    assert load_agent(tmp_path / "agent.toml").broker.url == "mqtt://127.0.0.1:1"


@pytest.mark.timeout(150)
def test_the_page_follows_the_car_on_its_wires_and_an_end_keeps_the_drive(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agent", "demo", "--drives", "1", "--embedded-broker", "--http", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--dir", str(tmp_path)], stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            said, link = "", ""
            while "vehicles/" not in said:
                said = demo.stdout.readline()
                assert said, "the demo ended"
                link = said.split()[-1] if said.split()[:1] == ["owner"] else link
            page = re.search(r"http://\S+", said)
            assert page is not None
            seen = {state["position"]: state for state in _states(_browser(link), page[0] + "/live.json", moving=12)}
            assert len(seen) == 12
            assert all(float(state["speed"]) > 0 for state in seen.values())
        finally:
            demo.send_signal(signal.SIGTERM)  # whoever starts tests in the background lets them ignore Ctrl-C
        assert demo.wait(60) == 0
    with Store.open(tmp_path / "agent", read_only=True) as store:
        trips = [stored.record for stored in store.trips()]
        assert len(trips) == 2
        assert trips[-1].quality.speed_share.keys() >= {"wheel", "obd", "gnss"}
        facts = {stored.record.source: stored.record.facts for stored in store.records(Health)}
        assert [told for source, told in facts.items() if source.endswith(":vin")] == [{"vin": VIN}]
        assert facts["guard"]["vin"] == VIN  # the box knows its car from now on
        befallen = {stored.record.kind for stored in store.events() if not stored.recorded} - DRIVING_KINDS
        assert befallen <= {"device_moved"}
        assert store.verify().ok
    assert (tmp_path / "agent.log").read_text(encoding="utf-8").endswith("ended with everything stored\n")


def _browser(link: str) -> urllib.request.OpenerDirector:
    """Sign in as the owner by the link that the demo printed; return what keeps the session."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    origin = "/".join(link.split("/")[:3])
    browser.open(urllib.request.Request(link, b"", {"Origin": origin}), timeout=10).close()
    return browser


def _states(browser: urllib.request.OpenerDirector, url: str, moving: int) -> list[dict[str, str]]:
    """Ask until the car was seen driving in `moving` places."""
    never = threading.Event()
    until_ns = monotonic_ns() + round(PATIENCE_S * NS_PER_S)
    found: dict[str, dict[str, str]] = {}
    while len(found) < moving and monotonic_ns() < until_ns:
        with browser.open(url, timeout=10) as answer:
            state = json.load(answer)
        if state["speed"] not in ("–", "0"):
            found[state["position"]] = state
        wait(never, 0.5)
    return list(found.values())
