"""The demo's images, scikit-learn's digits as files, and the small timm networks that are trained on some of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from timm.data import create_transform, resolve_model_data_config
from timm.models import save_for_hf
from torch.nn.functional import cross_entropy

from lightning_app.data.images import find_images, images_below
from lightning_app.data.labels import Classes, find_labels
from lightning_app.training.datamodule import LabelledImages

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


PREPROCESSING = {
    "input_size": (3, 32, 32),
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
    "interpolation": "bicubic",
    "crop_pct": 1.0,
}
CLASSES = 10
BATCH = 32
HIGHEST_RATE = 2e-3


@dataclass(frozen=True)
class SmallNetwork:
    """One of timm's own test architectures.

    Args:
        name: Its folder's name.
        architecture: timm's name.
        model_args: Further arguments of the architecture.
    """

    name: str
    architecture: str
    model_args: dict[str, object] = field(default_factory=dict)


def labelled_images(folder: Path) -> tuple[list[Path], list[int]]:
    """The images of class folders and their class indices, as every command labels them."""
    paths = images_below(folder).ranked
    files = find_images(paths, None).files
    labels = find_labels(paths, files, None, Classes(CLASSES)).of
    return [files[entry.path] for entry in paths], [labels[entry.path] for entry in paths]


def train_from_scratch(
    network: SmallNetwork, images: Path, epochs: int, on_step: Callable[[], object], folder: Path
) -> None:
    """Trains a network and saves it in timm's `local-dir:` layout. Seeded: the same every time on one CPU thread.

    Args:
        network: Which.
        images: Class folders.
        epochs: Passes over the images.
        on_step: Called after every step, for a progress bar.
        folder: Gets config.json and model.safetensors.
    """
    torch.manual_seed(0)
    model = timm.create_model(
        network.architecture, num_classes=CLASSES, pretrained_cfg_overlay=PREPROCESSING, **network.model_args
    )
    dataset = LabelledImages(*labelled_images(images), create_transform(**resolve_model_data_config(model)))
    pixels, labels = torch.stack([dataset[i][0] for i in range(len(dataset))]), torch.tensor(dataset.labels)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, HIGHEST_RATE, total_steps=steps(len(labels), epochs))
    model.train()
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(labels)), BATCH)[: len(labels) // BATCH]:  # whole batches alone
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(model(pixels[batch]), labels[batch]))
            optimizer.step()
            schedule.step()
            on_step()
    save_for_hf(model, str(folder), model_args=network.model_args, safe_serialization=True)


def steps(images: int, epochs: int) -> int:
    """How many steps a network is trained for."""
    return epochs * (images // BATCH)
