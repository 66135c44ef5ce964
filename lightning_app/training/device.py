"""The devices that train, and numerics that give the same numbers every time."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import lightning.pytorch as L
import torch
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.errors import BadInputError


@dataclass(frozen=True)
class Device:
    """Where training runs.

    Args:
        root: torch's device.
        name: The model of the GPU; the kind itself elsewhere.
    """

    root: torch.device
    name: str

    @property
    def threads(self) -> int:
        """CPU threads of one operation."""
        return torch.get_num_threads()

    @property
    def instructions(self) -> str | None:
        """The CPU instructions that torch uses, such as AVX2, on which bits depend; None where a GPU trains."""
        return torch.backends.cpu.get_cpu_capability() if self.kind == "cpu" else None

    @property
    def kind(self) -> str:
        """`cpu`, `cuda` or `mps`."""
        return self.root.type


def resolve_device(make_trainer: Callable[[list[L.Callback]], L.Trainer], asked_for: str) -> Device:
    """Lets Lightning's own flags choose one device; see `resolve_devices`.

    Raises:
        BadInputError: If the device isn't there (says what is), or more than one is asked for.
    """
    first, *others = resolve_devices(make_trainer, asked_for)
    if others:
        raise BadInputError(
            f"{asked_for} is {1 + len(others)} devices, and this command uses one: choose one (--trainer.devices 1, or"
            f' --trainer.devices "0," for the first); this machine has: {_what_is_there()}'
        )
    return first


def resolve_devices(make_trainer: Callable[[list[L.Callback]], L.Trainer], asked_for: str) -> tuple[Device, ...]:
    """Lets Lightning's own flags choose the devices.

    Args:
        make_trainer: Builds a Trainer from those flags, with these callbacks.
        asked_for: The flags as typed, for messages.

    Returns:
        At least one.

    Raises:
        BadInputError: If a device isn't there (says what is).
    """
    try:
        trainer = make_trainer([])
    except (MisconfigurationException, ImportError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInputError(
            f"Lightning refuses its flags: {reason.rstrip('.')} ({asked_for}; this machine has: {_what_is_there()})"
        ) from error
    strategy = trainer.strategy
    many = strategy.parallel_devices if isinstance(strategy, ParallelStrategy) else None
    roots = many or [strategy.root_device]
    return tuple(Device(root, torch.cuda.get_device_name(root) if root.type == "cuda" else root.type) for root in roots)


def _what_is_there() -> str:
    gpus = [f"GPU {i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return ", ".join(["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])])


def pin_numerics(device_kind: str, matmul_precision: str = "highest") -> dict[str, object]:
    """Makes repeats bit-identical on one device.

    One CPU thread: the number of threads changes the last bits, and small images gain little from more. On CUDA IEEE
    float32, deterministic and unsearched kernels, and attention by plain matrix products: the fused kernels' backward
    pass adds in no fixed order. A CUDA kernel that has no deterministic form says so in the log.

    Args:
        device_kind: `cpu`, `cuda` or `mps`.
        matmul_precision: torch's name for how float32 is multiplied; below `highest` convolutions may use TF32 too.

    Returns:
        What was set, for a study's identity.
    """
    torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_float32_matmul_precision(matmul_precision)
    torch.backends.cudnn.allow_tf32 = matmul_precision != "highest"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    if device_kind == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        # No number depends on what is in memory that isn't written to yet, and filling it is a kernel each time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "fused_attention": device_kind != "cuda",
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cublas_workspace": os.environ["CUBLAS_WORKSPACE_CONFIG"],
    }
