"""Tell systemd how the daemon is: a datagram to the socket that it names (sd_notify(3)); silence without systemd.

The environment is systemd's wire here, not configuration: it names the socket and how often it wants to hear.
"""

import os
import socket
from collections.abc import Mapping

from agent.clock import NS_PER_S


class Watchdog:
    """The line to systemd; `fed` is called after real work and speaks often enough, not at every call."""

    def __init__(self, address: str = "", interval_ns: int = 0) -> None:
        """Take the socket's address ('@' begins an abstract one) and the watchdog's time-out, 0 for none."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._pause_ns = interval_ns // 3
        self._fed_ns: int | None = None
        self._status = ""

    @classmethod
    def of_systemd(cls, environment: Mapping[str, str] = os.environ) -> "Watchdog":  # noqa: TID251 — see above
        """Return the line that systemd offers to this process, or a silent one."""
        timeout_us = environment.get("WATCHDOG_USEC", "")
        return cls(environment.get("NOTIFY_SOCKET", ""), int(timeout_us) * 1000 if timeout_us.isdigit() else 0)

    def ready(self) -> None:
        """Say that the start is over."""
        self._send("READY=1")

    def fed(self, now_ns: int) -> None:
        """Say that work goes on, three times in each time-out."""
        if self._pause_ns and (self._fed_ns is None or now_ns - self._fed_ns >= self._pause_ns):
            self._fed_ns = now_ns
            self._send("WATCHDOG=1")

    def starting(self, seconds: float) -> None:
        """Ask for `seconds` more before the start counts as failed: the last drive is being recovered."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * NS_PER_S) // 1000}")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`, when it changes."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.setblocking(False)
                line.sendto(message.encode(), self._address)
        except OSError:
            return  # nobody listens: systemd is not there, and there is nobody to complain to
