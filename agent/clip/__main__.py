"""`python -m agent.clip`: cut the clips of one incident, in a process of its own, for a codec may hang or crash.

Reads one JSON object on standard input: folder, video, boot, times (start, end, zero), cues, cameras. Writes clips,
posters, subtitles, and last `video.json`, which says what was found. Ends with 1 and one line where that is impossible.
"""

import json
import sys
from pathlib import Path

import av

from agent.clip.making import Wanted, make
from agent.errors import RoadwitnessError


def main() -> None:
    """Cut what standard input asks for."""
    asked = json.load(sys.stdin)
    from_ns, to_ns, t0_ns = map(int, asked["times"])
    cues = tuple((int(t_ns), text) for t_ns, text in asked["cues"])
    folder, video, chosen = Path(asked["folder"]), Path(asked["video"]), tuple(asked["cameras"])
    wanted = Wanted(folder, video, asked["boot"], from_ns, to_ns, t0_ns, cues, chosen)
    try:
        make(wanted)
    except (OSError, av.error.FFmpegError, RoadwitnessError) as e:
        sys.exit(f"{wanted.folder}: cut the clip: {e}")


if __name__ == "__main__":
    main()
