#!/usr/bin/python3
"""The bench's hand in the guest: runs the commands that come over a virtio-serial port, any number at once.

Usage: hand.py PORT. One line is one JSON message. From the host:
  {"sync": N}                                     forget what was before, end what still runs
  {"id": I, "run": [...], "env": {...}, "cwd": "..."}
  {"id": I, "in": base64}   {"id": I, "eof": 1}   {"id": I, "signal": N}
To the host:
  {"synced": N, "boot": "..."}   {"id": I, "out" | "err": base64}   {"id": I, "code": N}
"""

import base64
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys

PIECE = 48 << 10
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Running:
    """One command: its process, and what still waits to become its input."""

    def __init__(self, number, message):
        self.number = number
        self.waiting = bytearray()
        self.eof = False
        env = {"HOME": "/root", "TERM": "dumb", "LC_ALL": "C.UTF-8", "PATH": PATH, **message.get("env", {})}
        self.process = subprocess.Popen(
            message["run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=env,
            cwd=message.get("cwd") or "/root",
            start_new_session=True,
        )
        self.ended = os.pidfd_open(self.process.pid)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            os.set_blocking(pipe.fileno(), False)


class Hand:
    """All commands of one host."""

    def __init__(self, port):
        self.port = port
        self.buffer = bytearray()
        self.running = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(port, selectors.EVENT_READ, self.hear)

    def work(self):
        while True:
            for key, _ in self.selector.select():
                if key.fd in self.selector.get_map():  # not closed by one before it
                    key.data()

    def say(self, message):
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self.port, line) :]

    def hear(self):
        came = os.read(self.port, 1 << 16)
        if not came:  # nobody listens on the host; systemd starts this anew
            sys.exit(1)
        self.buffer += came
        *lines, rest = self.buffer.split(b"\n")
        self.buffer = rest
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # the end of what was said to an earlier boot
            self.obey(message)

    def obey(self, message):
        if "sync" in message:
            for running in list(self.running.values()):
                self.signal(running, signal.SIGKILL)
            with open("/proc/sys/kernel/random/boot_id") as boot:
                self.say({"synced": message["sync"], "boot": boot.read().strip()})
        elif "run" in message:
            self.begin(message)
        elif (running := self.running.get(message.get("id"))) is not None:
            if "signal" in message:
                self.signal(running, message["signal"])
            else:
                running.waiting += base64.b64decode(message.get("in", ""))
                running.eof = running.eof or "eof" in message
                self.feed(running)

    def begin(self, message):
        number = message["id"]
        try:
            running = Running(number, message)
        except OSError as error:
            self.say({"id": number, "err": base64.b64encode(f"{error}\n".encode()).decode()})
            self.say({"id": number, "code": 127})
            return
        self.running[number] = running
        for name, pipe in (("out", running.process.stdout), ("err", running.process.stderr)):
            self.selector.register(pipe, selectors.EVENT_READ, lambda n=name, p=pipe: self.pass_on(running, n, p))
        self.selector.register(running.ended, selectors.EVENT_READ, lambda: self.end(running))

    def pass_on(self, running, name, pipe):
        """Send one piece of output; return whether there may be more."""
        try:
            piece = os.read(pipe.fileno(), PIECE)
        except BlockingIOError:
            return False
        if piece:
            self.say({"id": running.number, name: base64.b64encode(piece).decode()})
        else:
            self.selector.unregister(pipe)
        return bool(piece)

    def feed(self, running):
        pipe = running.process.stdin
        if pipe.closed:
            return
        try:
            while running.waiting:
                del running.waiting[: os.write(pipe.fileno(), running.waiting[:PIECE])]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            running.waiting.clear()
        listed = pipe in self.selector.get_map()
        if running.waiting and not listed:
            self.selector.register(pipe, selectors.EVENT_WRITE, lambda: self.feed(running))
        elif not running.waiting and listed:
            self.selector.unregister(pipe)
        if running.eof and not running.waiting:
            pipe.close()

    def end(self, running):
        """Tell how it ended; what it left behind keeps running without a listener."""
        del self.running[running.number]
        self.selector.unregister(running.ended)
        os.close(running.ended)
        process = running.process
        for name, pipe in (("out", process.stdout), ("err", process.stderr)):
            while pipe in self.selector.get_map() and self.pass_on(running, name, pipe):
                pass
            if pipe in self.selector.get_map():
                self.selector.unregister(pipe)
            pipe.close()
        if not process.stdin.closed:
            if process.stdin in self.selector.get_map():
                self.selector.unregister(process.stdin)
            process.stdin.close()
        self.say({"id": running.number, "code": process.wait()})

    @staticmethod
    def signal(running, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, number)


Hand(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)).work()
