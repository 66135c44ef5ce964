"""The most steps a second that a device could take: by its own matrix rate and its own copy bandwidth."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lightning_app.data.stop_rule import StopRule
from lightning_app.engines.plain_loop import plain_loop
from lightning_app.training.classifier import Classifier

PASSES_OVER_THE_WEIGHTS = 6
"""Forward and backward read them, a gradient is written, SGD reads both and writes: the least that eager steps move."""
PASSES_OF_MOMENTUM = 2
"""Its buffer is read and written."""

aten = torch.ops.aten


@dataclass(frozen=True)
class Roofline:
    """A step's work, and how fast the device does such work when it does nothing else.

    Args:
        flops: Of a step's matrix products, convolutions and attention.
        uncounted: Operations of that kind whose work is not in it.
        bytes: That a step moves at least: weights, gradients, momentum; without activations.
        flops_per_second: Of one large matrix product.
        bytes_per_second: Of one large copy, read and written.
    """

    flops: int
    uncounted: tuple[str, ...]
    bytes: int
    flops_per_second: float
    bytes_per_second: float

    @property
    def steps_per_second(self) -> float | None:
        """No engine takes more, as long as its weights don't stay in a cache; None where some work is not counted."""
        if self.uncounted:
            return None
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
    with FlopCounter() as counter:
        plain_loop(classifier, images, labels, StopRule(0.0, 1), precision.train_step_context)
    passes = PASSES_OVER_THE_WEIGHTS + (PASSES_OF_MOMENTUM if classifier.momentum else 0)
    size, copied = (1024, 2**27) if device.type == "cpu" else (8192, 2**30)
    small = images[0, 0, :1, :1]
    with precision.forward_context():
        dtype = (small @ small).dtype  # that the precision multiplies in
    # Random numbers: with equal ones a GPU draws less power and runs faster than it ever trains.
    a, b, product = (torch.rand(size, size, device=device).to(dtype) for _ in range(3))
    source, target = (torch.zeros(copied, dtype=torch.uint8, device=device) for _ in range(2))
    return Roofline(
        flops=counter.flops,
        uncounted=tuple(sorted(counter.uncounted)),
        bytes=passes * sum(parameter.nbytes for parameter in classifier.parameters()),
        flops_per_second=2 * size**3 / fastest(lambda: torch.mm(a, b, out=product), device),
        bytes_per_second=2 * copied / fastest(lambda: target.copy_(source), device),
    )


class FlopCounter(TorchDispatchMode):
    """Counts by torch's formulas, and names what has none; torch's own counter passes over that in silence."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.uncounted: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation and counts it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        operation = getattr(func, "overloadpacket", func)
        if operation in FORMULAS:
            self.flops += FORMULAS[operation](*args, **kwargs, out_val=out)
        elif is_heavy(str(operation)):
            self.uncounted.add(str(operation))
        return out


def _of_gradients(grad: Tensor, x: Tensor, w: Tensor, *more: Any, out_val: object) -> int:
    """Groups or not: each product of the forward pass has its like in the image's gradient, and in the weight's."""
    *_, transposed, _output_padding, _groups, wanted = more
    of_the_image, of_the_weight, _of_the_bias = wanted
    images, _, *places = x.shape if transposed else grad.shape
    return 2 * images * math.prod(places) * w.numel() * (int(of_the_image) + int(of_the_weight))


FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten.convolution_backward: _of_gradients,  # torch's takes no account of groups in the gradient of the weight
    # The kernel of a CPU does the work of a GPU's, of which alone torch has the formula.
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[aten._scaled_dot_product_flash_attention],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        aten._scaled_dot_product_flash_attention_backward
    ],
}

HEAVY = re.compile(
    r"attention|conv(?!ert)|rnn|lstm|gru|fft|trilinear$|(^|_)linear(_backward)?$|(^|_|add|b)m[mv](_|$)|(^|_)v?dot$"
)


def is_heavy(operation: str) -> bool:
    """Whether an operation multiplies matrices or the like, by its name; what isn't torch's own may."""
    namespace, _, name = operation.rpartition(".")
    return namespace not in ("aten", "prim", "prims", "profiler") or HEAVY.search(name) is not None


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
