"""Which boot this is: the kernel's random name of it, which every process on the machine reads alike."""

from pathlib import Path
from typing import Final

from agent.errors import ConfigError

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def kernel_boot_id() -> str:
    """Return the kernel's random name of this boot, 32 hex digits."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip().replace("-", "")
    except OSError as e:
        raise ConfigError(f"{BOOT_ID}: cannot be read: {e.strerror}; is /proc mounted?") from e
