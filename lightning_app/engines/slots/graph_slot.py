"""A slot that replays its whole step, and the stream and CUDA graph on which it does."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor, nn
from torch.func import functional_call

from lightning_app.engines.slots.how_many import STEPS_AT_ONCE
from lightning_app.engines.slots.scheduler import Steps
from lightning_app.training.classifier import Classifier
from lightning_app.training.loss import is_correct, precise_loss
from lightning_app.training.snapshot import Snapshot

WARM_UPS = 3
STREAMS_OF_A_PRIORITY = 32
"""torch hands out the same ones again after so many."""


class CudaLane:
    """What a slot needs of a GPU.

    Graphs that were captured on one stream share cuBLAS's workspace (pytorch#193402), and graphs that run side by side
    must not: every lane has a stream that no other has.

    Args:
        device: The current one.
        taken: Streams of other lanes; this one's is added.

    Raises:
        RuntimeError: If there is no other stream.
    """

    def __init__(self, device: torch.device, taken: set[int]) -> None:
        self._device = device
        self._stream = _another_stream(device, taken)
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Captures work in a graph, after it has run a few times and libraries have set themselves up."""
        before = torch.cuda.current_stream()
        self._stream.wait_stream(before)
        try:
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UPS):
                    work()
                with _refusing_to_wait():
                    work()
            self._stream.synchronize()
            # Or the graph would keep the address of a workspace that others, such as a Trainer's set-up, may free; a
            # new one is taken from the graph's own memory.
            torch._C._cuda_clearCublasWorkspaces()
            return self._capture(work)
        except BaseException:
            torch.cuda.set_stream(before)
            with suppress(RuntimeError):
                torch.cuda.synchronize()  # what is under way may still write to what is about to be freed
            raise

    def _capture(self, work: Callable[[], None]) -> Callable[[], None]:
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                work()
        except BaseException:
            # torch before 2.12 leaves the allocator in the capture that failed, and every later set-up would fail too.
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(self._device.index or 0, pool)
            raise
        return graph.replay

    def queue(self) -> AbstractContextManager[object]:
        """The stream."""
        stream: AbstractContextManager[object] = torch.cuda.stream(self._stream)
        return stream

    def host_copy(self, tensor: Tensor) -> Tensor:
        """Pinned memory."""
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)

    def mark_begin(self) -> None:
        """Notes the time on the stream."""
        self._begin.record(self._stream)

    def mark_end(self) -> None:
        """Notes the time on the stream."""
        self._end.record(self._stream)

    def wait(self) -> float:
        """Waits for the marked end."""
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end)) / 1000


@contextmanager
def _refusing_to_wait() -> Iterator[None]:
    """Work that waits for the device can't be captured; here it fails while nothing is broken by it."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _another_stream(device: torch.device, taken: set[int]) -> torch.cuda.Stream:
    for priority in (0, -1):
        for _ in range(STREAMS_OF_A_PRIORITY):
            stream = torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]
            if stream.cuda_stream not in taken:
                taken.add(stream.cuda_stream)
                return stream
    raise RuntimeError(f"torch has no more than {len(taken)} streams")


MAX_RING = max(STEPS_AT_ONCE)
"""Steps whose losses a slot keeps until they are read."""


class Lane(Protocol):
    """What a slot needs of its device: a queue of its own."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Records work that always does the same to the same tensors; returns what does it again, in the queue."""
        ...

    def queue(self) -> AbstractContextManager[object]:
        """What is called inside goes into the queue."""
        ...

    def host_copy(self, tensor: Tensor) -> Tensor:
        """Room on the host for a copy of a tensor, which the queue can write to by itself."""
        ...

    def mark_begin(self) -> None:
        """Notes the time, in the queue."""
        ...

    def mark_end(self) -> None:
        """Notes the time, in the queue."""
        ...

    def wait(self) -> float:
        """Waits for the end that was marked; seconds since the begin."""
        ...


class GraphSlot:
    """Trains its own copy of the weights.

    The graph's step leaves its loss in a ring, the newest last, which is read once for several steps. A device scalar
    seeds the backward pass: 1, and 0 after the first loss <= epsilon, so that the gradients of later steps are exactly
    0 and plain SGD leaves every bit of the weights. (Weight decay and momentum would not: with them, a step at a time.)

    Args:
        classifier: Its network gives the architecture, and its numbers the optimiser.
        snapshot: The pretrained weights, on the device.
        precision: Lightning's, for the forward pass.
        shape: Of an image, (3, H, W).
        lane: The slot's own.

    Raises:
        RuntimeError: If the step can't be recorded, or the memory is too small.
    """

    def __init__(
        self, classifier: Classifier, snapshot: Snapshot, precision: Precision, shape: Sequence[int], lane: Lane
    ) -> None:
        network = classifier.network
        self._network = network
        self._snapshot = snapshot
        self._precision = precision
        self._lane = lane
        self._parameters = {
            name: nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
            for name, parameter in network.named_parameters()
        }
        self._buffers = {name: buffer.detach().clone() for name, buffer in network.named_buffers()}
        self._numbers: list[dict[str, Tensor]] = [{**self._parameters}, self._buffers]
        device = next(network.parameters()).device
        images: Tensor = precision.convert_input(torch.zeros(1, *shape, device=device))
        self._images = images
        self._labels = torch.zeros(1, dtype=torch.int64, device=device)
        self._epsilon = torch.zeros((), dtype=torch.float64, device=device)
        self._active = torch.ones((), device=device)
        self._ring = torch.zeros(3, MAX_RING, device=device)  # loss, correct or not, predicted class
        self._seen = lane.host_copy(self._ring)
        self._begun = 0
        self._pixels: Tensor | None = None
        self._optimizer = classifier.sgd(self._parameters.values())
        self._step = lane.record(self._take_step)

    def _take_step(self) -> None:
        with self._precision.train_step_context():
            logits: Tensor = functional_call(self._network, self._numbers, (self._images,))
            loss = precise_loss(logits, self._labels).mean()
        torch.autograd.backward(loss, self._active)
        self._optimizer.step()
        self._optimizer.zero_grad()  # here, so that none is left of the step before when the graph makes its own
        with torch.no_grad():
            newest = [loss, is_correct(logits, self._labels).squeeze(), logits.argmax()]
            self._ring.copy_(torch.cat([self._ring[:, 1:], torch.stack([x.float() for x in newest])[:, None]], dim=1))
            self._active.mul_(loss.double() > self._epsilon)

    def load(self, pixels: Tensor, label: int, epsilon: float) -> None:
        """Takes the next example.

        Raises:
            ValueError: If its image has another size than the one that was recorded.
        """
        if pixels.shape != self._images.shape[1:]:
            raise ValueError(f"an image is {tuple(pixels.shape)} and not {tuple(self._images.shape[1:])}")
        self._pixels = pixels  # until the queue has read them
        with self._lane.queue(), torch.no_grad():
            self._snapshot.write_to(list(self._parameters.values()), list(self._buffers.values()))
            # SGD's first step copies the gradient where this one adds it to 0: the same number.
            for state in self._optimizer.state.values():
                if (momentum := state.get("momentum_buffer")) is not None:
                    momentum.zero_()
            self._images.copy_(pixels[None], non_blocking=True)
            self._labels.fill_(label)
            self._epsilon.fill_(epsilon)
            self._active.fill_(1.0)

    def start(self, steps: int) -> None:
        """Puts so many steps into the queue."""
        self._begun = steps
        with self._lane.queue():
            self._lane.mark_begin()
            for _ in range(steps):
                self._step()
            self._seen.copy_(self._ring, non_blocking=True)
            self._lane.mark_end()

    def finish(self) -> Steps:
        """Waits for the steps that were begun."""
        seconds = self._lane.wait()
        losses, are_correct, predicted = self._seen[:, -self._begun :].tolist()
        return Steps(losses, list(map(bool, are_correct)), int(predicted[0]), seconds)

    def distance(self) -> float:
        """Euclidean distance of the weights from the pretrained ones; nothing of the slot is in its queue by then."""
        return self._snapshot.distance(list(self._parameters.values()))
