"""Lay the kernels' machine code of the working tree where the installed package looks for it (numba.core.caching).

Usage: lay_kernels.py TREE SITE-PACKAGES HOME
"""

import hashlib
import shutil
import sys
from pathlib import Path

tree, site, home = (Path(word) for word in sys.argv[1:])
for cache in tree.rglob("__pycache__"):
    code = list(cache.glob("*.nb[ic]"))
    folder = site / cache.parent.relative_to(tree)
    if code and folder.is_dir():
        place = home / ".cache/numba" / f"{folder.name}_{hashlib.sha1(str(folder).encode()).hexdigest()}"
        place.mkdir(parents=True, exist_ok=True)
        for path in code:
            shutil.copy(path, place)
