"""CAN in the guest: interfaces as our networkd files bring them up, and a bus as the agent reads it."""

import json
from collections.abc import Callable
from typing import Any

from tests.kernel.cache import CHECKOUT, HERE
from tests.kernel.channel import Process
from tests.kernel.errors import GuestError
from tests.kernel.guest import Guest

OURS = CHECKOUT / "systemd/network/80-roadwitness-can0.network"
VCAN = "[NetDev]\nName=can0\nKind=vcan\n"


def with_vcan(guest: Guest) -> None:
    """Let networkd make a virtual can0 and bring it up by the file that we ship."""
    guest.module("vcan", "can-raw", "can-isotp", "can-gw", "slcan")
    guest.copy(OURS, f"/etc/systemd/network/{OURS.name}")
    guest.put("/etc/systemd/network/60-can0.netdev", VCAN)
    guest.run("networkctl reload")
    guest.until("ip link show can0 | grep -q ',UP'")


class Watch:
    """The agent's driver on one bus of the guest, and the newest that it told; `opens`: wait until it is open."""

    def __init__(self, guest: Guest, *, opens: bool = True, **settings: str | int) -> None:
        guest.put("/root/watch_can.py", (HERE / "programs/watch_can.py").read_bytes())
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        self.process: Process = guest.start(f"exec python3 /root/watch_can.py {words}")
        self._before: dict[str, int] = {}
        if opens:
            self.until(lambda told: told["open"])

    def begin(self) -> None:
        """Count from here."""
        self._before = self.told["counts"]

    @property
    def counts(self) -> dict[str, int]:
        """What was counted since `begin`."""
        counts = self.told.get("counts", {})
        return {name: n - self._before.get(name, 0) for name, n in counts.items()}

    def until_counted(self, limit_s: float = 120.0, **wanted: int) -> None:
        """Wait until the counters named have reached their numbers since `begin`."""
        self.until(lambda _: all(self.counts.get(name, 0) >= n for name, n in wanted.items()), limit_s)

    @property
    def told(self) -> dict[str, Any]:
        """What it told last."""
        lines = bytes(self.process.out).decode().split("\n")
        return json.loads(lines[-2]) if len(lines) > 1 else {"open": False}  # type: ignore[no-any-return]

    def until(self, condition: Callable[[dict[str, Any]], bool], limit_s: float = 120.0) -> dict[str, Any]:
        """Wait until `condition` holds of what it tells; raise GuestError with the last of it."""
        self.process.until(lambda: self.process.code is not None or condition(self.told), limit_s)
        if self.process.code is not None or not condition(self.told):
            raise GuestError(f"never came: {self.told}\n{bytes(self.process.err).decode()}")
        return self.told

    def stop(self) -> None:
        """End it."""
        self.process.kill(15)
        self.process.wait()


def goes_down_and_up(guest: Guest, watch: Watch) -> None:
    """Take can0 down and bring it up again: told with what to type, and then taken up."""
    guest.run("ip link set can0 down")
    told = watch.until(lambda now: not now["open"] and bool(now["trouble"]))
    assert "ip link set can0 up" in told["trouble"]
    guest.run("ip link set can0 up")
    watch.until(lambda now: now["open"])
