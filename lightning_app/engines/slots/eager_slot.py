"""The one slot of a device without graphs: the plain loop's step, as it is."""

import time

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor

from lightning_app.data.stop_rule import NEVER
from lightning_app.engines.slots.scheduler import Steps
from lightning_app.training.classifier import Batch, Classifier
from lightning_app.training.loss import is_correct
from lightning_app.training.snapshot import Snapshot


class EagerSlot:
    """Trains the classifier's own network, a step at a time.

    Args:
        classifier: Its network is on the device.
        snapshot: Of that network.
        precision: Lightning's, for the forward pass.
        device: That trains.
    """

    def __init__(self, classifier: Classifier, snapshot: Snapshot, precision: Precision, device: torch.device) -> None:
        self._classifier = classifier
        self._snapshot = snapshot
        self._precision = precision
        self._device = device
        self._optimizer = classifier.configure_optimizers()
        self._batch: Batch
        self._predicted = NEVER
        self._has_been_correct = False
        self._taken: Steps

    def load(self, pixels: Tensor, label: int, epsilon: float) -> None:
        """Takes the next example."""
        self._snapshot.restore()
        self._optimizer.state.clear()  # as good as new, and made once
        images = self._precision.convert_input(pixels[None].to(self._device))
        self._batch = (images, torch.tensor([label], device=self._device))
        self._predicted, self._has_been_correct = NEVER, False

    def start(self, steps: int) -> None:
        """Takes one step: here nothing would be gained by more, and the next may not count."""
        start = time.perf_counter()
        with self._precision.train_step_context():
            output = self._classifier.training_step(self._batch, 0)
        self._optimizer.zero_grad()
        torch.autograd.backward(output["loss"])
        self._optimizer.step()
        loss = output["loss"].item()
        if self._predicted == NEVER:
            self._predicted = int(output["logits"].argmax().item())
        if not self._has_been_correct:  # later ones don't count
            self._has_been_correct = bool(is_correct(output["logits"], self._batch[1]).item())
        self._taken = Steps([loss], [self._has_been_correct], self._predicted, time.perf_counter() - start)

    def finish(self) -> Steps:
        """The step that was taken."""
        return self._taken

    def distance(self) -> float:
        """Euclidean distance of the weights from the pretrained ones."""
        return self._snapshot.distance()
