from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.precision import Precision

from lightning_app.bench.examples import label_images, make_images
from lightning_app.bench.runners import Ended, by_engine, by_plain_loop
from lightning_app.data.example import Example
from lightning_app.data.trajectory import Failure, StopRule, Trajectory
from lightning_app.engines.base import never, unseen
from lightning_app.training.classifier import Classifier
from lightning_app.training.pretrained import load_pretrained
from tests import oracle

CPU = torch.device("cpu")


def test_the_plain_loop_is_the_oracle_and_begins_anew_for_every_example(tiny_model: str, tmp_path: Path) -> None:
    pretrained = load_pretrained(tiny_model)
    files = make_images(tmp_path, 3, 32, 32)
    examples = label_images(files, pretrained.network, pretrained.transform, Precision(), CPU)
    train = by_plain_loop(Classifier(pretrained.network, lr=0.05), pretrained.transform, Precision(), CPU)
    rule = StopRule(0.1, 20)
    found = train([*examples, examples[0]], rule)
    for example in examples:
        expected = oracle.trajectory(tiny_model, example.image, example.label, 0.05, 0.1, 20)
        assert found[example.index] == Ended(expected.outcome, expected.losses)  # type: ignore[arg-type]
    assert train(examples, rule) == found


class Told:
    """An engine whose results are given."""

    def __init__(self, *results: Trajectory | Failure) -> None:
        self.results = results

    max_in_flight = 1
    devices = 1
    steps_a_second = None

    def summary_line(self) -> None:
        pass

    def train(
        self,
        examples: Iterable[Example | None],
        rule: StopRule,
        should_stop: Callable[[], bool] = never,
        on_steps: Callable[[int], None] = unseen,
    ) -> Iterator[Trajectory | Failure]:
        return iter(self.results)


def test_an_engines_results_are_by_index_in_whatever_order_they_end() -> None:
    examples = [Example(i, str(i), Path(str(i)), 0, i) for i in range(2)]
    results = [Trajectory(example, "censored", [float(example.index)], 0, -1, 0.0, 0.0) for example in examples[::-1]]
    assert by_engine(Told(*results))(examples, StopRule(0.1, 1)) == {
        0: Ended("censored", [0.0]),
        1: Ended("censored", [1.0]),
    }


def test_an_example_that_fails_is_no_time() -> None:
    example = Example(0, "a", Path("a.png"), 0, 1)
    with pytest.raises(RuntimeError, match=r"a\.png could not be trained on: torn"):
        by_engine(Told(Failure(example, "torn")))([example], StopRule(0.1, 1))
