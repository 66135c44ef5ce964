"""Gives every image its class index, by the first rule that applies; ImageNet's own list is one of them."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.io import loadmat

from lightning_app.data.images import has_image, is_foreign
from lightning_app.data.ranking import RankedPath, read_text, split_lines
from lightning_app.errors import BadInputError
from lightning_app.files import OutsideError, json_as

log = logging.getLogger("lightning_app")

BY_MAPPING = "class_to_idx and the class folder"
BY_GROUND_TRUTH = "WordNet ids of the ground truth"
BY_LABEL_NAMES = "the model's own label names"
BY_NUMBER = "the numbers that the class folders are called"
BY_ORDER = "class folders in natural order"
WORDNET_ID = re.compile(r"(?<![0-9A-Za-z])n\d{8}(?!\d)")

MIN_FOR_ACCURACY = 5
"""Below this many answers an accuracy says nothing about the labels."""
MIN_DOUBTFUL = 2
"""Classes: an order that is wrong is wrong for two or more."""
MAX_NAMED = 5


@dataclass(frozen=True)
class Classes:
    """What labels may be: the classes of one model.

    Args:
        count: Number of classes.
        subset: The ImageNet subset they are, or None.
        wordnet_ids: That subset's ids, in class order; empty without one.
        label_names: What the model's own configuration calls them, in class order; empty where it doesn't say.
    """

    count: int
    subset: str | None = None
    wordnet_ids: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """The labels of a set of images.

    Args:
        rule: The rule that gave them, in words; part of a study's identity.
        of: Class index by path.
        remarks: What the user should know of how the rule was applied.
    """

    rule: str
    of: dict[str, int]
    remarks: tuple[str, ...] = ()

    def log_remarks(self) -> None:
        """Says them."""
        for remark in self.remarks:
            log.warning("%s", remark)


def find_labels(
    paths: Sequence[RankedPath],
    files: Mapping[str, Path],
    class_to_idx: Path | None,
    classes: Classes,
    ground_truth: Mapping[str, str] | None = None,
) -> Labels:
    """Labels every path that has a file.

    The first of these that applies: the ranking's label column; `--class_to_idx`; `--ground_truth`; the model's own
    label names, where every class folder is one of them; WordNet ids in the paths, for a model of an ImageNet subset;
    class folders that are all whole numbers below the number of classes; class folders in natural order.

    Args:
        paths: Ranked paths.
        files: Their files; paths without one are passed over.
        class_to_idx: The JSON file of `--class_to_idx`, or None.
        classes: The model's.
        ground_truth: The WordNet id of every path, where a list of the dataset has them, else None.

    Raises:
        BadInputError: If a label is missing or outside the model's classes, or folders and classes don't fit.
    """
    there = [entry for entry in paths if entry.path in files]
    if any(entry.label is not None for entry in there):
        labels = Labels("the ranking's label column", {e.path: e.label for e in there if e.label is not None})
    elif class_to_idx is not None:
        labels = _by_mapping(there, files, class_to_idx)
    elif ground_truth is not None:
        labels = _by_ground_truth(there, ground_truth, classes)
    else:
        labels = _by_path(there, files, classes)
    for path, label in labels.of.items():
        if not 0 <= label < classes.count:
            raise BadInputError(
                f"the label of {path!r} is {label} by {labels.rule}, but the model has {classes.count} classes"
                f" (0 to {classes.count - 1})"
            )
    return labels


def _by_mapping(paths: Sequence[RankedPath], files: Mapping[str, Path], file: Path) -> Labels:
    try:
        mapping = json_as(dict[str, int], read_text(file, "class_to_idx"))
    except OutsideError as error:
        raise BadInputError(
            f'--class_to_idx {file} must be {{"class folder": class index, ...}} in JSON: {error}'
        ) from None
    of: dict[str, int] = {}
    for entry in paths:
        folder = _class_folder(files[entry.path]).name
        if folder not in mapping:
            raise BadInputError(f"--class_to_idx {file} has no {folder!r}, the class folder of {entry.path!r}")
        of[entry.path] = mapping[folder]
    return Labels(BY_MAPPING, of)


def _by_ground_truth(paths: Sequence[RankedPath], ids: Mapping[str, str], classes: Classes) -> Labels:
    if classes.wordnet_ids:
        names, where = classes.wordnet_ids, f"in {classes.subset}"
    else:
        names, where = tuple(sorted({ids[entry.path] for entry in paths})), "among the ids of these images"
        if len(names) != classes.count:
            raise BadInputError(
                f"--ground_truth names {len(names)} classes for these images, but the model has {classes.count} classes"
            )
    index = {name: i for i, name in enumerate(names)}
    for entry in paths:
        if ids[entry.path] not in index:
            raise BadInputError(
                f"--ground_truth: {entry.path!r} is {ids[entry.path]}, which is not {where}, the model's classes"
            )
    return Labels(BY_GROUND_TRUTH, {entry.path: index[ids[entry.path]] for entry in paths})


def _by_path(paths: Sequence[RankedPath], files: Mapping[str, Path], classes: Classes) -> Labels:
    folder_of = {entry.path: _class_folder(files[entry.path]) for entry in paths}
    names = {folder.name for folder in folder_of.values()}
    siblings = {parent: _class_folders(parent) for parent in {folder.parent for folder in folder_of.values()}}

    def are_all(fit: Callable[[str], bool]) -> bool:
        """Whether all class folders fit, whichever of them the images that are asked about lie in."""
        return all(map(fit, names)) and all(
            fit(name) or name in names or not has_image(parent / name)
            for parent, found in siblings.items()
            for name in found
        )

    known = {*classes.label_names}
    if known and are_all(known.__contains__):
        index = _index_of_label_names(names, classes.label_names)
        return Labels(BY_LABEL_NAMES, {path: index[folder.name] for path, folder in folder_of.items()})
    if classes.wordnet_ids and any(WORDNET_ID.search(entry.path) for entry in paths):
        return _by_wordnet_id(paths, classes)
    for path, folder in folder_of.items():
        if folder.name not in siblings[folder.parent]:
            raise BadInputError(
                f"the class folder of {path!r}, {folder}, is hidden or a file manager's: give --class_to_idx"
            )
    too_large = any(_is_number(name) and not _is_index(name, classes) for found in siblings.values() for name in found)
    if not too_large and are_all(lambda name: _is_index(name, classes)):
        return _by_number(folder_of, siblings)
    return _by_order(folder_of, siblings, classes)


def _class_folder(file: Path) -> Path:
    return file.absolute().parent


def _class_folders(parent: Path) -> list[str]:
    """The folders beside an image's own, in natural order."""
    try:
        return sorted((f.name for f in parent.iterdir() if f.is_dir() and not is_foreign(f.name)), key=natural_key)
    except OSError as error:
        raise BadInputError(
            f"{parent} can't be read ({error.strerror}), so its class folders can't be numbered: give --class_to_idx"
        ) from None


def natural_key(name: str) -> tuple[list[str | int], str]:
    """The key of timm's order of class folders: numbers by value, capitals as small letters; then the name itself."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _index_of_label_names(names: Iterable[str], label_names: Sequence[str]) -> dict[str, int]:
    twice = sorted(name for name in names if label_names.count(name) > 1)
    if twice:
        raise BadInputError(
            f"the class folder {twice[0]} is the label name of {label_names.count(twice[0])} of the model's classes:"
            " give --class_to_idx"
        )
    return {name: index for index, name in enumerate(label_names)}


def _by_wordnet_id(paths: Sequence[RankedPath], classes: Classes) -> Labels:
    index = {wordnet_id: i for i, wordnet_id in enumerate(classes.wordnet_ids)}
    of: dict[str, int] = {}
    for entry in paths:
        found = WORDNET_ID.findall(entry.path)
        if not found or found[-1] not in index:
            what = f"the WordNet id {found[-1]}, which is not in {classes.subset}" if found else "no WordNet id"
            raise BadInputError(
                f"{entry.path!r} has {what}; expected one in every path, or --class_to_idx, or (to run) a ranking with"
                " a label column"
            )
        of[entry.path] = index[found[-1]]
    return Labels(f"WordNet ids of {classes.subset}", of)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _is_index(name: str, classes: Classes) -> bool:
    """Whether a folder is called by a whole number below the number of classes."""
    return _is_number(name) and len(name.lstrip("0")) <= len(str(classes.count)) and int(name) < classes.count


def _by_number(folder_of: Mapping[str, Path], siblings: Mapping[Path, list[str]]) -> Labels:
    numbers: dict[int, str] = {}
    for name in sorted({folder.name for folder in folder_of.values()}):
        twin = numbers.setdefault(int(name), name)
        if twin != name:
            raise BadInputError(f"the class folders {twin} and {name} are one number: give --class_to_idx")
    beside = [int(name) for found in siblings.values() for name in found if _is_number(name)]
    remarks = (
        ()
        if 0 in beside or not numbers
        else (
            f"the class folders are whole numbers, from {min(beside)} to {max(beside)}, and taken for class indices,"
            " which begin with 0: if they count from 1, --class_to_idx says what they are",
        )
    )
    return Labels(BY_NUMBER, {path: int(folder.name) for path, folder in folder_of.items()}, remarks)


def _by_order(folder_of: Mapping[str, Path], siblings: Mapping[Path, list[str]], classes: Classes) -> Labels:
    first, *others = sorted(siblings)
    for parent in (first, *others):
        if len(siblings[parent]) != classes.count:
            raise BadInputError(_number_that_does_not_fit(parent, siblings[parent], classes))
        if siblings[parent] != siblings[first]:
            raise BadInputError(f"{first} and {parent} have other class folders: give --class_to_idx")
    index = {name: i for i, name in enumerate(siblings[first])}
    plain = sorted(index)
    differing = next((name for i, name in enumerate(plain) if index[name] != i), None)
    remarks = (
        ()
        if differing is None
        else (
            "the class folders are numbered in natural order, as timm does (2 before 10, capitals as small letters):"
            f" {differing!r} is class {index[differing]}; in plain order of characters it would be"
            f" {plain.index(differing)}. --class_to_idx says otherwise",
        )
    )
    return Labels(BY_ORDER, {path: index[folder.name] for path, folder in folder_of.items()}, remarks)


def _number_that_does_not_fit(parent: Path, folders: Sequence[str], classes: Classes) -> str:
    empty = [name for name in folders if not has_image(parent / name)]
    odd = [name for name in folders if classes.label_names and name not in classes.label_names]
    more = "".join(
        f"; {what}: {_some(names)}"
        for what, names in (("without an image", empty), ("no label name of the model", odd))
        if names
    )
    return (
        f"{parent} has {len(folders)} class folders, but the model has {classes.count} classes{more}: give"
        " --class_to_idx, or (to run) a ranking with a label column"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(repr, names[:MAX_NAMED])) + more


def is_like_guessing(right: int, asked: int, classes: int) -> bool:
    """Whether a model gets hardly more right than guessing would: its labels may be wrong."""
    return asked >= MIN_FOR_ACCURACY and right / asked < 2 / classes


def doubts(
    labels: Labels, classes: Classes, files: Sequence[Path], label_of_each: Sequence[int], predicted: Sequence[int]
) -> list[str]:
    """What speaks against the labels, as lines to warn with; mostly nothing.

    Args:
        labels: Of all images.
        classes: The model's.
        files: The images that the model was asked about.
        label_of_each: Its label.
        predicted: The class with the largest logit.
    """
    right = sum(map(eq, label_of_each, predicted))
    found = []
    if is_like_guessing(right, len(predicted), classes.count):
        found.append(f"{right} of {len(predicted)} right is hardly better than guessing among {classes.count} classes")
    if in_doubt := _doubtful_classes(files, label_of_each, predicted):
        found.append(in_doubt)
    return [f"{text}: are the labels right? (they are by {labels.rule})" for text in found]


def _doubtful_classes(files: Sequence[Path], labels: Sequence[int], predicted: Sequence[int]) -> str:
    """Sees classes in another order than the model's, which may leave an accuracy far above that of guessing."""
    # Doubtful is a class of five or more images where more than half are predicted as one other class, or none is
    # right. Two or more such classes are worth a word.
    folders = {(label, _class_folder(file).name) for label, file in zip(labels, files, strict=True)}
    name_of = dict(folders)
    if not len(folders) == len(name_of) == len({*name_of.values()}):
        name_of = {}  # the folders are not the classes
    taken_for: dict[int, Counter[int]] = {}
    for label, prediction in zip(labels, predicted, strict=True):
        taken_for.setdefault(label, Counter())[prediction] += 1
    doubtful = []
    for label, counts in sorted(taken_for.items()):
        images, right = counts.total(), counts[label]
        other, most = max(((c, n) for c, n in counts.items() if c != label), key=lambda item: item[1], default=(0, 0))
        if images >= MIN_FOR_ACCURACY and (2 * most > images or not right):
            also = f", the label of {name_of[other]!r}" if other in name_of else ""
            name = f"{name_of[label]!r} (label {label})" if label in name_of else f"label {label}"
            doubtful.append(f"{name}: {most} of {images} predicted as {other}{also}")
    if len(doubtful) < MIN_DOUBTFUL:
        return ""
    more = f"; and {len(doubtful) - MAX_NAMED} more" if len(doubtful) > MAX_NAMED else ""
    return (
        f"{len(doubtful)} classes are never right, or mostly taken for one other: "
        + "; ".join(doubtful[:MAX_NAMED])
        + more
    )


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
