"""The udev rules: well formed, no device twice, names only below /dev/roadwitness."""

import re
from collections import Counter
from pathlib import Path

RULES = Path(__file__).parents[1] / "systemd" / "70-roadwitness.rules"
PART = re.compile(r'(SUBSYSTEM|ACTION|ATTRS\{(idVendor|idProduct|product)\}|SYMLINK|GOTO|LABEL)(==|!=|\+=|=)"[^"\s]+"')


def rules() -> list[str]:
    return [line for line in RULES.read_text().splitlines() if line and not line.startswith("#")]


def test_every_rule_is_well_formed() -> None:
    assert all(PART.fullmatch(part) for rule in rules() for part in rule.split(", "))


def test_every_jump_has_its_label() -> None:
    text = RULES.read_text()
    assert set(re.findall(r'GOTO="(\w+)"', text)) == set(re.findall(r'LABEL="(\w+)"', text))


def test_no_device_has_two_names_and_all_are_ours() -> None:
    named = [rule for rule in rules() if "SYMLINK" in rule]
    devices = Counter(re.sub(r", SYMLINK.*", "", rule) for rule in named)
    assert max(devices.values()) == 1
    assert len(named) > 10
    for rule in named:
        assert re.search(r'SYMLINK\+="roadwitness/(gps|elm327)%n"', rule)
        assert re.search(
            r'ATTRS\{idVendor\}=="[0-9a-f]{4}", ATTRS\{(idProduct\}=="[0-9a-f]{4}"|product\}=="\w+\*")', rule
        )
