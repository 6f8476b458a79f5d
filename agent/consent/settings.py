"""Where the owner's consent is recorded, as far as no receiver has told it: on a sheet of paper, or nowhere."""

from dataclasses import dataclass
from typing import Final

PURPOSES: Final = ("recording", "video", "clip", "track")  # what a device does; a receiver knows others beside


@dataclass(frozen=True, slots=True)
class ConsentSettings:
    """What counts until a trusted receiver's first word; from then on the newest word counts alone."""

    # Where the paper is, e.g. "sheet 4711 of 2026-11-01"; "": nobody has agreed, and nothing but health is kept.
    sheet: str = ""
    purposes: tuple[str, ...] = ("recording", "video")  # that the sheet covers; clip, track: on request

    def __post_init__(self) -> None:
        """Refuse purposes that a device does not have, and ones without what they rest on."""
        unknown = sorted(set(self.purposes) - set(PURPOSES))
        if unknown:
            raise ValueError(f"purposes: {', '.join(unknown)} is none of {', '.join(PURPOSES)}")
        if len(self.sheet) > 200:
            raise ValueError("sheet: must not be longer than 200 characters")
