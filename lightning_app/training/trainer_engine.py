"""The design card's engine: for every example the pretrained weights and a new Lightning Trainer."""

import math
import time
from collections.abc import Callable, Iterable, Iterator

import lightning.pytorch as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_app.inputs.example import Example
from lightning_app.training.callbacks import StopAtEpsilon
from lightning_app.training.classifier import Classifier
from lightning_app.training.datamodule import SingleExample
from lightning_app.training.photograph import UnreadableImageError
from lightning_app.training.pretrained import Snapshot, Transform
from lightning_app.training.trajectory import Failure, StopRule, Trajectory

MakeTrainer = Callable[[L.Callback], L.Trainer]
"""Builds the Trainer of one example around the callback that stops it."""


class TrainerEngine:
    """Trains examples one after the other: examples in, finished trajectories out.

    Args:
        classifier: Holds the pretrained network; its weights are back in place after every example.
        transform: timm's evaluation transform.
        rule: When an example is done.
        make_trainer: Called once an example.
        on_step: Called after every step, for a progress bar.
    """

    def __init__(
        self,
        classifier: Classifier,
        transform: Transform,
        rule: StopRule,
        make_trainer: MakeTrainer,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        self.classifier = classifier
        self.transform = transform
        self.rule = rule
        self.make_trainer = make_trainer
        self.on_step = on_step
        self.snapshot = Snapshot(classifier.network)

    def train(self, examples: Iterable[Example]) -> Iterator[Trajectory | Failure]:
        """Trains each example from the pretrained weights.

        Yields:
            One result an example, in their order. An image that can't be read is a `Failure`; the rest goes on.
        """
        for example in examples:
            start = time.perf_counter()
            try:
                data = SingleExample(example.image, example.label, self.transform, self.rule.max_steps)
            except UnreadableImageError as error:
                yield Failure(example, str(error))
                continue
            yield self._train_one(example, data, start)

    def _train_one(self, example: Example, data: SingleExample, start: float) -> Trajectory:
        try:
            stop = self._fit(data)
            if stop.outcome is None:
                raise RuntimeError(
                    f"training on {example.path!r} ended after {len(stop.losses)} steps without an outcome"
                )
            distance = math.nan if stop.outcome == "diverged" else self.snapshot.distance()
        finally:
            self.snapshot.restore()
        return Trajectory(
            example=example,
            outcome=stop.outcome,
            losses=stop.losses,
            predicted_before=stop.predicted_before,
            steps_to_correct=stop.steps_to_correct,
            weight_distance=distance,
            seconds=time.perf_counter() - start,
        )

    def _fit(self, data: SingleExample) -> StopAtEpsilon:
        while True:
            stop = StopAtEpsilon(self.rule, self.on_step)
            try:
                self.make_trainer(stop).fit(self.classifier, datamodule=data)
                return stop
            except SIGTERMException:
                # While a Trainer sets itself up, Lightning takes SIGTERM for its own and gives up after a step. Whether
                # to stop is not an engine's to say: the example is trained from its beginning.
                self.snapshot.restore()
