"""Whether a slot's steps are those of the plain loop, bit for bit, on the model at hand."""

from collections.abc import Sequence

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor

from lightning_app.data.stop_rule import StopRule
from lightning_app.engines.plain_loop import plain_loop
from lightning_app.engines.slots.scheduler import Slot
from lightning_app.training.classifier import Classifier
from lightning_app.training.snapshot import Snapshot

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
            logits = classifier(images)
        self.label = int(logits.argmin().item())  # the loss has furthest to go
        self._predicted = int(logits.argmax().item())
        snapshot.restore()  # a network may keep something between steps
        labels = torch.tensor([self.label], device=device)
        self.losses = plain_loop(classifier, images, labels, RULE, precision.train_step_context)
        self._distance = snapshot.distance()
        snapshot.restore()

    def difference(self, slots: Sequence[Slot], steps_at_once: int) -> str | None:
        """Where slots that run side by side first differ from the plain loop, in words; None where no bit does."""
        for slot in slots:
            slot.load(self.pixels, self.label, RULE.epsilon)
        losses: list[list[float]] = [[] for _ in slots]
        while (left := len(self.losses) - len(losses[0])) > 0:
            for slot in slots:
                slot.start(min(steps_at_once, left))
            for slot, so_far in zip(slots, losses, strict=True):
                steps = slot.finish()
                if not so_far and steps.predicted != self._predicted:
                    return f"step 1 predicts class {steps.predicted} and not the plain loop's {self._predicted}"
                so_far += steps.losses
        for slot, ours in zip(slots, losses, strict=True):
            for step, (loss, plain) in enumerate(zip(ours, self.losses, strict=True), start=1):
                if repr(loss) != repr(plain):  # exact, and NaN is NaN
                    return f"step {step} has the loss {loss!r} and not the plain loop's {plain!r}"
            if repr(distance := slot.distance()) != repr(self._distance):
                return f"the weights moved by {distance!r} and not by the plain loop's {self._distance!r}"
        return None
