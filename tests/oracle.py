"""An independent plain PyTorch loop: what every engine has to reproduce bit for bit."""

import math
from pathlib import Path

import timm
import torch
from PIL import Image


def trajectory(
    model_name: str, image: Path, label: int, lr: float, epsilon: float, max_steps: int, device: str = "cpu"
) -> tuple[int, str, list[float]]:
    """Steps to epsilon (or -1), outcome, and every loss of one example."""
    model = timm.create_model(model_name, pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    x = timm.data.create_transform(**config, is_training=False)(Image.open(image).convert("RGB")).unsqueeze(0)
    model, x = model.to(device), x.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses: list[float] = []
    for step in range(1, max_steps + 1):
        z = model(x)
        d = z - z[:, label : label + 1]
        d = torch.cat([d[:, :label], d[:, label + 1 :]], dim=1)
        loss = torch.nn.functional.softplus(torch.logsumexp(d, dim=1)).squeeze()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            return -1, "diverged", losses
        if losses[-1] <= epsilon:
            return step, "reached", losses
    return -1, "censored", losses


def wrong(model_name: str, image: Path, label: int) -> bool:
    """Whether the pretrained model gets the image wrong."""
    model = timm.create_model(model_name, pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    with torch.no_grad():
        z = model(timm.data.create_transform(**config, is_training=False)(Image.open(image).convert("RGB"))[None])[0]
    return not all(z[label] > z[j] for j in range(len(z)) if j != label)
