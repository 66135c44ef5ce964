"""Writes scikit-learn's handwritten digits as image files."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

DIGITS = 1797


def write_digits(folder: Path, first: int, end: int) -> None:
    """Writes some of the 1,797 digits as 8 x 8 PNG files `DIGIT/NNNN.png`.

    The source is the test part of the UCI optical recognition set (Alpaydin and Kaynak, 1998), of values from 0 to 16.

    Args:
        folder: Gets a class folder for each digit.
        first: Of the images, from 0.
        end: One after the last of them.
    """
    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for number in range(first, end):
        class_folder = folder / str(digits.target[number])
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey[number]).save(class_folder / f"{number:04}.png")
