"""The images that a pool is asked about, and their labels."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightning_app.console.log import log_left_out
from lightning_app.data.images import find_images, images_below
from lightning_app.data.labels import Classes, Labels, find_labels, read_ground_truth
from lightning_app.data.ranking import RankedPath, read_text
from lightning_app.errors import BadInputError, is_text
from lightning_app.files import file_sha256
from lightning_app.settings import EvaluationSettings
from lightning_app.training.pretrained import classes_by_config


@dataclass(frozen=True)
class PoolImages:
    """The images of `--root_dir`, in the order of the matrix's columns.

    Args:
        entries: Their paths below it.
        files: Where they are.
        ground_truth: WordNet ids by path, where `--ground_truth` has them.
        labels: Those that were found already, by the classes of a model.
    """

    entries: list[RankedPath]
    files: dict[str, Path]
    ground_truth: dict[str, str] | None
    labels: dict[Classes, Labels] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        """Their paths below `--root_dir`."""
        return [entry.path for entry in self.entries]


def find_pool_images(settings: EvaluationSettings) -> PoolImages:
    """Finds every image, and what the dataset's own list says of it.

    Raises:
        BadInputError: If there is none, or the list doesn't have them.
    """
    root = str(settings.root_dir)
    below = images_below(settings.root_dir)
    below.log_left_out()
    paths = [path.removeprefix(root).lstrip("/") for path in below.paths]
    odd = tuple(path for path in paths if not _can_be_listed(path))
    log_left_out("file names can't stand in a list (no UTF-8 text, or with a \\) and are left out", odd)
    entries = [RankedPath(path, place, place + 1) for place, path in enumerate(filter(_can_be_listed, paths))]
    if not entries:
        raise BadInputError(f"--root_dir {root} holds no image whose name can stand in a list, such as {odd[0]!r}")
    if settings.class_to_idx is not None:
        read_text(settings.class_to_idx, "class_to_idx")
    files = find_images(entries, settings.root_dir).files
    truth = settings.ground_truth
    return PoolImages(entries, files, None if truth is None else read_ground_truth(truth, files))


def _can_be_listed(path: str) -> bool:
    return is_text(path) and "\\" not in path  # in a ranking it stands between folders


def identity_of(settings: EvaluationSettings, images: PoolImages) -> dict[str, object]:
    """What all tables of a folder have in common."""
    lines = "".join(f"{path}\n{images.files[path].stat().st_size}\n" for path in images.paths)
    return {
        "images": len(images.entries),
        "list_of_images_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "class_to_idx_sha256": file_sha256(settings.class_to_idx) if settings.class_to_idx else None,
        "ground_truth_sha256": file_sha256(settings.ground_truth) if settings.ground_truth else None,
    }


def label(images: PoolImages, settings: EvaluationSettings, classes: Classes) -> Labels:
    """The images' class indices for one model.

    Raises:
        BadInputError: If there are none, or they aren't the model's.
    """
    if classes in images.labels:
        return images.labels[classes]
    try:
        found = find_labels(images.entries, images.files, settings.class_to_idx, classes, images.ground_truth)
        if all(found.remarks != known.remarks for known in images.labels.values()):  # once, for however many models
            found.log_remarks()
        images.labels[classes] = found
        return found
    except BadInputError:
        is_flat = any("/" not in path for path in images.paths)
        if is_flat and images.ground_truth is None and settings.class_to_idx is None:
            raise BadInputError(
                f"--root_dir: images lie in {settings.root_dir} itself, without a class folder: --ground_truth names"
                " the list that has their classes"
            ) from None
        raise


def require_labels_that_fit(models: Mapping[str, str], images: PoolImages, settings: EvaluationSettings) -> None:
    """Refuses models whose classes aren't the folder's, as far as their configurations tell, before any is loaded.

    Raises:
        BadInputError: Naming the models, and both numbers.
    """
    by_classes: dict[Classes, list[str]] = {}
    for name, model in models.items():
        classes = classes_by_config(model)
        if classes is not None:
            by_classes.setdefault(classes, []).append(name)
    refused: dict[str, list[str]] = {}
    for classes, names in by_classes.items():
        try:
            label(images, settings, classes)
        except BadInputError as error:
            refused.setdefault(str(error), []).extend(names)
    if refused:
        raise BadInputError("; ".join(f"{why} (--models {', '.join(names)})" for why, names in refused.items()))
