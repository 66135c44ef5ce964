"""What a lane decides, with a made-up CUDA; a real one is in test_on_a_gpu.py."""

import itertools
from unittest.mock import MagicMock

import pytest
import torch

from lightning_app.engines.slots import graph_slot as cuda_lane
from lightning_app.engines.slots.graph_slot import CudaLane

GPU = torch.device("cuda", 0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """Hands out 32 streams of a priority again and again; what cleans up after an error fails too."""
    fake = MagicMock()
    numbers = {0: itertools.cycle(range(32)), -1: itertools.cycle(range(100, 132))}
    fake.cuda.Stream = lambda device, priority: MagicMock(cuda_stream=next(numbers[priority]))
    fake.cuda.synchronize.side_effect = RuntimeError("failed due to a previous error")
    fake._C._cuda_endAllocateToPool.side_effect = RuntimeError("failed due to a previous error")
    monkeypatch.setattr(cuda_lane, "torch", fake)
    return fake


def test_no_two_lanes_share_a_stream(fake: MagicMock) -> None:
    """Although torch hands out the same ones again after 32."""
    taken: set[int] = set()
    for _ in range(64):
        CudaLane(GPU, taken)
    assert taken == {*range(32), *range(100, 132)}
    with pytest.raises(RuntimeError, match="torch has no more than 64 streams"):
        CudaLane(GPU, taken)


@pytest.mark.parametrize("times", [0, cuda_lane.WARM_UPS, cuda_lane.WARM_UPS + 1])
def test_the_error_of_the_work_is_told_whenever_it_comes_and_cuda_is_as_it_was(fake: MagicMock, times: int) -> None:
    """In the first warm-up, in the one that may not wait for the device, in the capture."""
    left = [times]

    def work() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaLane(GPU, set()).record(work)
    cuda, is_captured = fake.cuda, times > cuda_lane.WARM_UPS
    assert cuda.graph.called == fake._C._cuda_endAllocateToPool.called == is_captured
    cuda.set_stream.assert_called_with(cuda.current_stream.return_value)
    if times:
        cuda.set_sync_debug_mode.assert_called_with(cuda.get_sync_debug_mode.return_value)
