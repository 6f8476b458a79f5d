"""Attributes of the kernel's sysfs: small text files that may vanish with their device at any time."""

import math
from pathlib import Path

from agent.errors import DriverError


def read_text(name: str, path: Path) -> str:
    """Return an attribute's text, stripped; raise DriverError that names the driver `name` and the file."""
    try:
        return path.read_bytes()[:4096].decode("ascii", "replace").strip("\0 \t\r\n")
    except OSError as error:
        raise DriverError(f"{name}: read {path}: {error.strerror or error}; is the device still there?") from None


def read_number(name: str, path: Path) -> float:
    """Return an attribute that is one finite number; raise DriverError where it is none."""
    text = read_text(name, path)
    value = number_of(text)
    if value is None:
        raise DriverError(f"{name}: read {path}: '{text[:40]}' is no number")
    return value


def try_text(path: Path) -> str | None:
    """Return an attribute's text, None where it does not exist or cannot be read now."""
    try:
        return read_text("", path)
    except DriverError:
        return None


def try_number(path: Path) -> float | None:
    """Return an attribute's number, None where there is none."""
    text = try_text(path)
    return None if text is None else number_of(text)


def write(name: str, path: Path, value: str) -> None:
    """Write an attribute; raise DriverError with the kernel's reason."""
    try:
        with path.open("w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        advice = "; may this user write it?" if isinstance(error, PermissionError) else ""
        raise DriverError(f"{name}: write '{value}' to {path}: {error.strerror or error}{advice}") from None


def number_of(text: str) -> float | None:
    """Return the finite decimal number that `text` is, None when it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
