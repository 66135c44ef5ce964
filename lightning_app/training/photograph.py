"""Decodes one image file, as timm does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # the report's thumbnails are made without torch
    from torch import Tensor

LONGEST = 1000
"""Times as long as wide: scaled to a model's size, a longer image would take gigabytes."""
ROWS_AT_ONCE = 256
"""Of a 16-bit image, which takes four times its memory in the sum that rounds it."""


class UnreadableImageError(Exception):
    """An image that can't be decoded; its text says why."""


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
    photograph = read_photograph(file)
    if max(photograph.size) > LONGEST * min(photograph.size):
        raise UnreadableImageError(f"{file}: {photograph.size} pixels are more than {LONGEST} times as long as wide")
    try:
        return transform(photograph)
    except Exception as error:  # whatever the libraries below raise for an odd image, the study goes on
        raise UnreadableImageError(f"{file}: {type(error).__name__}: {error}") from error


def read_photograph(file: Path) -> Image.Image:
    """Decodes the first frame as 8-bit RGB; EXIF orientation is not applied.

    Sixteen-bit grey images are scaled to 8 bits first: Pillow alone would saturate them to white.

    Raises:
        UnreadableImageError: If the file is corrupt, truncated, too large to be decoded safely, or no image.
    """
    try:
        with Image.open(file) as image:
            return to_8_bits(image).convert("RGB")
    # A decoder fed with damaged data raises nearly anything: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise UnreadableImageError(f"{file}: {type(error).__name__}: {error}") from error


def to_8_bits(image: Image.Image) -> Image.Image:
    """Scales sixteen-bit grey to eight; any other image is left as it is."""
    if not image.mode.startswith("I"):
        return image
    grey = Image.new("L", image.size)
    for top in range(0, image.height, ROWS_AT_ONCE):
        rows = image.crop((0, top, image.width, min(top + ROWS_AT_ONCE, image.height)))
        values = np.clip(np.asarray(rows).astype(np.int64), 0, 65535)
        grey.paste(Image.fromarray(((values + 128) // 257).astype(np.uint8)), (0, top))
    return grey
