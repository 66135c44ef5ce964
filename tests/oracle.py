"""An independent plain PyTorch loop: what every engine has to reproduce bit for bit."""

import math
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from PIL import Image


@dataclass
class Expected:
    """One example's numbers by the plain loop."""

    steps: int
    outcome: str
    losses: list[float]
    predicted_before: int
    steps_to_correct: int
    weight_distance: float


def trajectory(
    model_name: str,
    image: Path,
    label: int,
    lr: float,
    epsilon: float,
    max_steps: int,
    device: str = "cpu",
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> Expected:
    """Trains one example."""
    model = timm.create_model(model_name, pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    x = timm.data.create_transform(**config, is_training=False)(Image.open(image).convert("RGB")).unsqueeze(0)
    model, x = model.to(device), x.to(device)
    before = [parameter.detach().cpu().double() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    losses: list[float] = []
    predicted, correct, steps, outcome = -1, -1, -1, "censored"
    for step in range(1, max_steps + 1):
        z = model(x)
        d = z - z[:, label : label + 1]
        d = torch.cat([d[:, :label], d[:, label + 1 :]], dim=1)
        loss = torch.nn.functional.softplus(torch.logsumexp(d, dim=1)).squeeze()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
        if step == 1:
            predicted = int(z.argmax())
        if correct < 0 and bool((d < 0).all()):
            correct = step
        if not math.isfinite(losses[-1]):
            outcome = "diverged"
            break
        if losses[-1] <= epsilon:
            steps, outcome = step, "reached"
            break
    now = [parameter.detach().cpu().double() for parameter in model.parameters()]
    distance = math.sqrt(math.fsum(float(((a - b) ** 2).sum()) for a, b in zip(now, before, strict=True)))
    return Expected(steps, outcome, losses, predicted, correct, distance)


def wrong(model_name: str, image: Path, label: int) -> bool:
    """Whether the pretrained model gets the image wrong."""
    model = timm.create_model(model_name, pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    with torch.no_grad():
        z = model(timm.data.create_transform(**config, is_training=False)(Image.open(image).convert("RGB"))[None])[0]
    return not all(z[label] > z[j] for j in range(len(z)) if j != label)
