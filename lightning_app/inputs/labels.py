"""Gives every image its class index, by the first rule that applies."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_app.errors import BadInputError
from lightning_app.inputs.ranking import RankedPath, read_text

BY_MAPPING = "class_to_idx and the class folder"
BY_GROUND_TRUTH = "WordNet ids of the ground truth"
WORDNET_ID = re.compile(r"(?<![0-9A-Za-z])n\d{8}(?!\d)")


FEWEST_FOR_ACCURACY = 5
"""Below this many answers an accuracy says nothing about the labels."""


def is_like_guessing(right: int, asked: int, classes: int) -> bool:
    """Whether a model gets hardly more right than guessing would: its labels may be wrong."""
    return asked >= FEWEST_FOR_ACCURACY and right / asked < 2 / classes


@dataclass(frozen=True)
class Classes:
    """What labels may be: the classes of one model.

    Args:
        count: Number of classes.
        subset: The ImageNet subset they are, or None.
        wordnet_ids: That subset's ids, in class order; empty without one.
    """

    count: int
    subset: str | None = None
    wordnet_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """The labels of a set of images.

    Args:
        rule: The rule that gave them, in words; part of a study's identity.
        of: Class index by path.
    """

    rule: str
    of: dict[str, int]


def find_labels(
    paths: Sequence[RankedPath],
    files: Mapping[str, Path],
    class_to_idx: Path | None,
    classes: Classes,
    ground_truth: Mapping[str, str] | None = None,
) -> Labels:
    """Labels every path that has a file.

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
    elif classes.wordnet_ids and any(WORDNET_ID.search(entry.path) for entry in there):
        labels = _by_wordnet_id(there, classes)
    else:
        labels = _by_sorted_folders(there, files, classes)
    for path, label in labels.of.items():
        if not 0 <= label < classes.count:
            raise BadInputError(
                f"the label of {path!r} is {label} by {labels.rule}, but the model has {classes.count} classes"
                f" (0 to {classes.count - 1})"
            )
    return labels


def _by_mapping(paths: Sequence[RankedPath], files: Mapping[str, Path], file: Path) -> Labels:
    try:
        mapping = json.loads(read_text(file, "class_to_idx"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadInputError(f"--class_to_idx {file} is not JSON: {error}") from None
    if not isinstance(mapping, dict) or not all(type(index) is int for index in mapping.values()):
        raise BadInputError(f'--class_to_idx {file} must be {{"class folder": class index, ...}}')
    of: dict[str, int] = {}
    for entry in paths:
        folder = files[entry.path].absolute().parent.name
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


def _by_sorted_folders(paths: Sequence[RankedPath], files: Mapping[str, Path], classes: Classes) -> Labels:
    indices: dict[Path, dict[str, int]] = {}
    of: dict[str, int] = {}
    for entry in paths:
        folder = files[entry.path].absolute().parent
        if folder.parent not in indices:
            siblings = sorted(f.name for f in folder.parent.iterdir() if f.is_dir() and not f.name.startswith("."))
            if len(siblings) != classes.count:
                raise BadInputError(
                    f"{folder.parent} has {len(siblings)} class folders, but the model has {classes.count} classes:"
                    " give --class_to_idx, or (to run) a ranking with a label column"
                )
            if indices and list(next(iter(indices.values()))) != siblings:
                raise BadInputError(
                    f"{next(iter(indices))} and {folder.parent} have other class folders: give --class_to_idx"
                )
            indices[folder.parent] = {name: i for i, name in enumerate(siblings)}
        index = indices[folder.parent].get(folder.name)
        if index is None:
            raise BadInputError(f"the class folder of {entry.path!r}, {folder}, is hidden: give --class_to_idx")
        of[entry.path] = index
    return Labels("sorted class folders", of)
