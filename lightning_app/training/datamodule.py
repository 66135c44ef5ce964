"""The DataModules: one example to train on, a folder of images to validate on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_app.data.image import read_pixels
from lightning_app.training.classifier import Batch
from lightning_app.training.pretrained import Transform


class SingleExample(L.LightningDataModule):
    """Supplies one example, decoded and transformed once.

    The example is repeated max_steps times, so that all its steps are one epoch: an epoch a step would pay Lightning's
    cost of an epoch for every step.

    Args:
        image: The file.
        label: Class index.
        transform: timm's evaluation transform.
        max_steps: The most steps that will be asked for.

    Raises:
        UnreadableImageError: If the file can't be decoded.
    """

    def __init__(self, image: Path, label: int, transform: Transform, max_steps: int) -> None:
        super().__init__()
        self.batch: Batch = (read_pixels(image, transform)[None], torch.tensor([label]))
        self.max_steps = max_steps

    def train_dataloader(self) -> "Repeated":
        """The example, max_steps times."""
        return Repeated(self.batch, self.max_steps)


class Repeated:
    """One batch, over and over, without a worker or a copy.

    Args:
        batch: What to repeat.
        times: How often.
    """

    def __init__(self, batch: Batch, times: int) -> None:
        self.batch = batch
        self.times = times

    def __len__(self) -> int:
        return self.times

    def __iter__(self) -> Iterator[Batch]:
        return (self.batch for _ in range(self.times))


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Image files with their labels.

    Args:
        files: The images.
        labels: Class indices, in the order of the files.
        transform: timm's evaluation transform.
    """

    def __init__(self, files: Sequence[Path], labels: Sequence[int], transform: Transform) -> None:
        self.files = files
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return read_pixels(self.files[index], self.transform), self.labels[index]


class ImageFolder(L.LightningDataModule):
    """Supplies a folder of labelled images for validation.

    Args:
        images: The images.
        batch_size: Images in one forward pass.
    """

    def __init__(self, images: LabelledImages, batch_size: int) -> None:
        super().__init__()
        self.images = images
        self.batch_size = batch_size

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """All images, in order."""
        return DataLoader(self.images, batch_size=self.batch_size)
