"""What a lane asks of CUDA, in which order, with a made-up CUDA; a real one is in test_on_a_gpu.py."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from lightning_app.engines.slots import cuda_lane
from lightning_app.engines.slots.cuda_lane import CudaLane

GPU = torch.device("cuda", 0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was called, with a CUDA that hands out 32 streams of a priority again and again."""
    calls: list[str] = []
    numbers = {0: itertools.cycle(range(32)), -1: itertools.cycle(range(100, 132))}

    class Stream:
        def __init__(self, device: torch.device, priority: int) -> None:
            self.cuda_stream = next(numbers[priority])

        def wait_stream(self, other: object) -> None:
            calls.append(f"{self.cuda_stream} waits")

        def synchronize(self) -> None:
            calls.append(f"{self.cuda_stream} done")

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: Stream) -> None:
            calls.append(f"mark on {stream.cuda_stream}")

        def synchronize(self) -> None:
            calls.append("waited")

        def elapsed_time(self, end: object) -> float:
            return 250.0

    class Graph:
        def replay(self) -> None:
            calls.append("replay")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        calls.append(f"on {stream.cuda_stream}")
        yield
        calls.append("off")

    @contextmanager
    def graph(graph: Graph, pool: int, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert pool == 7
        assert capture_error_mode == "thread_local"  # a thread that decodes may pin memory meanwhile
        calls.append(f"capture on {stream.cuda_stream}")
        yield
        calls.append("captured")

    pools = itertools.count(7)
    fakes: dict[str, Any] = {
        "current_stream": lambda: "the default stream",
        "set_stream": lambda stream: calls.append(f"back on {stream}"),
        "synchronize": lambda: calls.append("all done"),
        "graph_pool_handle": lambda: next(pools),
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": lambda mode: calls.append(f"sync debug {mode}"),
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "stream": on,
        "graph": graph,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    cleared = "_cuda_clearCublasWorkspaces"
    monkeypatch.setattr(torch._C, cleared, lambda: calls.append("cuBLAS cleared"), raising=False)
    ended = "_cuda_endAllocateToPool"
    monkeypatch.setattr(
        torch._C, ended, lambda index, pool: calls.append(f"pool {pool} of {index} left"), raising=False
    )
    return calls


def test_it_warms_up_and_captures_on_a_stream_of_its_own(calls: list[str]) -> None:
    lane = CudaLane(GPU, {0, 1})
    replay = lane.record(lambda: calls.append("work"))
    warm_ups = ["on 2", *["work"] * cuda_lane.WARM_UPS, "sync debug error", "work", "sync debug 0", "off", "2 done"]
    assert calls == ["2 waits", *warm_ups, "cuBLAS cleared", "capture on 2", "work", "captured"]
    calls.clear()
    with lane.queue():
        lane.mark_begin()
        replay()
        lane.mark_end()
    assert calls == ["on 2", "mark on 2", "replay", "mark on 2", "off"]
    assert lane.wait() == 0.25
    assert calls[-1] == "waited"


def test_no_two_lanes_share_a_stream(calls: list[str]) -> None:
    """Although torch hands out the same ones again after 32."""
    taken: set[int] = set()
    for _ in range(64):
        CudaLane(GPU, taken)
    assert taken == {*range(32), *range(100, 132)}
    with pytest.raises(RuntimeError, match="torch has no more than 64 streams"):
        CudaLane(GPU, taken)


def test_work_that_waits_for_the_device_fails_before_the_capture(calls: list[str]) -> None:
    def work() -> None:
        if calls[-1] == "sync debug error":
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="called a synchronizing"):
        CudaLane(GPU, set()).record(work)
    assert calls[-3:] == ["sync debug 0", "back on the default stream", "all done"]
    assert not any(call.startswith("capture") for call in calls)


def test_a_capture_that_fails_leaves_cuda_as_it_was(calls: list[str]) -> None:
    def work() -> None:
        if calls[-1].startswith("capture"):
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaLane(GPU, set()).record(work)
    assert calls[-3:] == ["pool 7 of 0 left", "back on the default stream", "all done"]
