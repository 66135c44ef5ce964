"""What a lane asks of CUDA, in which order, with a made-up CUDA; a real one is in test_on_a_gpu.py."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from lightning_app.training.slots import cuda_lane
from lightning_app.training.slots.cuda_lane import CudaLane

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
    def graph(graph: Graph, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"  # a thread that decodes may pin memory meanwhile
        calls.append(f"capture on {stream.cuda_stream}")
        yield
        calls.append("captured")

    fakes: dict[str, Any] = {"Stream": Stream, "Event": Event, "CUDAGraph": Graph, "stream": on, "graph": graph}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    return calls


def test_it_warms_up_and_captures_on_a_stream_of_its_own(calls: list[str]) -> None:
    lane = CudaLane(GPU, {0, 1})
    replay = lane.record(lambda: calls.append("work"))
    assert calls == [
        "2 waits",
        "on 2",
        *["work"] * cuda_lane.WARM_UPS,
        "off",
        "2 done",
        "capture on 2",
        "work",
        "captured",
    ]
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
