"""Many lives of the real receiver: one command a line (JSON) on standard input, one answer a line on standard output.

`start` (url, broker, wait) forks a receiver and answers its pid, with `wait` once it is connected; `kill` (pid,
after_s) ends one with SIGKILL. Everything is imported before the first life, so that a start costs no imports.
"""

import json
import os
import signal
import sys
import threading
from typing import Any

from agent import clock
from agent.link import BrokerSettings
from receiver import db
from receiver.mqtt import Reception

CONNECT_S = 30.0


def live(url: str, broker: str, tell: int) -> None:
    reception = Reception(db.open_database(url), BrokerSettings(url=broker, in_flight=64))
    reception.start()
    if reception.connected.wait(CONNECT_S):
        os.write(tell, b"c")
    reception.join()


def start(url: str, broker: str, wait: bool) -> int:
    hear, tell = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(hear)
        try:
            live(url, broker, tell)
        finally:
            os._exit(1)
    os.close(tell)
    if wait:
        os.read(hear, 1)
    os.close(hear)
    return pid


def kill(pid: int, after_s: float) -> int:
    clock.wait(threading.Event(), after_s)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def answer(do: str, **given: Any) -> int:
    return start(**given) if do == "start" else kill(**given)


def main() -> None:
    db.load_tables()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    lives = set()
    try:
        for line in sys.stdin:
            given = json.loads(line)
            said = answer(**given)
            if given["do"] == "start":
                lives.add(said)
            else:
                lives.discard(given["pid"])
            print(said, flush=True)
    finally:
        for pid in lives:
            kill(pid, 0.0)


if __name__ == "__main__":
    main()
