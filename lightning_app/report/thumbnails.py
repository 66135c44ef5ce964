"""Small copies of the images, so that the page can be moved without them."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lightning_app.data.image import open_image, to_8_bits

MAX_THUMBNAILS = 2_000
"""Over the whole page, unless all are asked for: a page of a few megabytes can be mailed."""
EXTREMES = 24
"""The easiest of a study have one, and the hardest, and those of fewest and of most steps: so many of each."""
MAX_SIDE = 128
EXACT_SIDE = 64
"""Images no larger are kept bit by bit: JPEG would blur the few pixels they have."""


def choose(frames: Sequence[pd.DataFrame], everything: bool, seed: int) -> list[tuple[int, int]]:
    """Which examples get a thumbnail: the extremes of each study, then a random sample.

    Args:
        frames: The examples of the page's studies.
        everything: Whether all get one.
        seed: Of the sample.

    Returns:
        Places of studies with positions of examples, ascending.
    """
    places = [(number, position) for number, frame in enumerate(frames) for position in range(len(frame))]
    if everything or len(places) <= MAX_THUMBNAILS:
        return places
    each = min(EXTREMES, MAX_THUMBNAILS // (8 * len(frames)))  # half of the room stays for the sample
    chosen = {(number, position) for number, frame in enumerate(frames) for position in _extremes(frame, each)}
    others = [place for place in places if place not in chosen]
    sample = np.random.default_rng(seed).choice(len(others), MAX_THUMBNAILS - len(chosen), replace=False)
    return sorted(chosen | {others[i] for i in sample})


def _extremes(frame: pd.DataFrame, each: int) -> set[int]:
    if each == 0:
        return set()
    chosen: set[int] = set()
    for column in ("universal_difficulty_rank", "steps"):
        order = np.argsort(frame[column].to_numpy(dtype=np.float64), kind="stable").tolist()
        chosen.update(order[:each], order[-each:])
    return chosen


def thumbnail(image_file: Path) -> tuple[str, bytes] | None:
    """A small copy of an image's first frame: `png` or `jpeg`, and a file's bytes; None where it can't be read.

    Args:
        image_file: The image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_image(image_file) as image:
                image.draft("RGB", (2 * MAX_SIDE, 2 * MAX_SIDE))  # a JPEG is decoded smaller, many times faster
                # Grey stays grey until it is small, since RGB takes four times the memory.
                small = to_8_bits(image) if image.mode[0] in "IF" else image.convert("RGB")
        kind = "png" if max(small.size) <= EXACT_SIDE else "jpeg"
        small.thumbnail((MAX_SIDE, MAX_SIDE))
        small = small.convert("RGB")
        small.info.clear()  # comments and colour profiles are not ours to hand on
        buffer = io.BytesIO()
        small.save(buffer, kind, quality=80)
    # A decoder fed with damaged data raises nearly anything: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception:
        return None
    return kind, buffer.getvalue()
