"""Networks whose counts can be worked out by hand, and every kind of engine around them."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import lightning.pytorch as L
import torch
from lightning.pytorch.plugins.precision import Precision
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from lightning_app.data.example import Example
from lightning_app.engines.base import Engine
from lightning_app.engines.slots.engine import SlotsEngine, make_slots_engine
from lightning_app.engines.slots.graph_slot import GraphSlot
from lightning_app.engines.slots.how_many import SlotMaker
from lightning_app.engines.slots.scheduler import Scheduler
from lightning_app.engines.trainer import TrainerEngine
from lightning_app.training.classifier import Classifier
from lightning_app.training.snapshot import Snapshot

KINDS = ("trainer", "slot", "replayed slots")
"""The Trainer's; the eager slot of a CPU; three slots that replay four steps at once, with a stand-in for the GPU."""


def make_trainer(callback: L.Callback) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback],
    )  # fmt: skip


def brightness(image: Image.Image) -> Tensor:
    pixels: Tensor = pil_to_tensor(image).float() / 255
    return pixels


def engine(kind: str, network: nn.Module, lr: float, transform: Callable[..., Tensor] = brightness,
           shape: tuple[int, ...] = (3, 1, 1), momentum: float = 0.0, weight_decay: float = 0.0) -> Engine:  # fmt: skip
    classifier = Classifier(network.eval(), lr, weight_decay, momentum)
    snapshot = Snapshot(network)
    if kind == "trainer":
        return TrainerEngine(classifier, transform, make_trainer, snapshot)
    if kind == "slot":
        return make_slots_engine(classifier, transform, snapshot, Precision(), torch.device("cpu"))
    maker = SlotMaker(
        lambda: GraphSlot(classifier, snapshot, Precision(), shape, InlineLane()),
        lambda slots: None,
        lambda there: True,
    )
    maker.grow(3)
    steps_at_once = 1 if momentum or weight_decay else 4
    return SlotsEngine(Scheduler(maker.slots, steps_at_once), transform, snapshot, 2, None, maker, 0)


def example(image: Path, label: int = 1, index: int = 0) -> Example:
    return Example(index, str(image), image, label, index + 1)


class InlineLane:
    """Stands in for a GPU's stream and graph: what goes into the queue is done at once."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        for _ in range(3):
            work()
        return work

    def queue(self) -> AbstractContextManager[object]:
        return nullcontext()

    def host_copy(self, tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor)

    def mark_begin(self) -> None:
        self._begin = time.perf_counter()

    def mark_end(self) -> None:
        self._end = time.perf_counter()

    def wait(self) -> float:
        return self._end - self._begin


class OneParameter(nn.Module):
    """Logits (0, w): the loss of label 1 is softplus(-w)."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(float(start)))

    def forward(self, images: Tensor) -> Tensor:
        w = self.w.expand(len(images))
        return torch.stack([torch.zeros_like(w), w], dim=1)


class Bowl(nn.Module):
    """Logits (b w^2, 0) for brightness b: SGD on label 1 multiplies w by about 1 - 2 b lr, which grows for large b."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(6.0))
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("forgotten", torch.ones(1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        self.seen += 1  # a network that keeps something between steps
        level = images.mean(dim=(1, 2, 3)) * self.w**2
        return torch.stack([level, torch.zeros_like(level)], dim=1)


class Steep(nn.Module):
    """Logits (exp(w^2), 0): after the update that reaches epsilon the forward pass overflows, and 0 x inf is nan."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: Tensor) -> Tensor:
        level = torch.exp(self.w.expand(len(images)) ** 2)
        return torch.stack([level, torch.zeros_like(level)], dim=1)
