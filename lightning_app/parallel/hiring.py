"""Several devices for a study, where its flags ask for them: one worker each, checked before anything is written."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_app.errors import BadInputError
from lightning_app.inputs.example import Example
from lightning_app.parallel.many_workers import ManyWorkers
from lightning_app.parallel.ray_crew import cluster_crew, local_crew, require_ray
from lightning_app.parallel.task import Task
from lightning_app.progress import WorkerLines
from lightning_app.settings import StudySettings
from lightning_app.store.workers import forget_workers
from lightning_app.training.device import Device

if TYPE_CHECKING:
    from lightning_app.preparing import Lightning, Prepared

PATIENCE_SECONDS = 60.0
"""Workers that a busy cluster has not started until then join later."""
FEW_WORKERS, WORKERS_A_CORE = 16, 4
"""More processes than that would leave none of them anything of the machine."""
BYTES_AN_EXAMPLE = 1000
IN_THE_IDENTITY = ("weights_sha256", "device_kind", "numerics")


def require_workers(settings: StudySettings, devices: Sequence[Device], device_flags: str) -> None:
    """Refuses several workers where they can't be had, as far as that can be told at once.

    Args:
        settings: Of the study.
        devices: That Lightning's flags choose on this machine.
        device_flags: As typed, for messages.

    Raises:
        BadInputError: With the flag.
    """
    if not _are_several(settings, devices):
        return
    kind = devices[0].kind
    if kind not in ("cpu", "cuda"):
        raise BadInputError(f"{device_flags}: several workers train on CPUs or NVIDIA GPUs, not on {kind}")
    cores = os.cpu_count() or 1
    if kind == "cpu" and len(devices) > max(FEW_WORKERS, WORKERS_A_CORE * cores):
        raise BadInputError(
            f"{device_flags} would be {len(devices)} worker processes on a machine with {cores} cores: give about one"
            " a core"
        )
    if settings.ray_address is not None and len(devices) > 1:
        raise BadInputError(f"{device_flags} is of this machine; with --ray_address --workers says how many")
    require_ray(settings.ray_address)


def _are_several(settings: StudySettings, devices: Sequence[Device]) -> bool:
    return len(devices) > 1 or settings.ray_address is not None


@contextmanager
def several_workers(
    prepared: "Prepared", lightning: "Lightning", sample: Sequence[Example], folder: Path
) -> Iterator[ManyWorkers | None]:
    """The workers of a study, ready; None where one device, this process's own, trains.

    Args:
        prepared: The study.
        lightning: Lightning's part of the command line.
        sample: All of its examples.
        folder: Of the study, for `status`.

    Raises:
        BadInputError: If they can't be had, or don't fit the study.
        WorkersError: If none can start.
    """
    settings, kind = prepared.settings, prepared.device.kind
    forget_workers(folder)  # of a run that was killed
    if not _are_several(settings, prepared.devices):
        yield None
        return
    task = Task(
        settings,
        [replace(example, image=example.image.absolute()) for example in sample],
        prepared.pretrained,
        lightning.flags,
        lightning.make_trainer.but(accelerator=kind, devices=1),
    )
    if settings.ray_address is None:
        crews = local_crew(task, [device.root.index for device in prepared.devices], _size(task))
    else:
        crews = cluster_crew(task, kind, settings.ray_address, settings.workers)
    with crews as crew, WorkerLines(folder) as lines:
        workers = ManyWorkers(
            crew,
            sample,
            {name: prepared.identity[name] for name in IN_THE_IDENTITY},
            prepared.environment,
            settings.allow_mixed_environment,
            settings.max_retries,
            lines.show,
        )
        workers.wait_for_workers(PATIENCE_SECONDS)
        yield workers


def _size(task: Task) -> int:
    network = task.pretrained.network
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + BYTES_AN_EXAMPLE * len(task.sample)
