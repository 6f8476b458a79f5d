"""What a file system keeps over a power cut: names are durable only once their folder has been synced."""

import os
from pathlib import Path


def replace_whole(path: Path, data: bytes) -> None:
    """Write a file, readable for all, that is the old or the new one after a power cut; raise OSError."""
    partial = path.with_name(f".{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.chmod(0o644)
    os.replace(partial, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable; raise OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
