"""Several devices for a study, where its flags ask for them: one worker each, checked before anything is written."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning_app.console.progress import WorkerLines
from lightning_app.engines.workers.pool import WorkerPool
from lightning_app.engines.workers.ray_actors import cluster_workers, local_workers, require_ray
from lightning_app.engines.workers.worker import Task
from lightning_app.errors import BadInputError
from lightning_app.settings import StudySettings
from lightning_app.store.workers import forget_workers
from lightning_app.training.device import Device

PATIENCE_SECONDS = 60.0
"""Workers that a busy cluster has not started until then join later."""
FEW_WORKERS, WORKERS_A_CORE = 16, 4
"""More processes than that would leave none of them anything of the machine."""


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
def several_workers(task: Task, devices: Sequence[Device], folder: Path) -> Iterator[WorkerPool | None]:
    """The workers of a study, ready; None where one device, this process's own, trains.

    Args:
        task: For all of them.
        devices: That Lightning's flags choose on this machine.
        folder: Of the study, for `status`.

    Raises:
        BadInputError: If they can't be had, or don't fit the study.
        WorkersError: If none can start.
    """
    settings, kind = task.settings, devices[0].kind
    forget_workers(folder)  # of a run that was killed
    if not _are_several(settings, devices):
        yield None
        return
    if settings.ray_address is None:
        connected = local_workers(task, [device.root.index for device in devices])
    else:
        connected = cluster_workers(task, kind, settings.ray_address)
    with connected as actors, WorkerLines(folder) as lines:
        pool = WorkerPool(actors, settings.max_retries, lines.show)
        pool.wait_for_workers(PATIENCE_SECONDS)
        yield pool
