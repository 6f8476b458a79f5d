"""The bus of benchmarks/livecan.py: writes prepared packets to a descriptor, evenly spaced, for some seconds.

Arguments: descriptor, file of packets (4-byte length and bytes each), frames/s, seconds. Prints how many it sent.
"""

import os
import sys
import time


def main() -> None:
    """Send; a packet that does not fit is dropped here and counted apart, as a full bus would arbitrate it away."""
    fd, rate, seconds = int(sys.argv[1]), float(sys.argv[3]), float(sys.argv[4])
    with open(sys.argv[2], "rb") as file:
        raw = file.read()
    packets, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        packets.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    total, sent = round(rate * seconds), 0
    begin = time.perf_counter()
    while sent < total:
        due = min(int((time.perf_counter() - begin) * rate) + 1, total)
        while sent < due:
            os.write(fd, packets[sent % len(packets)])
            sent += 1
        time.sleep(max(begin + sent / rate - time.perf_counter(), 0.00005))
    print(sent)


if __name__ == "__main__":
    main()
