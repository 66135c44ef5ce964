"""The loop that the others are compared with is the oracle's."""

from pathlib import Path

import torch
from PIL import Image

from lightning_app.data.stop_rule import StopRule
from lightning_app.engines.plain_loop import plain_loop
from lightning_app.training.classifier import Classifier
from lightning_app.training.pretrained import load_pretrained
from lightning_app.training.snapshot import Snapshot
from tests import oracle


def test_it_is_the_oracle(tiny_model: str, photographs: Path) -> None:
    pretrained = load_pretrained(tiny_model)
    image = photographs / "cat" / "04.jpg"
    pixels = pretrained.transform(Image.open(image).convert("RGB"))[None]
    snapshot = Snapshot(pretrained.network)
    for epsilon, limit in ((0.1, 60), (1e-9, 7)):
        losses = plain_loop(Classifier(pretrained.network, 0.05), pixels, torch.tensor([3]), StopRule(epsilon, limit))
        expected = oracle.trajectory(tiny_model, image, 3, 0.05, epsilon, limit)
        assert losses == expected.losses
        assert snapshot.distance() > 0
        snapshot.restore()
