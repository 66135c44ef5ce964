import errno
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lightning_app.data.image import UnreadableImageError, read_image
from lightning_app.data.labels import Classes
from lightning_app.pool.predict import ModelPredictions, predict_all
from lightning_app.training.pretrained import Pretrained, load_pretrained
from tests import oracle

CPU = torch.device("cpu")


def ask(
    model: str, files: list[Path], labels: list[int], batch_size: int = 16, num_workers: int = 0
) -> ModelPredictions:
    done: list[int] = []
    asked = predict_all(load_pretrained(model), files, labels, CPU, batch_size, num_workers, done.append)
    assert sum(done) == len(files)
    return asked


def test_a_models_answers_are_the_plain_loops(tiny_model: str, photographs: Path) -> None:
    files = sorted(photographs.glob("*/*.jpg"))
    labels = [i // 10 for i in range(40)]
    asked = ask(tiny_model, files, labels)
    assert asked.correct.tolist() == [not oracle.wrong(tiny_model, f, y) for f, y in zip(files, labels, strict=True)]
    assert 0 < asked.correct.sum() < 40
    pretrained = load_pretrained(tiny_model)
    with torch.no_grad():
        logits = pretrained.network(torch.stack([pretrained.transform(read_image(file)) for file in files]))
    expected = torch.nn.functional.cross_entropy(logits.double(), torch.tensor(labels), reduction="none")
    assert asked.losses == pytest.approx(expected.numpy(), rel=1e-5)
    assert asked.predicted.tolist() == logits.argmax(dim=1).tolist()
    assert asked.readable.all()
    assert not asked.unreadable


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_left_out_and_named(tiny_model: str, photographs: Path, workers: int) -> None:
    good = sorted(photographs.glob("*/*.jpg"))[:5]
    bad = [Path("broken.jpg"), Path("long.png"), Path("gone.jpg")]
    bad[0].write_bytes(b"no image")
    Image.new("RGB", (3000, 1)).save(bad[1])
    files = [bad[0], *good[:3], bad[1], *good[3:], bad[2]]
    asked = ask(tiny_model, files, [0] * 8, batch_size=1, num_workers=workers)  # a batch of nothing but a broken one
    assert asked.readable.tolist() == [False, True, True, True, False, True, True, False]
    assert [asked.unreadable[place].partition(":")[0] for place in (0, 4, 7)] == [str(file) for file in bad]
    alone = ask(tiny_model, good, [0] * 5, batch_size=1)
    assert asked.losses[asked.readable].tolist() == alone.losses.tolist()
    assert np.isnan(asked.losses[[0, 4, 7]]).all()
    assert asked.accuracy == alone.accuracy


class Fixed(torch.nn.Module):
    """Logits from a table, one row an image, in order."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.place = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.place += len(pixels)
        return self.logits[self.place - len(pixels) : self.place]


@settings(max_examples=25, deadline=None)
@given(classes=st.integers(2, 9), seed=st.integers(0, 999))
def test_accuracies_are_those_counted_by_hand(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: str, classes: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    logits, labels = chance.normal(size=(12, classes)), chance.integers(0, classes, 12)
    file = tmp_path_factory.getbasetemp() / "one.png"
    Image.new("RGB", (32, 32)).save(file)
    asked = predict_all(
        fixed(tiny_model, torch.tensor(logits)), [file] * 12, labels.tolist(), CPU, 5, 0, lambda count: None
    )
    places = [int((row > row[label]).sum()) for row, label in zip(logits, labels, strict=True)]  # better classes
    assert asked.correct.tolist() == [place == 0 for place in places]
    assert asked.top5.tolist() == [place < 5 for place in places]
    assert asked.accuracy == pytest.approx((np.mean([p < 1 for p in places]), np.mean([p < 5 for p in places])))


def fixed(model: str, logits: torch.Tensor) -> Pretrained:
    """A model with these logits, one row an image."""
    pretrained = load_pretrained(model)
    return Pretrained(Fixed(logits), pretrained.transform, {}, Classes(logits.shape[1]))


def test_nan_and_a_tie_are_wrong(tiny_model: str, photographs: Path) -> None:
    files = sorted(photographs.glob("*/*.jpg"))[:3]
    logits = torch.zeros(3, 8)
    logits[0] = math.nan
    logits[1, 0] = logits[1, 3] = 5.0  # a tie of two
    logits[2, 0] = 5.0
    asked = predict_all(fixed(tiny_model, logits), files, [0, 0, 0], CPU, 3, 0, lambda count: None)
    assert asked.correct.tolist() == [0, 0, 1]
    assert asked.top5.tolist() == [0, 1, 1]
    assert asked.accuracy == pytest.approx((2 / 3, 2 / 3))  # torchmetrics takes the first of a tie
    assert math.isnan(asked.losses[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_passing_trouble_of_the_machine_is_no_fault_of_the_image(
    tiny_model: str, photographs: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def read(file: Path, transform: object) -> torch.Tensor:
        raise UnreadableImageError(f"{file}: ...") from OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("lightning_app.pool.predict.read_pixels", read)
    with pytest.raises(UnreadableImageError):
        ask(tiny_model, sorted(photographs.glob("*/*.jpg"))[:2], [0, 0], num_workers=workers)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_threads_that_decode_change_nothing(tiny_model: str, photographs: Path, batch_size: int) -> None:
    files = sorted(photographs.glob("*/*.jpg"))
    labels = [i // 10 for i in range(40)]
    threads = torch.get_num_threads()
    alone, asked = (ask(tiny_model, files, labels, batch_size, workers) for workers in (0, 3))
    for name in ("readable", "predicted", "correct", "losses", "top5"):
        assert np.array_equal(getattr(asked, name), getattr(alone, name)), name
    assert asked.accuracy == alone.accuracy
    assert torch.get_num_threads() == threads


def test_what_ends_the_asking_ends_its_threads(tiny_model: str, photographs: Path) -> None:
    def stop(count: int) -> None:
        raise SystemExit(130)

    before = threading.active_count()
    with pytest.raises(SystemExit):
        predict_all(load_pretrained(tiny_model), sorted(photographs.glob("*/*.jpg")), [0] * 40, CPU, 4, 3, stop)
    assert threading.active_count() == before
