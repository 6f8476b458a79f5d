"""What a file system keeps over a power cut: names are durable only once their folder has been synced."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable; raise OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
