"""How long an installed box takes from its kernel's start until it keeps what it senses; time counts instructions.

A busy host changes nothing in it. Seconds of real boards are estimates: 0.5 G instructions a second here on one core,
0.7 G on a Zero 2 W's core and 1.45 G on a Raspberry Pi 4's (from 7-Zip; ../shared/kernelbench); their four cores, and
what their cards and firmware take, are not in them.
"""

from typing import Final

import pytest

from tests.kernel.asking import moment
from tests.kernel.box import AGENT, LIMIT_S, STORE, installed
from tests.kernel.conftest import Figure, NewGuest
from tests.kernel.guest import Guest
from tests.kernel.test_systemd import first_kept

PER_S: Final = 0.5e9
BOARDS: Final = {"Zero 2 W": 0.7e9, "Pi 4": 1.45e9}
# The first second of samples tells where gravity is (agent/crash/kernel.py); a blow within it has nothing to be held
# against.
ARMED_S: Final = 1.0


@pytest.fixture(scope="module")
def box(new_guest: NewGuest) -> Guest:
    """The package, installed, with the agent ready."""
    return installed(new_guest, icount=1)


def test_a_box_is_awake_soon_after_its_kernel(box: Guest, figure: Figure) -> None:
    first = float(box.until(f'sqlite3 -readonly {STORE} "{first_kept(box)}" | grep .', LIMIT_S).out)
    moments = {
        "systemd starts the agent": moment(box, AGENT, "ExecMainStartTimestampMonotonic"),
        "the agent is ready": moment(box, AGENT, "ActiveEnterTimestampMonotonic"),
        "the first sample that is kept": first,
        "crash detection is armed": first + ARMED_S,
    }
    for what, seconds in moments.items():
        boards = (f"{board} {seconds * PER_S / rate:.1f} s" for board, rate in BOARDS.items())
        figure(f"from the kernel's start until {what}", f"{seconds:.1f} s; estimates: {', '.join(boards)}")
    assert 0 < moments["systemd starts the agent"] < moments["the agent is ready"]
