"""Configuration: the shipped file says what the code says; a wrong key is named with its nearest kin."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from agent.config import build, config_dir, read_toml
from agent.dashcam.settings import CameraSettings, DashcamConfig, HealthSettings, load_dashcam
from agent.errors import ConfigError
from agent.settings import AgentConfig, load_agent

AGENT = Path(__file__).resolve().parents[1] / "config" / "agent.toml"


def test_the_shipped_file_holds_every_key_at_its_default() -> None:
    assert load_agent(AGENT) == AgentConfig()
    text = AGENT.read_text(encoding="utf-8")
    keys = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]
    tables = tomllib.loads(text)

    def count(table: dict[str, object]) -> int:
        return sum(count(v) if isinstance(v, dict) else 1 for v in table.values())

    assert count(tables) == len(keys)


def test_the_shipped_dashcam_file_holds_every_key_at_its_default(tmp_path: Path) -> None:
    path = AGENT.with_name("dashcam.toml")
    assert load_dashcam(path) == DashcamConfig()
    text = path.read_text(encoding="utf-8")
    shown = tmp_path / "dashcam.toml"
    shown.write_text(re.sub(r"^# (?=\[cameras\.front\]|[a-z_]+ = )", "", text, flags=re.MULTILINE))
    assert load_dashcam(shown).cameras == {"front": CameraSettings()}
    tables = tomllib.loads(shown.read_text())
    assert tables["cameras"]["front"].keys() == {f.name for f in fields(CameraSettings)}
    assert tables["health"].keys() == {f.name for f in fields(HealthSettings)}
    assert tables.keys() == {f.name for f in fields(DashcamConfig)}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[detection]\nvehicle_clas = 'car'", "vehicle_class"),
        ("[detecton]\n", "detection"),
        ("[detection]\nvehicle_class = 'bus'", "car, van, truck"),
        ("[detection.harsh]\nhold_s = 'long'", "expected float"),
        ("[detection.harsh.braking]\nminor_mps2 = 5.0\nmoderate_mps2 = 3.0\nsevere_mps2 = 4.0", "levels"),
        ("[store]\nmax_bytes = 1.5", "expected int"),
        ("[broker]\nin_flight = 1", "in_flight"),
        ("detection = 3", "expected a table"),
        ("[detection\n", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_place(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_agent(path)
    assert str(path) in str(raised.value)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_whole_numbers_are_taken_where_fractions_are_meant(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[detection.harsh]\nhold_s = 1\n", encoding="utf-8")
    assert load_agent(path).detection.harsh.hold_s == 1.0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_toml(tmp_path / "agent.toml")
    assert (config_dir() / "profiles").is_dir()
    with pytest.raises(ConfigError, match="unknown key"):
        build(AgentConfig, {"speed": {}}, "here")
