"""The most steps a second that a device could take: by its own matrix rate and its own copy bandwidth."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from lightning_app.data.trajectory import StopRule
from lightning_app.engines.plain_loop import plain_loop
from lightning_app.training.classifier import Classifier

PASSES_OVER_THE_WEIGHTS = 6
"""Forward and backward read them, a gradient is written, SGD reads both and writes: the least that eager steps move."""
PASSES_OF_MOMENTUM = 2
"""Its buffer is read and written."""


@dataclass(frozen=True)
class Roofline:
    """A step's work, and how fast the device does such work when it does nothing else.

    Args:
        flops: Of a step's matrix products and convolutions.
        bytes: That a step moves at least: weights, gradients, momentum; without activations.
        flops_per_second: Of one large matrix product.
        bytes_per_second: Of one large copy, read and written.
    """

    flops: int
    bytes: int
    flops_per_second: float
    bytes_per_second: float

    @property
    def steps_per_second(self) -> float:
        """No way to train takes more, unless its weights stay in a cache, which is faster than the copy."""
        return 1 / max(self.flops / self.flops_per_second, self.bytes / self.bytes_per_second)


def measure_roofline(
    classifier: Classifier, images: Tensor, labels: Tensor, precision: Precision, device: torch.device
) -> Roofline:
    """Counts a step's work and measures the device.

    Args:
        classifier: On the device; it takes one step.
        images: Shape (1, 3, H, W), on the device.
        labels: Class index, shape (1,), on the device.
        precision: Lightning's, for the forward pass.
        device: That trains.
    """
    with flop_counter() as counter:
        plain_loop(classifier, images, labels, StopRule(0.0, 1), precision.train_step_context)
    is_gpu = device.type != "cpu"
    return Roofline(
        counter.get_total_flops(),
        bytes_of_a_step(classifier),
        matrix_rate(device, precision, 8192 if is_gpu else 1024),
        copy_bandwidth(device, 2**30 if is_gpu else 2**27),
    )


def flop_counter() -> FlopCounterMode:
    """Torch's, which takes no account of groups in the gradient of a convolution's weight: mended here."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _of_gradients})


def _of_gradients(grad_shape: list[int], x_shape: list[int], w_shape: list[int], *more: Any, out_shape: object) -> int:
    *_, transposed, _output_padding, _groups, wanted = more
    # Groups or not: each product of the forward pass has its like in the image's gradient, and in the weight's.
    of_the_image, of_the_weight, _of_the_bias = wanted
    return conv_flop_count(x_shape, w_shape, grad_shape, transposed) * (int(of_the_image) + int(of_the_weight))


def bytes_of_a_step(classifier: Classifier) -> int:
    """What the weights alone make a step move, whatever the activations add."""
    passes = PASSES_OVER_THE_WEIGHTS + (PASSES_OF_MOMENTUM if classifier.momentum else 0)
    return passes * sum(parameter.nbytes for parameter in classifier.parameters())


def matrix_rate(device: torch.device, precision: Precision, size: int) -> float:
    """Operations a second of a square matrix product, in the type that the precision multiplies in.

    Args:
        device: Which.
        precision: Lightning's.
        size: Rows and columns.
    """
    small: Tensor = precision.convert_input(torch.ones(2, 2, device=device))
    with precision.forward_context():
        dtype = (small @ small).dtype
    a, b, out = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(3))
    return 2 * size**3 / fastest(lambda: torch.mm(a, b, out=out), device)


def copy_bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second of a copy, those read and those written.

    Args:
        device: Which.
        size: Of what is copied, in bytes; more than any cache holds.
    """
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / fastest(lambda: target.copy_(source), device)


def fastest(
    work: Callable[[], object], device: torch.device, times: int = 10, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of the fastest of several calls.

    Args:
        work: What is called, once more before to set itself up.
        device: Where it runs; each call is waited for.
        times: How many calls.
        clock: Seconds.
    """
    work()
    seconds = []
    for _ in range(times):
        synchronize(device)
        start = clock()
        work()
        synchronize(device)
        seconds.append(clock() - start)
    return min(seconds)


def synchronize(device: torch.device) -> None:
    """Waits for all that a GPU has been given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
