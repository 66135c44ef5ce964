"""Asks a model whether it gets an image right, as it was published."""

from pathlib import Path

import torch
from torch import nn

from lightning_app.data.image import read_pixels
from lightning_app.training.loss import is_correct
from lightning_app.training.pretrained import Transform


@torch.no_grad()
def predict(
    network: nn.Module, transform: Transform, image: Path, label: int, device: torch.device
) -> tuple[bool, int]:
    """One forward pass at batch 1.

    Args:
        network: In eval mode, on the device.
        transform: timm's evaluation transform.
        image: The file.
        label: Class index.
        device: Where the network is.

    Returns:
        Whether the label's logit is above every other, and the class with the largest.

    Raises:
        UnreadableImageError: If the file can't be decoded.
    """
    pixels = read_pixels(image, transform)[None].to(device)
    logits = network(pixels)
    return bool(is_correct(logits, torch.tensor([label], device=device)).item()), int(logits.argmax(dim=1).item())
