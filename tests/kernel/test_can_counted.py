"""What CAN costs, in instructions, beside python-can and cantools in the same boot.

Time counts instructions here (half a billion a second, 0.7 of a Zero 2 W): a busy host makes the run longer and changes
nothing in it.
"""

import json
from typing import Final

import pytest

from tests.kernel.cache import HERE
from tests.kernel.can import with_vcan
from tests.kernel.conftest import Figure
from tests.kernel.guest import Guest

MACHINE: Final = {"icount": 1}
INSTRUCTIONS_PER_S: Final = 1e9 / 2
LIMIT_S: Final = 3000.0


@pytest.fixture(scope="module", autouse=True)
def _bus(guest: Guest) -> None:
    with_vcan(guest)


@pytest.mark.parametrize(
    ("name", "program", "rate"),
    [("the agent", "cost_agent.py", 4000), ("python-can + cantools", "cost_pythoncan.py", 200)],
)
def test_what_a_frame_costs(guest: Guest, figure: Figure, name: str, program: str, rate: int) -> None:
    """python-can gets a twentieth of the rate: it could not follow a full bus on this machine."""
    seconds = 5
    for file in (program, "flood.py"):
        guest.put(f"/root/{file}", (HERE / "programs" / file).read_bytes())
    reader = guest.start(f"exec python3 /root/{program} {rate * seconds}")
    reader.until_says("ready", LIMIT_S)
    guest.run(f"python3 /root/flood.py {rate} {seconds}", limit_s=LIMIT_S)
    told = json.loads(reader.wait(LIMIT_S).out.splitlines()[-1])
    assert told["frames"] >= rate * seconds * 0.9
    each = told["cpu_s"] * INSTRUCTIONS_PER_S / told["frames"]
    figure(f"{name}: a frame with its values, at {rate} frames/s", round(each), "instructions")
    figure(f"{name}: share of this processor", 100 * told["cpu_s"] / seconds, "%")
