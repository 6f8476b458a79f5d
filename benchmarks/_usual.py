"""The usual script: python-can's log reader and cantools, every known frame decoded, nothing else done with it."""

import sys

import can
import cantools


def main() -> None:
    """Decode LOG (argument 1) with DBC (argument 2) and print how many signals came out."""
    database = cantools.database.load_file(sys.argv[2], strict=False)
    known = {m.frame_id for m in database.messages}
    signals = 0
    with can.LogReader(sys.argv[1]) as reader:
        for message in reader:
            if message.arbitration_id in known:
                signals += len(
                    database.decode_message(
                        message.arbitration_id, message.data, decode_choices=False, allow_truncated=True
                    )
                )
    print(signals)


if __name__ == "__main__":
    main()
