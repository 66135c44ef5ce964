from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, Precision
from PIL import Image

from lightning_app.bench.examples import label_images, make_images
from lightning_app.data.image import read_pixels
from lightning_app.training.pretrained import load_pretrained


def test_images_have_the_size_and_are_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    files = make_images(tmp_path, 3, height=20, width=30)
    again = make_images(tmp_path / "again", 2, height=20, width=30)
    assert [Image.open(file).size for file in files] == [(30, 20)] * 3
    pixels = [np.asarray(Image.open(file)).tobytes() for file in files]
    assert len(set(pixels)) == 3
    assert [np.asarray(Image.open(file)).tobytes() for file in again] == pixels[:2]


def test_the_label_is_the_second_most_likely_class(tiny_model: str, tmp_path: Path) -> None:
    pretrained = load_pretrained(tiny_model)
    files = make_images(tmp_path, 3, 32, 32)
    examples = label_images(files, pretrained.network, pretrained.transform, Precision(), torch.device("cpu"))
    assert [(example.index, example.image) for example in examples] == list(enumerate(files))
    for example in examples:
        logits = pretrained.network(read_pixels(example.image, pretrained.transform)[None])[0].tolist()
        assert sum(logit > logits[example.label] for logit in logits) == 1


def test_pixels_are_given_in_the_type_of_the_precision(tiny_model: str, tmp_path: Path) -> None:
    pretrained = load_pretrained(tiny_model)
    precision = DoublePrecision()
    precision.convert_module(pretrained.network)
    (file,) = make_images(tmp_path, 1, 32, 32)
    with pytest.raises(RuntimeError, match="type"):
        label_images([file], pretrained.network, pretrained.transform, Precision(), torch.device("cpu"))
    label_images([file], pretrained.network, pretrained.transform, precision, torch.device("cpu"))
