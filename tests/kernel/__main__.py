"""By hand: `python -m tests.kernel build|boot ARCH`."""

import argparse
import sys
from pathlib import Path

from tests.kernel.errors import CannotBeHadError, GuestError
from tests.kernel.guest import MACHINES, Guest
from tests.kernel.image import image
from tests.kernel.product import disks


def main() -> int:
    """Build what is missing; for `boot`, run the lines of standard input in a guest until it ends."""
    asked = argparse.ArgumentParser(prog="python -m tests.kernel", description=main.__doc__)
    asked.add_argument("what", choices=("build", "boot"))
    asked.add_argument("arch", choices=tuple(MACHINES), nargs="?", default="amd64")
    asked.add_argument("--memory", type=int, default=1024, help="MiB")
    asked.add_argument("--icount", type=int, help="2^N ns of the guest's time for each instruction")
    asked.add_argument("--share", type=Path, help="a folder of the host, on /mnt/share")
    given = asked.parse_args()
    try:
        if given.what == "build":
            print(image(given.arch).folder, *disks(given.arch))
            return 0
        with Guest(given.arch, memory_mib=given.memory, icount=given.icount, share=given.share) as guest:
            print(f"runs commands after {guest.boot_s:.1f} s; its files are in {guest.folder}", file=sys.stderr)
            for line in sys.stdin:
                ended = guest.run(line, check=False, limit_s=86_400)
                print(ended.out, end="", flush=True)
                print(ended.err, end=f"[{ended.code}]\n" if ended.code else "", file=sys.stderr, flush=True)
    except (CannotBeHadError, GuestError) as trouble:
        print(f"tests.kernel: {trouble}", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
