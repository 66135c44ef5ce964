from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, Precision
from PIL import Image

from lightning_app.bench.runners import EngineResult, by_engine, by_plain_loop, make_examples
from lightning_app.data.example import Example
from lightning_app.data.image import read_pixels
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.engines.base import Engine
from lightning_app.training.classifier import Classifier
from lightning_app.training.pretrained import Pretrained, load_pretrained
from tests import oracle

CPU = torch.device("cpu")


def made(folder: Path, count: int, pretrained: Pretrained, precision: Precision | None = None) -> list[Example]:
    folder.mkdir(exist_ok=True)
    network, transform = pretrained.network, pretrained.transform
    return make_examples(folder, count, (20, 30), network, transform, precision or Precision(), CPU)


def test_images_have_the_size_and_are_always_the_same(tiny_model: str, tmp_path: Path) -> None:
    pretrained = load_pretrained(tiny_model)
    files = [example.image for example in made(tmp_path, 3, pretrained)]
    again = [example.image for example in made(tmp_path / "again", 2, pretrained)]
    assert [Image.open(file).size for file in files] == [(30, 20)] * 3
    pixels = [np.asarray(Image.open(file)).tobytes() for file in files]
    assert len(set(pixels)) == 3
    assert [np.asarray(Image.open(file)).tobytes() for file in again] == pixels[:2]


def test_the_label_is_the_second_most_likely_class(tiny_model: str, tmp_path: Path) -> None:
    pretrained = load_pretrained(tiny_model)
    examples = made(tmp_path, 3, pretrained)
    assert [example.index for example in examples] == [0, 1, 2]
    for example in examples:
        logits = pretrained.network(read_pixels(example.image, pretrained.transform)[None])[0].tolist()
        assert sum(logit > logits[example.label] for logit in logits) == 1


def test_pixels_are_given_in_the_type_of_the_precision(tiny_model: str, tmp_path: Path) -> None:
    pretrained = load_pretrained(tiny_model)
    precision = DoublePrecision()
    precision.convert_module(pretrained.network)
    with pytest.raises(RuntimeError, match="type"):
        made(tmp_path, 1, pretrained)
    made(tmp_path, 1, pretrained, precision)


def test_the_plain_loop_is_the_oracle_and_begins_anew_for_every_example(tiny_model: str, tmp_path: Path) -> None:
    pretrained = load_pretrained(tiny_model)
    examples = made(tmp_path, 3, pretrained)
    train = by_plain_loop(Classifier(pretrained.network, lr=0.05), pretrained.transform, Precision(), CPU)
    rule = StopRule(0.1, 20)
    found = train([*examples, examples[0]], rule)
    for example in examples:
        expected = oracle.trajectory(tiny_model, example.image, example.label, 0.05, 0.1, 20)
        assert found[example.index] == EngineResult(expected.outcome, expected.losses)  # type: ignore[arg-type]
    assert train(examples, rule) == found


def engine_of(*results: Trajectory | Failure) -> Engine:
    """An engine whose results are given."""
    return cast(Engine, SimpleNamespace(train=lambda examples, rule: iter(results)))


def test_an_engines_results_are_by_index_in_whatever_order_they_end() -> None:
    examples = [Example(i, str(i), Path(str(i)), 0, i) for i in range(2)]
    results = [Trajectory(example, "censored", [float(example.index)], 0, -1, 0.0, 0.0) for example in examples[::-1]]
    assert by_engine(engine_of(*results))(examples, StopRule(0.1, 1)) == {
        0: EngineResult("censored", [0.0]),
        1: EngineResult("censored", [1.0]),
    }


def test_an_example_that_fails_is_no_time() -> None:
    example = Example(0, "a", Path("a.png"), 0, 1)
    with pytest.raises(RuntimeError, match=r"a\.png could not be trained on: torn"):
        by_engine(engine_of(Failure(example, "torn")))([example], StopRule(0.1, 1))
