"""Write the candump log of a simulated drive, REPEATS times one after the other, and print its number of frames.

A process of its own: a parent that is large when it starts others would lend them its peak memory in the accounts.
"""

import sys
from pathlib import Path

from sim.drive import BUS, simulate
from sim.encode import candump_text


def main() -> None:
    """Write to the path named first, as often as named second."""
    drive = simulate("commute", 3, 25.0)
    repeats = int(sys.argv[2])
    with Path(sys.argv[1]).open("wb") as out:
        for i in range(repeats):
            out.write(candump_text(drive.frames, drive.utc_start_ns + i * round((drive.duration_s + 1) * 1e9), BUS))
    print(repeats * len(drive.frames.t))


if __name__ == "__main__":
    main()
