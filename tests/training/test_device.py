import lightning.pytorch as L
import pytest
import torch

from lightning_app.errors import BadInputError
from lightning_app.training.device import pin_numerics, resolve_device


def test_lightnings_flags_choose_one_device() -> None:
    device = resolve_device(lambda: L.Trainer(accelerator="cpu", devices=1, logger=False), "")
    assert (device.kind, device.name) == ("cpu", "cpu")


def test_more_than_one_is_still_to_come() -> None:
    with pytest.raises(BadInputError, match=r"--flags is 2 devices: more than one is still to come.*has: cpu"):
        resolve_device(lambda: L.Trainer(accelerator="cpu", devices=2, logger=False), "--flags")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("devices", [1, [1], "1,"])
def test_a_gpu_that_is_not_there(devices: object) -> None:
    with pytest.raises(BadInputError, match=r"Lightning refuses its flags: .*\(--flags; this machine has: cpu"):
        resolve_device(lambda: L.Trainer(accelerator="gpu", devices=devices, logger=False), "--flags")  # type: ignore[arg-type]


def test_numerics_are_pinned_and_recorded() -> None:
    torch.set_num_threads(2)
    torch.backends.cudnn.benchmark = True
    recorded = pin_numerics("cpu")
    assert torch.get_num_threads() == 1
    assert "cpu_threads" not in recorded  # threads are environment, not identity
    assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == recorded["float32_matmul_precision"] == "highest"
