"""The plain loop: what a step is, in ten lines. Engines are checked against it, bit for bit."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from lightning_app.data.stop_rule import StopRule
from lightning_app.training.classifier import Classifier
from lightning_app.training.loss import precise_loss


def plain_loop(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    rule: StopRule,
    forward_context: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[float]:
    """Trains on one image until the rule says so, and leaves the weights as they are then.

    Args:
        classifier: Its network, in eval mode, on the device; its optimiser.
        images: Shape (1, 3, H, W), on the device.
        labels: Class index, shape (1,), on the device.
        rule: When it is done.
        forward_context: Made for every forward pass: the precision's.

    Returns:
        The loss of each step, from before its update.
    """
    optimizer = classifier.configure_optimizers()
    losses: list[float] = []
    while not losses or rule.outcome_at(len(losses), losses[-1]) is None:
        with forward_context():
            loss = precise_loss(classifier(images), labels).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses
