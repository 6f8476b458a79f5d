"""The J1939 profile: parameter groups of any sender, 'not available' dropped, and a real truck's idling engine."""

from pathlib import Path

import cantools
import numpy as np
import pytest

from agent.blocks import EXTENDED, Frames, empty_frames
from agent.channels import number
from agent.config import config_dir
from drivers.decode.profile import load_profile
from drivers.recording import open_recording

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "can" / "misc"


def frames(*rows: tuple[int, str]) -> Frames:
    made = empty_frames(len(rows))
    for i, (identifier, data) in enumerate(rows):
        made.id[i], made.flags[i], made.len[i] = identifier, EXTENDED, 8
        made.data[i] = np.frombuffer(bytes.fromhex(data), np.uint8)
    return made


def test_speeds_are_found_whoever_sends_them_and_not_available_is_dropped() -> None:
    decoder = load_profile("j1939", config_dir()).decoder()
    block = decoder.decode(
        frames(
            (0x0CFE6CEE, "FFFFFFFFFFFF0032"),  # tachograph: 0x3200 / 256 = 50 km/h
            (0x18FEF100, "FF003200FFFFFFFF"),  # wheels: 50 km/h, sent by the engine; brake switch released
            (0x18FEF121, "FF003210FFFFFFFF"),  # another sender, brake pressed
            (0x18FEF100, "FFFFFFFFFFFFFFFF"),  # nothing known
            (0x0CF00400, "FFFFFF6813FFFFFF"),  # engine: 0x1368 / 8 = 621 rpm
        ),
        ["can0"],
    )
    found = [(int(c), round(float(v), 3)) for c, v in zip(block["channel"], block["value"], strict=True)]
    speed, brake = number("Wheel.Speed"), number("Vehicle.Chassis.Brake.IsPressed")
    assert (number("Vehicle.Speed"), 13.889) in found
    assert found.count((speed, 13.889)) == 2
    assert [v for c, v in found if c == brake] == [0.0, 1.0]
    assert (number("Vehicle.Powertrain.CombustionEngine.Speed"), 621.0) in found
    assert decoder.not_available >= 2


@pytest.mark.data
def test_a_real_engine_at_idle_equals_cantools() -> None:
    path = DATA / "j1939_idle_plus_canmodgps_11111111.MF4"
    if not path.exists():
        pytest.skip("../shared/data is absent")
    decoder = load_profile("j1939", config_dir()).decoder()
    engine = cantools.database.load_file(DATA / "CSS-Electronics-SAE-J1939-DEMO.dbc").get_message_by_name("EEC1")
    ours: list[float] = []
    theirs: list[float] = []
    recording = open_recording(path)
    for batch in recording.batches():
        assert isinstance(batch, Frames)
        block = decoder.decode(batch, recording.buses)
        ours += block["value"][block["channel"] == number("Vehicle.Powertrain.CombustionEngine.Speed")].tolist()
        of_engine = (batch.id >> 8 & 0xFFFF == 0xF004) & (batch.flags & EXTENDED > 0)
        theirs += [
            float(engine.decode(bytes(data), decode_choices=False)["EngineSpeed"]) for data in batch.data[of_engine]
        ]
    recording.close()
    assert len(ours) > 10_000
    assert ours == theirs
