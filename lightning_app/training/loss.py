"""The loss of a step, and what it means to be right. Every engine calls these."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus


def precise_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy that keeps full relative precision far below 1e-6, gradient included.

    `log(1 + sum over j != y of exp(z_j - z_y))` is the cross-entropy of logits z and label y; written as
    `softplus(logsumexp over j != y of (z_j - z_y))` nothing cancels. `torch.nn.functional.cross_entropy` has only nine
    float32 values at or below 1e-6.

    Args:
        logits: Shape (N, C), C >= 2; widened or narrowed to float32 first.
        labels: Class indices, shape (N,).

    Returns:
        One float32 loss an image, shape (N,).
    """
    return softplus(torch.logsumexp(rivals(logits.float(), labels), dim=1))


def is_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the label's logit is above every other one; a tie is wrong, and so is NaN.

    Args:
        logits: Shape (N, C), C >= 2.
        labels: Class indices, shape (N,).

    Returns:
        Booleans, shape (N,).
    """
    return is_in_top(logits, labels, 1)


def is_in_top(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Whether fewer than k other classes have a logit at or above the label's; one that is NaN counts as above.

    Args:
        logits: Shape (N, C), C >= 2.
        labels: Class indices, shape (N,).
        k: How many classes may be named.

    Returns:
        Booleans, shape (N,).
    """
    return (~(rivals(logits.float(), labels) < 0)).sum(dim=1) < k


def rivals(logits: Tensor, labels: Tensor) -> Tensor:
    """The other classes' logits less the label's, in the order of the classes.

    Args:
        logits: Shape (N, C).
        labels: Class indices, shape (N,).

    Returns:
        Shape (N, C - 1).
    """
    if not logits.is_cuda:
        return _rivals(logits, labels)
    others: Tensor = GatheredRivals.apply(logits, labels)
    return others


def _rivals(logits: Tensor, labels: Tensor) -> Tensor:
    differences = logits - logits.gather(1, labels[:, None])
    others = torch.arange(logits.shape[1] - 1, device=logits.device)
    return differences.gather(1, others + (others >= labels[:, None]))


class GatheredRivals(torch.autograd.Function):
    """`rivals` with a backward pass of the same bits that only gathers; slower on a CPU.

    Autograd's own scatters, and the deterministic form of that on CUDA waits for the device, which no CUDA graph can.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        """See `rivals`."""
        ctx.save_for_backward(labels)
        return _rivals(logits, labels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Each rival's gradient in its class's place, and less their sum in the label's."""
        (gradient,) = gradients
        (labels,) = ctx.saved_tensors
        count = gradient.shape[1] + 1
        classes = torch.arange(count, device=gradient.device)
        is_label = classes == labels[:, None]
        # A column of zeros at the end, which the label takes.
        widened = torch.cat([gradient, gradient.new_zeros(len(gradient), 1)], dim=1)
        places = classes - (classes > labels[:, None]).long()
        of_others = widened.gather(1, torch.where(is_label, count - 1, places))
        return torch.where(is_label, -of_others.sum(dim=1, keepdim=True), of_others), None
