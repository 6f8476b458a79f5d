"""What tests ask of an installed box (tests.kernel.box), and a drive for it."""

import json
from typing import Any, Final

from tests.kernel.box import LIMIT_S, SOCKET
from tests.kernel.guest import Guest

STATUS: Final = (
    "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
    """s.sendall(b'{"ask":"status"}\\n'); print(s.makefile().readline())"""
)
CAMERA: Final = '[cameras.front]\nsource = "/dev/video0"\nwidth = 320\nheight = 180\nfps = 5.0\n'


def shown(guest: Guest, unit: str, name: str) -> str:
    """Return a property of a unit."""
    return guest.run(f"systemctl show --value -p {name} {unit}").out.strip()


def uptime(guest: Guest) -> float:
    """Return seconds from the kernel's start."""
    return float(guest.run("cut -d' ' -f1 /proc/uptime").out)


def moment(guest: Guest, unit: str, name: str) -> float:
    """Return a time of a unit, in seconds from the kernel's start."""
    return int(shown(guest, unit, name)) / 1e6


def status(guest: Guest, having: str = '"level"') -> dict[str, Any]:
    """Ask the agent, again while it is too busy to say, until its answer matches `having`."""
    guest.put("/tmp/status.py", STATUS)
    told = guest.until(f"python3 /tmp/status.py {SOCKET} | grep '{having}'", LIMIT_S).out
    return json.loads(told)  # type: ignore[no-any-return]


def asked(guest: Guest, command: str) -> Any:
    """Return the JSON that a command of the product prints."""
    return json.loads(guest.run(f"roadwitness {command} --json", limit_s=LIMIT_S).out)


def drive(guest: Guest, seconds: int) -> None:
    """Drive at 72 km/h after pulling away, then stand: wheel speeds on the car's bus, once the agent has opened it."""
    status(guest, having='"canbus:can0"[^{}]*"state":"open"')
    frames = (f"{round((kmh + 67.67) * 100):04X}" * 4 for kmh in (0, 18, 36, 54))
    lines = [f"cangen can0 -I 0AA -L 8 -D {frame} -g 20 -n 50" for frame in frames]
    lines.append(f"cangen can0 -I 0AA -L 8 -D {'368F' * 4} -g 20 -n {seconds * 50}")
    lines.append(f"cangen can0 -I 0AA -L 8 -D {'1A6F' * 4} -g 20 -n 50")
    guest.run(" && ".join(lines), limit_s=LIMIT_S)
