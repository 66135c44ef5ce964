from pathlib import Path

import lightning.pytorch as L
import pytest
import torch

from lightning_app.bench import side_by_side
from lightning_app.settings import BenchSettings
from lightning_app.training.device import Device


def test_the_environment_is_told_before_anything_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> dict[str, object]:
        raise LookupError("the environment")

    def measured(*_: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(side_by_side, "environment", unknown)
    monkeypatch.setattr(side_by_side, "prepare", measured)
    device = Device(torch.device("cpu"), "cpu")
    with pytest.raises(LookupError, match="the environment"):
        side_by_side.find(BenchSettings(model_name="any"), lambda _: L.Trainer(accelerator="cpu"), device, tmp_path)
