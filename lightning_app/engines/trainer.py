"""The design card's engine: for every example the pretrained weights and a new Lightning Trainer."""

import math
import time
from collections.abc import Callable, Iterable, Iterator

import lightning.pytorch as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_app.data.example import Example
from lightning_app.data.image import UnreadableImageError
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Failure, Result, Trajectory
from lightning_app.engines.base import never, unseen
from lightning_app.training.callbacks import StopAtEpsilon
from lightning_app.training.classifier import Classifier
from lightning_app.training.datamodule import SingleExample
from lightning_app.training.pretrained import Transform
from lightning_app.training.snapshot import Snapshot

MakeTrainer = Callable[[L.Callback], L.Trainer]
"""Builds the Trainer of one example around the callback that stops it."""


class TrainerEngine:
    """Trains examples one after the other: examples in, finished trajectories out.

    Args:
        classifier: Holds the pretrained network; its weights are back in place after every example.
        transform: timm's evaluation transform.
        make_trainer: Called once an example.
        snapshot: Of the classifier's network, as it was before any training.
    """

    max_in_flight = 1
    devices = 1
    steps_a_second = None

    def __init__(
        self,
        classifier: Classifier,
        transform: Transform,
        make_trainer: MakeTrainer,
        snapshot: Snapshot,
    ) -> None:
        self.classifier = classifier
        self.transform = transform
        self.make_trainer = make_trainer
        self.snapshot = snapshot

    def summary_line(self) -> None:
        """Nothing: a Trainer is at work all the time."""

    def train(
        self,
        examples: Iterable[Example | None],
        rule: StopRule,
        should_stop: Callable[[], bool] = never,
        on_steps: Callable[[int], None] = unseen,
    ) -> Iterator[Result]:
        """Trains each example from the pretrained weights; see `Engine.train`.

        Yields:
            One result an example, in their order.
        """
        for example in examples:
            if example is None:
                continue
            start = time.perf_counter()
            try:
                data = SingleExample(example.image, example.label, self.transform, rule.max_steps)
            except UnreadableImageError as error:
                yield Failure(example, str(error))
            else:
                yield self._train_one(example, data, rule, on_steps, start)
            if should_stop():
                return

    def _train_one(
        self, example: Example, data: SingleExample, rule: StopRule, on_steps: Callable[[int], None], start: float
    ) -> Trajectory:
        distance = math.nan

        def measure() -> None:
            nonlocal distance
            distance = self.snapshot.distance()

        try:
            stop = self._fit(data, lambda: StopAtEpsilon(rule, on_steps, measure))
            if stop.outcome is None:
                raise RuntimeError(
                    f"training on {example.path!r} ended after {len(stop.losses)} steps without an outcome"
                )
        finally:
            self.snapshot.restore()
        return Trajectory(
            example=example,
            outcome=stop.outcome,
            losses=stop.losses,
            predicted_before=stop.predicted_before,
            steps_to_correct=stop.steps_to_correct,
            weight_distance=math.nan if stop.outcome == "diverged" else distance,
            seconds=time.perf_counter() - start,
        )

    def _fit(self, data: SingleExample, make_stop: Callable[[], StopAtEpsilon]) -> StopAtEpsilon:
        while True:
            stop = make_stop()
            try:
                self.make_trainer(stop).fit(self.classifier, datamodule=data)
                return stop
            except SIGTERMException:
                # While a Trainer sets itself up, Lightning takes SIGTERM for its own and gives up after a step. Whether
                # to stop is not an engine's to say: the example is trained from its beginning.
                self.snapshot.restore()
