"""Asks a model whether it gets an image right, as it was published."""

from pathlib import Path

import torch
from torch import nn

from lightning_app.training.loss import is_correct
from lightning_app.training.photograph import read_pixels
from lightning_app.training.pretrained import Transform


@torch.no_grad()
def ask(network: nn.Module, transform: Transform, image: Path, label: int, device: torch.device) -> bool:
    """One forward pass at batch 1.

    Args:
        network: In eval mode, on the device.
        transform: timm's evaluation transform.
        image: The file.
        label: Class index.
        device: Where the network is.

    Returns:
        Whether the label's logit is above every other.

    Raises:
        UnreadableImageError: If the file can't be decoded.
    """
    pixels = read_pixels(image, transform)[None].to(device)
    return bool(is_correct(network(pixels), torch.tensor([label], device=device)).item())
