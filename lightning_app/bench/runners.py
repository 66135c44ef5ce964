"""The ways to train that are measured: the plain loop, a Trainer for every example, slots."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch.plugins.precision import Precision

from lightning_app.data.example import Example
from lightning_app.data.image import read_pixels
from lightning_app.data.trajectory import Failure, Outcome, StopRule
from lightning_app.engines.base import Engine
from lightning_app.engines.plain_loop import plain_loop
from lightning_app.training.classifier import Classifier
from lightning_app.training.pretrained import Transform


@dataclass(frozen=True)
class Ended:
    """How an example's training ended.

    Args:
        outcome: Why it ended.
        losses: Of each step, from before its update.
    """

    outcome: Outcome
    losses: Sequence[float]


Train = Callable[[Sequence[Example], StopRule], Mapping[int, Ended]]
"""Trains examples, each from the pretrained weights; the answers are by the examples' index."""


def by_plain_loop(classifier: Classifier, transform: Transform, precision: Precision, device: torch.device) -> Train:
    """What a study would be without this project: a loop over the examples, around the loop over an example's steps.

    Args:
        classifier: Has the pretrained weights; its network is moved to the device.
        transform: timm's evaluation transform.
        precision: Lightning's, for the forward pass.
        device: That trains.
    """
    precision.convert_module(classifier.network)
    network = classifier.network.eval().to(device)
    pretrained = copy.deepcopy(network.state_dict())

    def train(examples: Sequence[Example], rule: StopRule) -> Mapping[int, Ended]:
        ended: dict[int, Ended] = {}
        for example in examples:
            images = precision.convert_input(read_pixels(example.image, transform)[None].to(device))
            labels = torch.tensor([example.label], device=device)
            network.load_state_dict(pretrained)
            losses = plain_loop(classifier, images, labels, rule, precision.train_step_context)
            outcome = rule.outcome_at(len(losses), losses[-1])
            assert outcome is not None
            ended[example.index] = Ended(outcome, losses)
        return ended

    return train


def by_engine(engine: Engine) -> Train:
    """What a study does.

    Args:
        engine: Of the study.
    """

    def train(examples: Sequence[Example], rule: StopRule) -> Mapping[int, Ended]:
        ended: dict[int, Ended] = {}
        for result in engine.train(examples, rule):
            if isinstance(result, Failure):
                raise RuntimeError(f"{result.example.image} could not be trained on: {result.reason}")
            ended[result.example.index] = Ended(result.outcome, result.losses)
        return ended

    return train
