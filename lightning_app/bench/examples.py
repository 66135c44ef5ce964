"""Made-up images to train on, each with a label that the model finds wrong but likely."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.plugins.precision import Precision
from PIL import Image
from torch import nn

from lightning_app.data.example import Example
from lightning_app.data.image import read_pixels
from lightning_app.training.pretrained import Transform

PATCHES = 8
"""Random colours along each side of an image."""


def make_images(folder: Path, count: int, height: int, width: int) -> list[Path]:
    """Writes smooth random colours as PNG files; image i is always the same.

    Args:
        folder: Where.
        count: How many.
        height: In pixels.
        width: In pixels.
    """
    files = []
    for i in range(count):
        coarse = np.random.default_rng(i).integers(0, 256, (PATCHES, PATCHES, 3), dtype=np.uint8)
        file = folder / f"{i:04}.png"
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file)
        files.append(file)
    return files


@torch.no_grad()
def label_images(
    files: Sequence[Path], network: nn.Module, transform: Transform, precision: Precision, device: torch.device
) -> list[Example]:
    """Gives each image the class that the model finds second most likely: wrong, and some sooner mended than others.

    Args:
        files: The images.
        network: On the device, in the precision.
        transform: timm's evaluation transform.
        precision: Lightning's.
        device: That trains.
    """
    examples = []
    for i, file in enumerate(files):
        images = precision.convert_input(read_pixels(file, transform)[None].to(device))
        with precision.forward_context():
            label = int(network(images)[0].topk(2).indices[1].item())
        examples.append(Example(i, file.name, file, label, i + 1))
    return examples
