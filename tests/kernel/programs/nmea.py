"""A satellite receiver on a pty behind the real gpsd: without a fix until a line comes on standard input.

Usage: nmea.py UTC SPEED   what the satellites' clock says when this starts, seconds since 1970
Tells `monotonic` at that moment as JSON, then `gpsd runs`. SPEED is a file with the car's speed in m/s.
"""

import functools
import json
import os
import pty
import select
import subprocess
import sys
import time
import tty

LATITUDE, LONGITUDE = "5213.5000,N", 21.0  # degrees east; the car goes east from there
METRES_A_DEGREE = 68_000.0  # of longitude, at this latitude
KNOT_MPS = 1852 / 3600


def sentence(body):
    """Frame an NMEA 0183 sentence with its checksum."""
    return f"${body}*{functools.reduce(lambda sum_, c: sum_ ^ ord(c), body, 0):02X}\r\n".encode()


def report(utc, fix, speed, metres):
    """What a receiver says once a second: position, satellites, speed and date; nothing but its state without a fix."""
    clock, date = time.strftime("%H%M%S.00", time.gmtime(utc)), time.strftime("%d%m%y", time.gmtime(utc))
    if not fix:
        return sentence("GPGGA,,,,,,0,00,,,M,,M,,") + sentence("GPRMC,,V,,,,,,,,,,N")
    east = LONGITUDE + metres / METRES_A_DEGREE
    place = f"{LATITUDE},{int(east):03d}{east % 1 * 60:07.4f},E"
    return (
        sentence(f"GPGGA,{clock},{place},1,09,0.9,110.0,M,34.0,M,,")
        + sentence("GPGSA,A,3,01,02,03,04,05,06,07,08,09,,,,1.5,0.9,1.2")
        + sentence(f"GPRMC,{clock},A,{place},{speed / KNOT_MPS:.1f},090.0,{date},,,A")
    )


def speed_now(path):
    with open(path) as told:
        return float(told.read() or 0.0)


master, slave = pty.openpty()
tty.setraw(master)
tty.setraw(slave)
begins, utc0 = time.monotonic(), float(sys.argv[1])
print(json.dumps({"monotonic": begins}), flush=True)
gpsd = subprocess.Popen(["gpsd", "-N", "-n", os.ttyname(slave)])
print("gpsd runs", flush=True)
fix, told, metres = False, 0, 0.0
while gpsd.poll() is None:
    now = time.monotonic() - begins
    if int(now) > told:  # on the full second, as receivers speak
        told = int(now)
        speed = speed_now(sys.argv[2])
        metres += speed
        os.write(master, report(utc0 + told, fix, speed, metres))
    ready = select.select([sys.stdin, master], [], [], 1.0 - now % 1.0)[0]
    if master in ready:
        os.read(master, 4096)  # what gpsd asks of receivers that this is not
    if not fix and sys.stdin in ready:
        fix = bool(sys.stdin.readline())
