"""Photos for a sheet: decoded and encoded anew, so that neither place nor camera nor anything hidden comes along."""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Final

from agent.errors import ConfigError
from agent.fitting.sheet import Photo

MOST: Final = 4
MOST_FILE: Final = 40 * 1024**2  # of a photo as it is given
MOST_PIXELS: Final = 80_000_000  # of a photo as it is given: larger than any phone's, smaller than this box's memory
SIDE: Final = 1280  # of the longer side in the sheet: plugs and labels can be read
QUALITY: Final = 78


def taken(path: Path, name: str = "") -> tuple[Photo, bytes]:
    """Return a photo for the sheet and its JPEG bytes; raise ConfigError naming the file where it is none."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        if path.stat().st_size > MOST_FILE:
            raise ConfigError(f"photo {path}: is larger than {MOST_FILE // 1024**2} MB; take it smaller")
        with Image.open(path, formats=("JPEG", "PNG", "WEBP")) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ConfigError(f"photo {path}: has more than {MOST_PIXELS // 1_000_000} million pixels")
            # only pixels go on: a picture that was stored lying down is turned by what its data say of that
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except FileNotFoundError as e:
        raise ConfigError(f"photo {path}: no such file") from e
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise ConfigError(f"photo {path}: cannot be read as JPEG, PNG or WebP: {e}") from e
    image.thumbnail((SIDE, SIDE))
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    file = BytesIO()
    clean.save(file, "JPEG", quality=QUALITY, optimize=True)
    data = file.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    return Photo(name=(name or path.stem)[:100], sha256=digest, width=image.width, height=image.height), data
