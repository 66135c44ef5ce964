from typing import Any

import lightning.pytorch as L
import pytest
import torch

from lightning_app.errors import BadInputError
from lightning_app.training.device import pin_numerics, resolve_device, resolve_devices


def test_lightnings_flags_choose_one_device() -> None:
    device = resolve_device(lambda callbacks: L.Trainer(accelerator="cpu", devices=1, logger=False), "")
    assert (device.kind, device.name) == ("cpu", "cpu")


def test_a_command_that_uses_one_device_refuses_two() -> None:
    with pytest.raises(BadInputError, match=r"--flags is 2 devices, and this command uses one.*has: cpu"):
        resolve_device(lambda callbacks: L.Trainer(accelerator="cpu", devices=2, logger=False), "--flags")


def test_lightnings_flags_choose_several_devices() -> None:
    devices = resolve_devices(lambda callbacks: L.Trainer(accelerator="cpu", devices=3, logger=False), "")
    assert [device.kind for device in devices] == ["cpu"] * 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("devices", [1, [1], "1,"])
def test_a_gpu_that_is_not_there(devices: object) -> None:
    with pytest.raises(BadInputError, match=r"Lightning refuses its flags: .*\(--flags; this machine has: cpu"):
        resolve_device(lambda callbacks: L.Trainer(accelerator="gpu", devices=devices, logger=False), "--flags")  # type: ignore[arg-type]


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


def test_another_precision_of_products_is_recorded() -> None:
    try:
        recorded = pin_numerics("cpu", "high")
        assert (recorded["float32_matmul_precision"], recorded["cudnn_tf32"]) == ("high", True)
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("high", True)
    finally:
        assert pin_numerics("cpu")["cudnn_tf32"] is False


def test_on_cuda_kernels_that_add_in_no_fixed_order_are_switched_off() -> None:
    cuda: Any = torch.backends.cuda
    switches = {
        cuda.enable_flash_sdp: cuda.flash_sdp_enabled(),
        cuda.enable_mem_efficient_sdp: cuda.mem_efficient_sdp_enabled(),
        cuda.enable_cudnn_sdp: cuda.cudnn_sdp_enabled(),
    }
    try:
        assert pin_numerics("cpu")["deterministic_algorithms"] is False
        assert cuda.flash_sdp_enabled()  # the CPU's attention obeys the same switch, and keeps its usual bits
        recorded = pin_numerics("cuda")
        assert (recorded["deterministic_algorithms"], recorded["fused_attention"]) == (True, False)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        enabled = [cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()]
        assert enabled == [False, False, False]
        assert cuda.math_sdp_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        for switch, before in switches.items():
            switch(before)
