"""The labels of ImageNet's validation images where these lie in one folder: a list beside them has them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.io import loadmat

from lightning_app.data.labels import WORDNET_ID
from lightning_app.data.ranking import read_text, split_lines
from lightning_app.errors import BadInputError

META = "meta.mat"
KAGGLES_HEADER = "ImageId,PredictionString"
KAGGLES_ROW = re.compile(r"([^,]+),(n\d{8})\b")
IMAGE_NUMBER = re.compile(r"_(\d{8})\.\w+$")


def read_ground_truth(file: Path, paths: Iterable[str]) -> dict[str, str]:
    """Finds each image's WordNet id in the dataset's list.

    Args:
        file: The devkit's list of numbers (ILSVRC2012_validation_ground_truth.txt), with the devkit's meta.mat beside
            it, which says what they mean; or a list of WordNet ids: line n is the image whose name ends with n. Or
            Kaggle's table (LOC_val_solution.csv), which has each image's name, and its boxes behind their WordNet id.
        paths: Of the images, such as ILSVRC2012_val_00000001.JPEG.

    Returns:
        WordNet ids by path.

    Raises:
        BadInputError: If the list can't be read, or an image is not in it.
    """
    lines = split_lines(read_text(file, "ground_truth"))
    if lines[:1] == [KAGGLES_HEADER]:
        return _by_name(lines[1:], file, paths)
    if all(WORDNET_ID.fullmatch(line.strip()) for line in lines):
        ids = [line.strip() for line in lines]
    elif all(line.strip().isascii() and line.strip().isdigit() for line in lines):
        ids = _translated([int(line) for line in lines], file)
    else:
        raise BadInputError(
            f"--ground_truth {file} must hold a number or a WordNet id (n and 8 digits) a line, as"
            " ILSVRC2012_validation_ground_truth.txt does"
        )
    found: dict[str, str] = {}
    for path in paths:
        number = IMAGE_NUMBER.search(path)
        if number is None or not 1 <= int(number[1]) <= len(ids):
            raise BadInputError(
                f"--ground_truth {file} has {len(ids)} lines, and {path!r} is none of them: expected names such as"
                " ILSVRC2012_val_00000001.JPEG, whose number is the line"
            )
        found[path] = ids[int(number[1]) - 1]
    return found


def _by_name(lines: Sequence[str], file: Path, paths: Iterable[str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for number, line in enumerate(lines, start=2):
        row = KAGGLES_ROW.match(line)
        if row is None:
            expected = "an image's name, and its boxes behind their WordNet id"
            raise BadInputError(f"--ground_truth {file} line {number} must be {expected}, got {line[:80]!r}")
        known[row[1]] = row[2]
    found: dict[str, str] = {}
    for path in paths:
        name = PurePosixPath(path).stem
        if name not in known:
            raise BadInputError(f"--ground_truth {file} has no image {name!r}, such as {path!r}")
        found[path] = known[name]
    return found


def _translated(numbers: list[int], file: Path) -> list[str]:
    meta = file.with_name(META)
    if not meta.is_file():
        raise BadInputError(
            f"--ground_truth {file} holds the devkit's own numbers, and there is no {meta}, which says what they mean:"
            f" put the devkit's {META} beside it"
        )
    try:
        synsets = np.atleast_1d(loadmat(meta, squeeze_me=True)["synsets"])
        known = {int(n): str(i) for n, i in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)}
    except Exception as error:  # scipy raises nearly anything for a file of another kind
        raise BadInputError(f"--ground_truth: {meta} is not the devkit's: {error}") from None
    unknown = next((n for n in numbers if n not in known), None)
    if unknown is not None:
        raise BadInputError(f"--ground_truth {file} holds {unknown}, which is no ILSVRC2012_ID of {meta}")
    return [known[n] for n in numbers]
