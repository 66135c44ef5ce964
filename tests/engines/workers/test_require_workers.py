"""Which flags ask for several workers, and what is refused before anything is loaded."""

import sys
from typing import Any

import pytest
import torch

from lightning_app.cli import main
from lightning_app.engines.workers.worker_pool import require_workers
from lightning_app.errors import BadInputError
from lightning_app.training.device import Device

CPU = Device(torch.device("cpu"), "cpu")
MPS = Device(torch.device("mps"), "mps")
FLAGS = "--trainer.accelerator x --trainer.devices y"


@pytest.mark.parametrize(
    ("options", "devices", "message"),
    [
        ({"ray_address": None}, [MPS, MPS], f"{FLAGS}: several workers train on CPUs or NVIDIA GPUs, not on mps"),
        ({"ray_address": "auto"}, [MPS], "not on mps"),
        ({"ray_address": "auto"}, [CPU, CPU], f"{FLAGS} is of this machine; with --ray_address --workers says how"),
    ],
)
def test_what_can_not_be(options: dict[str, Any], devices: list[Device], message: str) -> None:
    with pytest.raises(BadInputError) as error:
        require_workers(devices, **options, device_flags=FLAGS)
    assert message in str(error.value)


def test_one_device_needs_no_ray_and_several_say_how_it_is_installed(
    study: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it would fail
    require_workers([MPS], None, FLAGS)
    assert main([*study, "--max_examples", "1"]) == 0
    capsys.readouterr()
    assert main([*study, "--trainer.devices", "2"]) == 2
    assert capsys.readouterr().err == (
        "steps-to-epsilon run: error: several workers need Ray, which is not installed:"
        " pip install 'steps-to-epsilon[ray]'\n"
    )
