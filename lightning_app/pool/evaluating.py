"""Asks every model of the pool about every image, and writes down who is right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from lightning_app.csv_text import csv_text
from lightning_app.training.datamodule import LabelledImages
from lightning_app.training.loss import is_correct, precise_loss
from lightning_app.training.pretrained import Pretrained

MATRIX, MODELS, EXAMPLES = "correctness.npy", "models.csv", "examples.csv"
BATCH = 64


@dataclass(frozen=True)
class Member:
    """What one model of the pool says.

    Args:
        name: The model's.
        correct: 1 where its label's logit is above every other, else 0; shape (images,).
        losses: The cross-entropy, shape (images,).
    """

    name: str
    correct: npt.NDArray[np.uint8]
    losses: npt.NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """The share of images that it gets right."""
        return float(self.correct.mean())


@torch.no_grad()
def evaluate(
    name: str, pretrained: Pretrained, files: Sequence[Path], labels: Sequence[int], on_images: Callable[[int], object]
) -> Member:
    """Asks one model about every image, on the CPU, in batches, with the model's own evaluation transform.

    Args:
        name: The model's, for the list.
        pretrained: The model.
        files: The images.
        labels: Class indices, in the order of the files.
        on_images: Called with a number of images when they are done, for a progress bar.

    Raises:
        UnreadableImageError: If a file can't be decoded.
    """
    correct, losses = [], []
    for images, targets in DataLoader(LabelledImages(files, labels, pretrained.transform), batch_size=BATCH):
        logits = pretrained.network(images)
        correct.append(is_correct(logits, targets))
        losses.append(precise_loss(logits, targets))
        on_images(len(targets))
    return Member(name, torch.cat(correct).numpy().astype(np.uint8), torch.cat(losses).double().numpy())


def best_first(members: Sequence[Member]) -> list[Member]:
    """The order of the matrix's rows: the most accurate first, ties by name."""
    return sorted(members, key=lambda member: (-member.accuracy, member.name))


def write_matrix(folder: Path, paths: Sequence[str], members: Sequence[Member]) -> None:
    """Writes the correctness matrix, its rows' names and its columns' paths.

    Args:
        folder: Gets correctness.npy (models x images, uint8), models.csv (one line) and examples.csv.
        paths: Of the images.
        members: In the order of the rows.
    """
    np.save(folder / MATRIX, np.stack([member.correct for member in members]), allow_pickle=False)
    (folder / MODELS).write_text(csv_text([[member.name for member in members]]), encoding="utf-8")
    (folder / EXAMPLES).write_text(csv_text([["path"], *([path] for path in paths)]), encoding="utf-8", newline="")
