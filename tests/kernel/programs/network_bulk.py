"""Plain TCP beside the cars: a stream for each car and each congestion control, over a link of its own like the car's.

Arguments: seconds and the cars' numbers. A stream of car N by control I goes to 10.{8 + I}.N.1 and sends as much as TCP
takes; a JSON line tells the bytes a second that came, from the first on.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

from agent.clock import NS_PER_S, monotonic_ns
from agent.tcp import CONGESTION

CLONE_NEWNET = 0x40000000
PORT = 9000


def enter(space: str) -> None:
    with open(f"/run/netns/{space}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def count(server: socket.socket, car: int, control: str) -> None:
    connection, _ = server.accept()
    got = len(connection.recv(1 << 16))
    began_ns = now_ns = monotonic_ns()
    first, ends_ns = got, began_ns + seconds * NS_PER_S
    while (now_ns := monotonic_ns()) < ends_ns:
        connection.settimeout((ends_ns - now_ns) / NS_PER_S)
        try:
            got += len(connection.recv(1 << 16))
        except TimeoutError:
            break
    print(json.dumps({"car": car, "control": control, "bytes_s": (got - first) / seconds}), flush=True)
    connection.close()


def stream(car: int, control: str, address: str) -> None:
    enter(f"car{car}")
    with socket.socket() as connection, suppress(ConnectionError):  # at the end
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
        connection.connect((address, PORT))
        while True:
            connection.sendall(bytes(1 << 16))


seconds, cars = int(sys.argv[1]), [int(word) for word in sys.argv[2:]]
streams = [(car, control, f"10.{8 + i}.{car}.1") for car in cars for i, control in enumerate(CONGESTION)]
started = []
enter("far")
servers = [socket.create_server((address, PORT)) for _, _, address in streams]
for which in streams:
    process = os.fork()
    if process == 0:
        for server in servers:
            server.close()
        stream(*which)
        os._exit(0)
    started.append(process)
counting = [
    threading.Thread(target=count, args=(server, *which[:2])) for server, which in zip(servers, streams, strict=True)
]
for thread in counting:
    thread.start()
for thread in counting:
    thread.join()
for process in started:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
