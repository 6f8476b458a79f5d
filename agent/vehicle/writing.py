"""Write frames to a file as other tools read them: candump text of our own, BLF and ASC by python-can."""

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, Protocol

from agent.blocks import BIT_RATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, REMOTE, Frames
from agent.clock import NS_PER_S
from agent.errors import RecordingError


class Writer(Protocol):
    """An open file; `written` counts frames."""

    written: int

    def write(self, frames: Frames, buses: list[str], origin_ns: int) -> None:
        """Write a batch; `origin_ns` is the UTC of t = 0."""

    def flush(self) -> None:
        """Hand what was written to the disk."""

    @property
    def size(self) -> int:
        """Bytes so far."""

    def close(self) -> None:
        """End the file; may be called twice."""


class CandumpWriter:
    """`candump -L` text, one frame a line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = 0
        self.written = 0

    def write(self, frames: Frames, buses: list[str], origin_ns: int) -> None:
        lines = []
        rows = zip(*(c.tolist() for c in (frames.t, frames.bus, frames.id, frames.flags, frames.len)), strict=True)
        for (t, bus, identifier, flags, length), data in zip(rows, frames.data, strict=True):
            if flags & ERROR:
                continue
            us = (origin_ns + t) // 1000
            name = f"{identifier:08X}" if flags & EXTENDED else f"{identifier:03X}"
            if flags & REMOTE:
                text = f"#R{length or ''}"
            elif flags & FD:
                kind = bool(flags & BIT_RATE_SWITCH) + 2 * bool(flags & ERROR_STATE)
                text = f"##{kind}{data[:length].tobytes().hex().upper()}"
            else:
                text = f"#{data[:length].tobytes().hex().upper()}"
            lines.append(f"({us // 1_000_000}.{us % 1_000_000:06d}) {_bus(buses[bus])} {name}{text}\n")
        raw = "".join(lines).encode("ascii")
        self._file.write(raw)
        self._size += len(raw)
        self.written += len(lines)

    def flush(self) -> None:
        self._file.flush()

    @property
    def size(self) -> int:
        return self._size

    def close(self) -> None:
        self._file.close()


class PythonCanWriter:
    """A writer of python-can, one message at a time."""

    def __init__(self, file: IO[bytes], make: Callable[[Any], Any]) -> None:
        self._file = file
        self._path = Path(file.name)
        self._writer: Any = make(file)
        self.written = 0

    def write(self, frames: Frames, buses: list[str], origin_ns: int) -> None:
        import can

        rows = zip(*(c.tolist() for c in (frames.t, frames.bus, frames.id, frames.flags, frames.len)), strict=True)
        for (t, bus, identifier, flags, length), data in zip(rows, frames.data, strict=True):
            if flags & ERROR:
                continue
            self._writer.on_message_received(
                can.Message(
                    timestamp=(origin_ns + t) / NS_PER_S,
                    arbitration_id=identifier,
                    is_extended_id=bool(flags & EXTENDED),
                    is_remote_frame=bool(flags & REMOTE),
                    is_fd=bool(flags & FD),
                    bitrate_switch=bool(flags & BIT_RATE_SWITCH),
                    error_state_indicator=bool(flags & ERROR_STATE),
                    dlc=length,
                    data=None if flags & REMOTE else data[:length].tobytes(),
                    channel=bus,
                )
            )
            self.written += 1

    def flush(self) -> None:
        self._file.flush()

    @property
    def size(self) -> int:
        return self._path.stat().st_size

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.stop()


def _blf(file: IO[bytes]) -> Writer:
    from can.io import BLFWriter

    return PythonCanWriter(file, BLFWriter)


def _asc(file: IO[bytes]) -> Writer:
    import io

    from can.io import ASCWriter

    return PythonCanWriter(file, lambda raw: ASCWriter(io.TextIOWrapper(raw, "ascii", newline="\n")))


_FORMATS: Final[dict[str, Callable[[IO[bytes]], Writer]]] = {".log": CandumpWriter, ".blf": _blf, ".asc": _asc}


def create(path: Path) -> Writer:
    """Create `path`, whose ending says the format; RecordingError where it exists, cannot be made or is unknown."""
    made = _FORMATS.get(path.suffix.lower())
    if made is None:
        known = ", ".join(_FORMATS)
        raise RecordingError(f"{path}: the ending says no format that can be written; known are {known}")
    try:
        return made(path.open("xb"))
    except FileExistsError as error:
        raise RecordingError(f"{path}: exists already; name another file") from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot be written: {error.strerror}; check the folder") from error


def _bus(name: str) -> str:
    """Return a bus's name as one word of ASCII, as candump's readers need it."""
    return "".join(c if "!" <= c <= "~" else "_" for c in name) or "can0"
