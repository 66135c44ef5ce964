"""What is trained on, made-up images, and by what: the plain loop or an engine."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.plugins.precision import Precision
from PIL import Image
from torch import nn

from lightning_app.data.example import Example
from lightning_app.data.image import read_pixels
from lightning_app.data.stop_rule import Outcome, StopRule
from lightning_app.data.trajectory import Failure
from lightning_app.engines.base import Engine
from lightning_app.engines.plain_loop import plain_loop
from lightning_app.training.classifier import Classifier
from lightning_app.training.pretrained import Transform

PATCHES = 8
"""Random colours along each side of an image."""


@torch.no_grad()
def make_examples(
    folder: Path,
    count: int,
    size: Sequence[int],
    network: nn.Module,
    transform: Transform,
    precision: Precision,
    device: torch.device,
) -> list[Example]:
    """Writes smooth random colours as PNG files; image i is always the same.

    Its label is the class that the model finds second most likely: wrong, and some are sooner mended than others.

    Args:
        folder: Where.
        count: How many.
        size: Height and width, in pixels.
        network: On the device, in the precision.
        transform: timm's evaluation transform.
        precision: Lightning's.
        device: That trains.
    """
    examples = []
    for i in range(count):
        coarse = np.random.default_rng(i).integers(0, 256, (PATCHES, PATCHES, 3), dtype=np.uint8)
        file = folder / f"{i:04}.png"
        Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(file)
        images = precision.convert_input(read_pixels(file, transform)[None].to(device))
        with precision.forward_context():
            label = int(network(images)[0].topk(2).indices[1].item())
        examples.append(Example(i, file.name, file, label, i + 1))
    return examples


@dataclass(frozen=True)
class EngineResult:
    """How an example's training ended.

    Args:
        outcome: Why it ended.
        losses: Of each step, from before its update.
    """

    outcome: Outcome
    losses: Sequence[float]


Train = Callable[[Sequence[Example], StopRule], Mapping[int, EngineResult]]
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

    def train(examples: Sequence[Example], rule: StopRule) -> Mapping[int, EngineResult]:
        ended: dict[int, EngineResult] = {}
        for example in examples:
            images = precision.convert_input(read_pixels(example.image, transform)[None].to(device))
            labels = torch.tensor([example.label], device=device)
            network.load_state_dict(pretrained)
            losses = plain_loop(classifier, images, labels, rule, precision.train_step_context)
            outcome = rule.outcome_at(len(losses), losses[-1])
            assert outcome is not None
            ended[example.index] = EngineResult(outcome, losses)
        return ended

    return train


def by_engine(engine: Engine) -> Train:
    """What a study does.

    Args:
        engine: Of the study.
    """

    def train(examples: Sequence[Example], rule: StopRule) -> Mapping[int, EngineResult]:
        ended: dict[int, EngineResult] = {}
        for result in engine.train(examples, rule):
            if isinstance(result, Failure):
                raise RuntimeError(f"{result.example.image} could not be trained on: {result.reason}")
            ended[result.example.index] = EngineResult(result.outcome, result.losses)
        return ended

    return train
