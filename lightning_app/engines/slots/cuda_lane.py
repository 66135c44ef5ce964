"""A stream of its own, and a CUDA graph captured on it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

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
