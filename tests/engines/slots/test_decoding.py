"""Images ahead of the slots, in order, and no more than asked for."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from lightning_app.data.trajectory import Failure
from lightning_app.engines.base import never
from lightning_app.engines.slots.decoding import Decoded
from lightning_app.engines.slots.scheduler import Ready
from tests.engines.networks import example


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (1, 1)).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def zero(image: Image.Image) -> Tensor:
    return torch.zeros(3, 1, 1)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_all_come_in_order(image: Path, tmp_path: Path, threads: int) -> None:
    files = [image, tmp_path / "missing.png", image, image, image]
    with Decoded([example(f, index=i) for i, f in enumerate(files)], zero, never, threads, 2) as source:
        taken = [source.take(wait=True) for _ in range(7)]
    assert [None if x is None else x.example.index for x in taken] == [0, 1, 2, 3, 4, None, None]
    assert isinstance(taken[1], Failure)
    assert isinstance(taken[4], Ready)
    assert torch.equal(taken[4].pixels, torch.zeros(3, 1, 1))


@pytest.mark.parametrize("threads", [0, 2])
def test_where_there_is_none_for_now_it_is_asked_for_again_later(image: Path, threads: int) -> None:
    coming = iter([example(image, index=0), None, None, example(image, index=1)])
    with Decoded(coming, zero, never, threads, 4) as source:
        taken = [source.take(wait=True) for _ in range(5)]
    assert [x.example.index for x in taken if x is not None] == [0, 1]


def test_nobody_waits_who_does_not_want_to(image: Path) -> None:
    may = threading.Event()

    def slow(image: Image.Image) -> Tensor:
        assert may.wait(10)
        return torch.zeros(3, 1, 1)

    with Decoded([example(image)] * 9, slow, never, 1, 2) as source:
        assert source.take(wait=False) is None
        may.set()
        assert isinstance(source.take(wait=True), Ready)


@pytest.mark.parametrize("threads", [0, 1])
def test_after_the_first_none_once_it_is_time(image: Path, threads: int) -> None:
    taken: list[int] = []

    def each() -> object:
        for index in range(50):
            taken.append(index)
            yield example(image, index=index)

    with Decoded(each(), zero, lambda: True, threads, 3) as source:  # type: ignore[arg-type]
        first = source.take(wait=True)
        assert first is not None
        assert [source.take(wait=True) for _ in range(3)] == [None] * 3
    assert len(taken) <= 3


def test_the_end_of_an_early_leaver(image: Path) -> None:
    """What nobody wants any more is not decoded, and no thread stays."""
    before = threading.active_count()
    decoded: list[int] = []

    def counted(image: Image.Image) -> Tensor:
        decoded.append(1)
        return torch.zeros(3, 1, 1)

    make: Callable[[], Decoded] = lambda: Decoded([example(image)] * 500, counted, never, 1, 400)  # noqa: E731
    with make() as source:
        source.take(wait=True)
    assert len(decoded) < 500
    assert threading.active_count() == before
