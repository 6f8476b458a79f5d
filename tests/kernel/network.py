"""Radio links in one guest: a namespace for each car, a far side with broker and receiver, netem between them.

Every car `n` has the device `radio` with the address 10.7.n.2; its other end `down<n>`, 10.7.n.1, is on the far side,
where Mosquitto (by the rules that `broker-config` writes, TLS with certificates) and the receiver's reception run.
Beside it are links of the same kind for plain TCP, 10.8.n.2 to 10.8.n.1 and so on (programs/network_bulk.py).
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from agent.tcp import CONGESTION
from tests.kernel.cache import HERE
from tests.kernel.channel import Process
from tests.kernel.errors import GuestError
from tests.kernel.guest import Guest

FAR: Final = "/tmp/far"  # in memory: the disk of an emulated guest is not what is measured
FRAME: Final = 1514  # what netem counts of a full packet: Ethernet 14, IP 20, TCP 32 with its time stamps, and …
SEGMENT: Final = 1448
RECORD: Final = 16_384  # a full TLS 1.3 record, and …
RECORD_MORE: Final = 22  # … its header, type and tag
PLAIN: Final = list(enumerate(CONGESTION))  # streams of plain TCP beside each car's link
QUEUE_S: Final = 2.0  # of the radio bearer, beyond what is on the way


class Link(NamedTuple):
    """A radio link; half of the delay on the way up, half on the way down, losses both ways."""

    round_trip_ms: int
    loss_percent: int
    kbit_s: int

    def __str__(self) -> str:
        return f"{self.round_trip_ms} ms, {self.loss_percent} %, {self.kbit_s} kbit/s"

    @property
    def plain(self) -> float:
        """Bytes a second that TCP can carry: the rate less Ethernet's, IP's and TCP's headers.

        netem loses a packet before it takes its turn on the link, so that a loss costs the link no time.
        """
        return self.kbit_s * 125 * SEGMENT / FRAME

    @property
    def carries(self) -> float:
        """Bytes a second that TLS over TCP can carry."""
        return self.plain * RECORD / (RECORD + RECORD_MORE)

    @property
    def mathis(self) -> float:
        """Bytes a second of a TCP that halves at each loss: Mathis et al. 1997, (3/2)^0.5 segments / (RTT loss^0.5)."""
        return SEGMENT * 1.5**0.5 / (self.round_trip_ms / 1000 * (self.loss_percent / 100) ** 0.5)

    @property
    def netem(self) -> str:
        packets = max(20, round(self.kbit_s * 125 * (self.round_trip_ms / 1000 + QUEUE_S) / FRAME))
        lossy = f"loss {self.loss_percent}%" if self.loss_percent else ""
        return f"netem delay {self.round_trip_ms / 2}ms {lossy} rate {self.kbit_s}kbit limit {packets}"


class Radio:
    """The far side and the cars; `cars` links from the first, number 0."""

    def __init__(self, guest: Guest, links: list[Link]) -> None:
        self.guest, self.links = guest, links
        self.told: dict[int, list[dict[str, Any]]] = {}  # by car, oldest first
        self._begun = b""
        self._process: Process | None = None
        guest.module("veth", "sch_netem", "tcp_hybla", "tcp_bbr")
        guest.run("ip netns add far && ip -n far link set lo up")
        for n in range(len(links)):
            self._lay(n)
        for name in ("network_far.py", "network_car.py", "network_bulk.py"):
            guest.put(f"/root/{name}", (HERE / "programs" / name).read_bytes())
        self._far = guest.start(f"exec ip netns exec far python3 /root/network_far.py {FAR} {len(links)}")
        self._far.until_says("receiving", 600)

    def _lay(self, n: int) -> None:
        how = self.links[n].netem
        lines = [f"ip netns add car{n} && ip -n car{n} link set lo up"]
        for i, (near, far) in enumerate([("radio", f"down{n}"), *((f"tcp{k}", f"tcp{k}-{n}") for k, _ in PLAIN)]):
            mine, theirs = (f"02:{i:02x}:{n:02x}:00:00:{end:02x}" for end in (2, 1))
            lines += [
                f"ip link add {near} address {mine} netns car{n} type veth peer name {far} address {theirs} netns far",
                # one packet each to netem: it would lose, delay and count what the card has put together as one
                f"ip -n far link set {far} gso_max_segs 1 up",
                f"ip -n far addr add 10.{7 + i}.{n}.1/24 dev {far}",
                f"ip -n car{n} link set {near} gso_max_segs 1 up",
                f"ip -n car{n} addr add 10.{7 + i}.{n}.2/24 dev {near}",
                # a modem asks nobody for the other end's address; ARP gives up for good when three questions are lost
                f"ip -n far neigh replace 10.{7 + i}.{n}.2 lladdr {mine} dev {far} nud permanent",
                f"ip -n car{n} neigh replace 10.{7 + i}.{n}.1 lladdr {theirs} dev {near} nud permanent",
                f"tc -n car{n} qdisc replace dev {near} root {how}",
                f"tc -n far qdisc replace dev {far} root {how}",
            ]
        self.guest.run("set -e\n" + "\n".join(lines))

    def plain_tcp(self, seconds: int, *numbers: int) -> Process:
        """Start plain streams over links like those of some cars."""
        words = " ".join(map(str, numbers))
        return self.guest.start(f"exec python3 /root/network_bulk.py {seconds} {words}")

    def shape(self, n: int, how: str) -> None:
        """Change what a link does, both ways."""
        self.guest.run(
            f"ip netns exec car{n} tc qdisc replace dev radio root {how} && "
            f"ip netns exec far tc qdisc replace dev down{n} root {how}"
        )

    def start(self, *numbers: int) -> None:
        """Start cars, and wait until the receiver has answered each."""
        words = " ".join(map(str, numbers))
        self._process = self.guest.start(f"exec python3 /root/network_car.py {FAR} {words}", on_output=self._hear)
        for n in numbers:
            self.until(n, lambda told: told["phase"] == "sending")

    def _hear(self, piece: bytes) -> None:
        *lines, self._begun = (self._begun + piece).split(b"\n")
        for line in lines:
            told = json.loads(line)
            self.told.setdefault(told["car"], []).append(told)

    def states(self, n: int) -> list[dict[str, Any]]:
        """Return the states that a car told, oldest first."""
        return [told for told in self.told.get(n, []) if "phase" in told]

    def until(self, n: int, condition: Callable[[dict[str, Any]], bool], limit_s: float = 600.0) -> dict[str, Any]:
        """Wait until `condition` holds of the newest state of a car, and return that; raise GuestError with it."""
        process = self._process
        assert process is not None

        def newest() -> dict[str, Any] | None:
            states = self.states(n)
            return states[-1] if states and condition(states[-1]) else None

        found: list[dict[str, Any] | None] = []
        process.until(lambda: process.code is not None or bool(found.append(newest()) or found[-1]), limit_s)
        if not found or found[-1] is None:
            said = self.told.get(n, [])[-5:]
            raise GuestError(f"car {n} never came to it: {said}\n{bytes(process.err).decode()[-2000:]}")
        return found[-1]

    def say(self, n: int, line: str) -> float:
        """Have a car do something; return when it was done."""
        assert self._process is not None
        before = len(self._done(n))
        self._process.write(f"{n} {line}\n".encode())
        if not self._process.until(lambda: len(self._done(n)) > before, 120.0):
            raise GuestError(f"car {n} did not {line}")
        return float(self._done(n)[-1]["t"])

    def _done(self, n: int) -> list[dict[str, Any]]:
        return [told for told in self.told.get(n, []) if "did" in told]

    def heads(self, n: int) -> dict[str, int]:
        """Return the last sequence numbers that a car has written, by lane."""
        return dict(self._done(n)[-1]["heads"])

    def uptime(self) -> float:
        """Return the guest's time as cars tell it."""
        return float(self.guest.run("cat /proc/uptime").out.split()[0])

    def device(self, n: int) -> str:
        """Return a car's name."""
        return self.guest.run(f"cat {FAR}/car{n}/name").out

    def sent_bytes(self, n: int) -> int:
        """Return the bytes that a car's network card has sent."""
        said = json.loads(self.guest.run(f"ip -n car{n} -s -j link show radio").out)
        return int(said[0]["stats64"]["tx"]["bytes"])

    def control(self, n: int) -> str:
        """Return the congestion control of a car's connection."""
        told = self.guest.run(f"ip netns exec car{n} ss --tcp --info --no-header --oneline dport = 8883").out
        return told.split()[5]  # after state, two queues and two addresses

    def came(self, n: int) -> list[str]:
        """Return the topics below the car's own of all messages that the broker got from it, in order."""
        device = self.device(n)
        log = self.guest.run(f"grep -F 'Received PUBLISH from {device}' {FAR}/broker.log", check=False).out
        return re.findall(rf"'rw/v1/{device}/([^']+)'", log)

    def asked(self, question: str) -> list[list[str]]:
        """Return rows of the receiver's database."""
        said = self.guest.run(["sqlite3", "-readonly", "-separator", "\t", f"{FAR}/receiver.db", question]).out
        return [line.split("\t") for line in said.splitlines()]
