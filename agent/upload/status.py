"""How far the files are, for `status`, tests and people."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """How far the files are; bytes are of their contents."""

    packages: int = 0  # that the receiver does not hold whole
    files: int = 0  # of those packages, not whole there
    bytes: int = 0  # of those files
    held: int = 0  # of these bytes the receiver holds so many
    sent: int = 0  # since the start
    again: int = 0  # of those sent, sent before
    overdue: int = 0  # times that answers stayed away
    reason: str = ""  # why nothing moves, where something is in the way
