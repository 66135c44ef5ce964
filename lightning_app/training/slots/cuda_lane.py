"""A stream of its own, and a CUDA graph captured on it."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

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
        self._stream = _another_stream(device, taken)
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Captures work in a graph, after it has run a few times and libraries have set themselves up."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                work()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            work()
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


def _another_stream(device: torch.device, taken: set[int]) -> torch.cuda.Stream:
    for priority in (0, -1):
        for _ in range(STREAMS_OF_A_PRIORITY):
            stream = torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]
            if stream.cuda_stream not in taken:
                taken.add(stream.cuda_stream)
                return stream
    raise RuntimeError(f"torch has no more than {len(taken)} streams")
