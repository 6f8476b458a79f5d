"""Tell in JSON for each picture of a CLIP: seconds since its first, and whether it is red.

Usage: redness.py CLIP
"""

import json
import sys

import av

told = []
with av.open(sys.argv[1]) as clip:
    for frame in clip.decode(video=0):
        red, green, blue = frame.to_ndarray(format="rgb24").reshape(-1, 3).mean(axis=0)
        told.append([float(frame.pts * frame.time_base), bool(red > 2 * max(green, blue))])
print(json.dumps(told))
