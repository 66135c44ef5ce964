"""Whether a slot's steps are those of the plain loop, bit for bit, on the model at hand."""

from collections.abc import Sequence

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor

from lightning_app.training.classifier import Classifier
from lightning_app.training.plain_loop import plain_loop
from lightning_app.training.pretrained import Snapshot
from lightning_app.training.slots.scheduler import Slot
from lightning_app.training.trajectory import StopRule

CHECKED_STEPS = 20
RULE = StopRule(0.0, CHECKED_STEPS)


def noise(shape: Sequence[int]) -> Tensor:
    """An image (3, H, W) of standard normal pixels, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


class SelfCheck:
    """Some steps on noise by the plain loop, to compare slots with.

    Args:
        classifier: Its network is on the device, with the pretrained weights; they are restored.
        snapshot: Of that network.
        precision: Lightning's, for the forward pass.
        shape: Of an image, (3, H, W).
    """

    def __init__(self, classifier: Classifier, snapshot: Snapshot, precision: Precision, shape: Sequence[int]) -> None:
        device = next(classifier.parameters()).device
        self.pixels = noise(shape)
        images: Tensor = precision.convert_input(self.pixels[None].to(device))
        with torch.no_grad(), precision.train_step_context():
            # The least likely class: the loss has furthest to go.
            self.label = int(classifier(images).argmin().item())
        snapshot.restore()  # a network may keep something between steps
        labels = torch.tensor([self.label], device=device)
        self.losses = plain_loop(classifier, images, labels, RULE, precision.train_step_context)
        snapshot.restore()

    def difference(self, slot: Slot, steps_at_once: int) -> str | None:
        """Where a slot's losses first differ from the plain loop's, in words; None where they are the same bits."""
        slot.load(self.pixels, self.label, RULE.epsilon)
        losses: list[float] = []
        while len(losses) < len(self.losses):
            slot.start(min(steps_at_once, len(self.losses) - len(losses)))
            losses += slot.finish().losses
        for step, (ours, plain) in enumerate(zip(losses, self.losses, strict=True), start=1):
            if repr(ours) != repr(plain):  # exact, and NaN is NaN
                return f"step {step} has the loss {ours!r} and not the plain loop's {plain!r}"
        return None
