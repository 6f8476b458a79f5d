"""Vehicle profiles: what they map, what they refuse and with which words, and which one fits a bus."""

import subprocess
import sys
from pathlib import Path

import cantools
import numpy as np
import pytest

from agent.blocks import EXTENDED, empty_frames
from agent.channels import BY_NUMBER
from agent.errors import ConfigError
from drivers.decode.profile import IdFilter, Profile, identify, list_profiles, load_profile

CONFIG = Path(__file__).parents[1] / "config"
DBC = (
    'BO_ 100 SPEED: 8 X\n SG_ Speed : 0|16@1+ (0.01,0) [0|250] "km/h" X\n SG_ SpeedValid : 16|1@1+ (1,0) [0|1] "" X\n'
    ' SG_ Fine : 24|4@1+ (0.001,0) [0|0] "km/h" X\n'
    'BO_ 101 OTHER: 8 X\n SG_ A : 0|8@1+ (1,0) [0|0] "" X\n'
    'BO_ 2364540158 EEC1: 8 X\n SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" X\n'
    'BO_ 2565865470 PDU1: 8 X\n SG_ B : 0|8@1+ (1,0) [0|0] "" X\n'
    'BA_DEF_DEF_ "VFrameFormat" "J1939PG";\n'
)
HEAD = 'name = "car"\ntitle = "a car"\n[[buses]]\nmatch = "can*"\ndbc = "car.dbc"\n'
SPEED = '[[signals]]\nmessage = "SPEED"\nsignal = "Speed"\nchannel = "Vehicle.Speed"\n'


def profile_of(folder: Path, text: str, name: str = "car") -> Profile:
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "dbc").mkdir(exist_ok=True)
    (folder / "dbc" / "car.dbc").write_text(DBC)
    (folder / "profiles" / f"{name}.toml").write_text(text)
    return load_profile(name, folder)


def samples(profile: Profile, data: bytes, number: int = 100, bus: str = "can0") -> list[tuple[str, float]]:
    frames = empty_frames(1)
    frames.id[0], frames.len[0] = number, len(data)
    frames.flags[0] = EXTENDED if number > 0x7FF else 0
    frames.data[0, : len(data)] = np.frombuffer(data, np.uint8)
    return [(BY_NUMBER[c].name, v) for _, c, v in profile.decoder().decode(frames, [bus]).tolist()]


def test_a_signal_becomes_its_channel_with_scale_sign_offset_and_sum(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, HEAD + SPEED + 'scale = 0.5\nsign = -1\noffset = 40.0\nplus = "Fine"\n')
    assert samples(profile, (3600).to_bytes(2, "little") + b"\0\x05") == [
        ("Vehicle.Speed", pytest.approx(40 - (36.0 + 0.005) / 2, abs=1e-12))
    ]
    assert samples(profile, bytes(8), bus="radar") == []


def test_validity_and_ranges_are_honoured(tmp_path: Path) -> None:
    valid = profile_of(tmp_path, HEAD + SPEED + 'valid = { signal = "SpeedValid", equals = 1 }\n')
    assert samples(valid, b"\x10\x0e\x00\x00") == []
    assert len(samples(valid, b"\x10\x0e\x01\x00")) == 1
    plausible = profile_of(tmp_path, HEAD + SPEED)
    assert samples(plausible, b"\xff\xff\x00\x00") == []  # 655 m/s: no road speed
    narrow = profile_of(tmp_path, HEAD + SPEED + "range = [1, 30]\n")
    assert samples(narrow, b"\x10\x0e\x00\x00") == []
    dbc = profile_of(tmp_path, HEAD + SPEED + "scale = 0.1\ndbc_range = true\n")
    assert len(samples(dbc, (25000).to_bytes(2, "little"))) == 1
    assert samples(dbc, (25001).to_bytes(2, "little")) == []
    ones = profile_of(tmp_path, HEAD + SPEED + 'scale = 0.1\nnot_available = "all_ones"\n')
    assert samples(ones, b"\xff\xff") == []
    assert len(samples(ones, b"\xfe\xff")) == 1


def test_a_j1939_message_matches_by_group_and_knows_its_own_not_available(tmp_path: Path) -> None:
    text = HEAD + '[[signals]]\nmessage = "EEC1"\nsignal = "EngineSpeed"\nchannel = "Obd.EngineSpeed"\n'
    profile = profile_of(tmp_path, text)
    assert samples(profile, bytes.fromhex("FFFFFF6813FFFFFF"), 0x0CF00400) == [("Obd.EngineSpeed", 621.0)]
    assert samples(profile, b"\xff" * 8, 0x0CF00400) == []


def test_id_filters_let_through_what_is_mapped_and_the_further_ids(tmp_path: Path) -> None:
    more = (
        '[[signals]]\nmessage = "EEC1"\nsignal = "EngineSpeed"\nchannel = "Obd.EngineSpeed"\n'
        '[[signals]]\nmessage = "PDU1"\nsignal = "B"\nchannel = "Obd.EngineLoad"\n'
    )
    profile = profile_of(tmp_path, "ids = [0x7E8, 0x18DAF110]\n" + HEAD + SPEED + more)
    assert profile.id_filters("can0") == [
        IdFilter(100, 0x7FF, False),
        IdFilter(0x7E8, 0x7FF, False),
        IdFilter(0x00EF0000, 0x03FF0000, True),
        IdFilter(0x00F00400, 0x03FFFF00, True),
        IdFilter(0x18DAF110, 0x1FFFFFFF, True),
    ]
    assert [f.id for f in profile.id_filters("radar")] == [0x7E8, 0x18DAF110]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + SPEED.replace('"Speed"', '"Sped"'), "signal 'Sped' is not in message 'SPEED' (near names: Speed"),
        (HEAD + SPEED.replace('"SPEED"', '"SPED"'), "message 'SPED' is not in car.dbc (near names: SPEED"),
        (
            HEAD + SPEED.replace("Vehicle.Speed", "Vehicle.Sped"),
            "channel 'Vehicle.Sped' is not known (near names: Vehicle",
        ),
        (HEAD + SPEED + 'plus = "Fin"\n', "signal 'Fin' is not in message 'SPEED' (near names: Fine"),
        (HEAD + SPEED + 'valid = { signal = "Valid" }\n', "(near names: SpeedValid"),
        (HEAD + SPEED + "scal = 2\n", "[[signals]] number 1 has an unknown key 'scal' (near names: scale"),
        (HEAD + 'dcb = "x"\n' + SPEED, "[[buses]] number 1 has an unknown key 'dcb' (near names: dbc"),
        ('titel = "x"\n' + HEAD + SPEED, "the profile has an unknown key 'titel' (near names: title"),
        (HEAD + SPEED + 'valid = { signal = "SpeedValid", equal = 1 }\n', "unknown key 'equal' (near names: equals"),
        (HEAD + SPEED + 'scale = "2"\n', "Expected `float`, got `str` - at `$.signals[0].scale`"),
        (HEAD + SPEED + "sign = 2\n", "$.signals[0].sign"),
        (HEAD + SPEED + "range = [300, 400]\n", "no value of 'Vehicle.Speed' can be in range"),
        (HEAD + SPEED + 'plus = "Fine"\ndbc_range = true\n', "the DBC gives no range for 'SPEED.Fine'"),
        (HEAD, "missing required field `signals`"),
        (HEAD + "signals = []\n", "unknown key 'signals'"),
        ("buses = 1\nsignals = 2\n", "$"),
        (HEAD.replace("car.dbc", "absent.dbc") + SPEED, "cannot read the DBC file"),
        (HEAD.replace('"car"', '"bus"') + SPEED, "must be the file's name"),
        ("name = \n", "is not TOML"),
        ("ids = [4294967296]\n" + HEAD + SPEED, "ids: 0x100000000 is no CAN identifier"),
    ],
)
def test_a_wrong_profile_is_one_line_that_names_the_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        profile_of(tmp_path, text)
    assert said in str(error.value)
    assert "car.toml" in str(error.value) or "absent.dbc" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_profile_lists_near_names_and_all() -> None:
    with pytest.raises(ConfigError, match=r"'toyota-rav' is not known \(near names: toyota-rav4\); known: canmod, .*"):
        load_profile("toyota-rav", CONFIG)


def test_a_profile_may_be_a_path_with_its_dbc_beside_it_and_another_dbc_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD.replace('"car"', '"mine"').replace("car.dbc", "mine.dbc") + SPEED)
    (tmp_path / "mine.dbc").write_text(DBC)
    assert load_profile(str(path), CONFIG).name == "mine"
    other = tmp_path / "other.dbc"
    other.write_text(DBC.replace("(0.01,0)", "(0.02,0)"))
    assert samples(load_profile(str(path), CONFIG, other), b"\x64\0") == [("Vehicle.Speed", 2.0)]
    with pytest.raises(ConfigError, match="cannot read the profile"):
        load_profile(str(tmp_path / "absent.toml"), CONFIG)


def test_what_the_dbc_reader_skipped_is_passed_on(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, HEAD + SPEED)
    (tmp_path / "dbc" / "car.dbc").write_text(DBC + 'CM_ SG_ 100 "about nothing";\n')
    assert profile.skipped == ()
    (line,) = load_profile("car", tmp_path).skipped
    assert line.startswith("car.dbc: line 12")


def test_the_profile_that_the_seen_identifiers_speak_for_comes_first(tmp_path: Path) -> None:
    other = '[[signals]]\nmessage = "OTHER"\nsignal = "A"\nchannel = "Obd.Speed"\n'
    profile_of(tmp_path, HEAD + SPEED)
    profile_of(tmp_path, HEAD.replace('"car"', '"both"') + SPEED + other, "both")
    eec1 = '[[signals]]\nmessage = "EEC1"\nsignal = "EngineSpeed"\nchannel = "Obd.EngineSpeed"\n'
    profile_of(tmp_path, HEAD.replace('"car"', '"truck"') + eec1, "truck")

    def ranked(*seen: tuple[str, int]) -> list[tuple[str, float]]:
        return [(p.name, share) for p, share in identify(set(seen), tmp_path)]

    assert ranked(("can0", 100)) == [("car", 1.0), ("both", 0.5)]
    assert ranked(("can0", 100), ("can1", 101)) == [("both", 1.0), ("car", 1.0)]
    assert ranked(("can0", 0x18F00421)) == [("truck", 1.0)]
    assert ranked(("radar", 100), ("can0", 5)) == []


def test_every_profile_of_the_house_loads_and_skips_nothing() -> None:
    assert list_profiles(CONFIG) == ["canmod", "j1939", "simcar", "toyota-rav4"]
    for name in list_profiles(CONFIG):
        profile = load_profile(name, CONFIG)
        assert profile.skipped == ()
        assert profile.decoder().tables.left_out == ()
        assert all(e.takes for e in profile.entries), "a message that nothing uses"


def test_our_dbc_files_are_strictly_right_for_cantools() -> None:
    for path in sorted((CONFIG / "dbc").glob("*.dbc")):
        assert cantools.database.load_file(path, strict=True).messages


SIMCAR = {
    "ENGINE": ({"Rpm": 2500, "Throttle": 20, "AcceleratorPedal": 30, "Counter": 3, "Checksum": 9}, [2500, 30, 20]),
    "BRAKE": ({"BrakePressed": 1, "AbsActive": 0, "BrakePosition": 40}, [1, 40, 0]),
    "STEERING": ({"Angle": -123.25}, [-123.25]),
    "GEAR": ({"Gear": -1}, [-1]),
    "KINEMATICS": ({"LongAccel": -6.5, "LatAccel": 2.5, "YawRate": -12.25}, [-6.5, 2.5, -12.25]),
    "WHEELS_FRONT": ({"Left": 36, "Right": 72}, [10, 20]),
    "WHEELS_REAR": ({"Left": 108, "Right": 0}, [30, 0]),
    "SPEED": ({"VehicleSpeed": 54}, [15]),
    "BODY": ({"Ignition": 2, "Voltage": 13.8, "AmbientTemperature": -7.5, "FuelLevel": 100}, [1, 13.8, -7.5, 100]),
    "GNSS_POSITION": ({"Latitude": -33.8688197, "Longitude": 151.2092955}, [-33.8688197, 151.2092955]),
    "GNSS_MOTION": (
        {"Speed": 15.25, "Course": 359.99, "Accuracy": 2.5, "FixType": 3, "Satellites": 11, "Valid": 1},
        [15.25, 359.99, 2.5, 3, 11],
    ),
    "GNSS_TIME": ({"UnixMs": 1763769600123, "Valid": 1}, [1763769600.123]),
    "GNSS_ALTITUDE": ({"Altitude": -12.34, "Valid": 1}, [-12.34]),
    "IMU_ACCEL": ({"X": 9.805, "Y": -158.0, "Z": 0.005}, [9.805, -158.0, 0.005]),
    "IMU_GYRO": ({"X": -0.07, "Y": 700, "Z": 0}, [-0.07, 700, 0]),
}


def test_every_message_of_the_simulated_car_reaches_its_channels() -> None:
    bus = cantools.database.load_file(CONFIG / "dbc" / "simcar.dbc")
    profile = load_profile("simcar", CONFIG)
    for name, (said, expected) in SIMCAR.items():
        message = bus.get_message_by_name(name)
        found = samples(profile, message.encode(said), message.frame_id)
        assert [v for _, v in found] == pytest.approx(expected, rel=1e-12, abs=1e-6), name
    assert samples(profile, bytes([1, 0x40, 0xE2, 1]), 1488) == [("Vehicle.TraveledDistance", 123456000.0)]
    assert samples(profile, bytes([0, 130, 0, 0]), 1488) == [("Obd.OilTemperature", 90.0)]
    assert samples(profile, b"\xff\xff\xff\x7f" * 2, 1536) == []  # no fix
    covered = {m.name for m in bus.messages} - SIMCAR.keys()
    assert covered == {"DIAG"}


def test_reading_a_profile_does_not_load_numba() -> None:
    code = (
        "import sys; from pathlib import Path; from drivers.decode.profile import load_profile;"
        "load_profile('simcar', Path('config')); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=CONFIG.parent, check=False).returncode == 0
