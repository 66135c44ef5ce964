"""Opens and decodes one image file, as timm does. Nothing else of this package opens one."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, features

if TYPE_CHECKING:  # the report's thumbnails are made without torch
    from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "QOI", "SGI", "PCX", "TGA")
"""Pillow's names of what may be opened. Not all that it knows: EPS would start Ghostscript on what the file says."""
WITHOUT_A_DECODER = {"JPEG2000": "jpg_2000"}
"""Formats that Pillow opens and then can't decode where its build lacks this feature."""
MAX_ASPECT = 1000
"""Times as long as wide: scaled to a model's size, a longer image would take gigabytes."""
ROWS_AT_ONCE = 256
"""Of a 16-bit image, which takes four times its memory in the sum that rounds it."""
WHITE_OF_16_BITS = 65535


class UnreadableImageError(Exception):
    """An image that can't be decoded; its text says why."""


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of the formats that the installed Pillow decodes."""
    Image.init()
    # AVIF and WebP are registered in any case, to say why they don't open; only what decodes can be saved.
    lacking = {name for name in ("AVIF", "WEBP") if name not in Image.SAVE}
    lacking |= {name for name, feature in WITHOUT_A_DECODER.items() if not features.check(feature)}
    return tuple(name for name in FORMATS if name in Image.OPEN and name not in lacking)


@functools.cache
def suffixes() -> frozenset[str]:
    """How the names of such images end, in lower case."""
    taken = {*formats(), "MPO"}  # what cameras call .mpo is JPEG with more pictures behind the first
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in taken)


def open_image(file: Path) -> Image.Image:
    """Opens an image of one of the formats; what it holds is not decoded yet.

    Raises:
        UnreadableImageError: If it is no regular file: a pipe would be waited for.
        Exception: Whatever Pillow raises for a file that is no such image.
    """
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise UnreadableImageError(f"{file}: no regular file")
    return Image.open(file, formats=formats())


def read_pixels(file: Path, transform: Callable[[Image.Image], Tensor]) -> Tensor:
    """Decodes and transforms an image.

    Args:
        file: The image.
        transform: timm's evaluation transform.

    Returns:
        What a model sees, shape (3, H, W).

    Raises:
        UnreadableImageError: If the file can't be decoded, or the transform can't take it.
    """
    image = read_image(file)
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise UnreadableImageError(f"{file}: {image.size} pixels are more than {MAX_ASPECT} times as long as wide")
    try:
        return transform(image)
    except Exception as error:  # whatever the libraries below raise for an odd image, the study goes on
        raise UnreadableImageError(f"{file}: {type(error).__name__}: {error}") from error


def read_image(file: Path) -> Image.Image:
    """Decodes the first frame as 8-bit RGB; EXIF orientation is not applied.

    Sixteen-bit grey images are scaled to 8 bits first: Pillow alone would saturate them to white.

    Raises:
        UnreadableImageError: If the file is corrupt, truncated, too large to be decoded safely, of no format that is
            opened here, or has pixels of which nobody says what is white.
    """
    try:
        with open_image(file) as image:
            return to_8_bits(image).convert("RGB")
    except UnreadableImageError:
        raise
    # A decoder fed with damaged data raises nearly anything: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise UnreadableImageError(f"{file}: {type(error).__name__}: {error}") from error


def to_8_bits(image: Image.Image) -> Image.Image:
    """Scales sixteen-bit grey to eight: 0 stays black, 65535 becomes white; an image of 8 bits is left as it is.

    Raises:
        ValueError: If its pixels are floats, or whole numbers beyond 16 bits: files don't say what is black in them and
            what white, and a guess would make all images of a folder black, or all white.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floats, and nothing says which is white: convert it to 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    grey = Image.new("L", image.size)
    for top in range(0, image.height, ROWS_AT_ONCE):
        rows = image.crop((0, top, image.width, min(top + ROWS_AT_ONCE, image.height)))
        values = np.asarray(rows).astype(np.int64)
        if values.min() < 0 or values.max() > WHITE_OF_16_BITS:
            raise ValueError(
                f"its pixels go from {values.min()} to {values.max()}, more than 16 bits, and nothing says which is"
                " white: convert it to 8 or 16 bits"
            )
        grey.paste(Image.fromarray(((values + 128) // 257).astype(np.uint8)), (0, top))
    return grey
