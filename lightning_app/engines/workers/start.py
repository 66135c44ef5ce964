"""Several devices for a study, where its flags ask for them: one worker each, checked before anything is written."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lightning_app.data.worker_state import WorkerState
from lightning_app.engines.workers.ray_actors import cluster_workers, local_workers, require_ray
from lightning_app.engines.workers.worker import Task
from lightning_app.engines.workers.worker_pool import WorkerPool
from lightning_app.errors import BadInputError
from lightning_app.training.device import Device

PATIENCE_SECONDS = 60.0
"""Workers that a busy cluster has not started until then join later."""
MAX_WORKERS_ANYWHERE, WORKERS_A_CORE = 16, 4
"""More processes than that would leave none of them anything of the machine."""


@dataclass(frozen=True)
class WorkerOptions:
    """Where several workers are.

    Args:
        ray_address: Of a cluster, or None: on this machine, one a device.
        at_most: No more of a cluster's devices than these; None for all.
        max_retries: How often an example is trained again after its worker was lost.
    """

    ray_address: str | None = None
    at_most: int | None = None
    max_retries: int = 3


def are_several(devices: Sequence[Device], ray_address: str | None) -> bool:
    """Whether workers train, or this process itself."""
    return len(devices) > 1 or ray_address is not None


def require_workers(devices: Sequence[Device], ray_address: str | None, device_flags: str) -> None:
    """Refuses several workers where they can't be had, as far as that can be told at once.

    Args:
        devices: That Lightning's flags choose on this machine.
        ray_address: Of a cluster, or None.
        device_flags: As typed, for messages.

    Raises:
        BadInputError: With the flag.
    """
    if not are_several(devices, ray_address):
        return
    kind = devices[0].kind
    if kind not in ("cpu", "cuda"):
        raise BadInputError(f"{device_flags}: several workers train on CPUs or NVIDIA GPUs, not on {kind}")
    cores = os.cpu_count() or 1
    if kind == "cpu" and len(devices) > max(MAX_WORKERS_ANYWHERE, WORKERS_A_CORE * cores):
        raise BadInputError(
            f"{device_flags} would be {len(devices)} worker processes on a machine with {cores} cores: give about one"
            " a core"
        )
    if ray_address is not None and len(devices) > 1:
        raise BadInputError(f"{device_flags} is of this machine; with --ray_address --workers says how many")
    require_ray(ray_address)


@contextmanager
def started_workers(
    task: Task,
    devices: Sequence[Device],
    options: WorkerOptions,
    show: Callable[[Sequence[WorkerState]], None],
) -> Iterator[WorkerPool]:
    """The workers of a study, ready.

    Args:
        task: For all of them.
        devices: That Lightning's flags choose on this machine.
        options: Where they are.
        show: Called about once a second with how each is doing.

    Raises:
        BadInputError: If they can't be had, or don't fit the study.
        WorkersError: If none can start.
    """
    if options.ray_address is None:
        connected = local_workers(task, [device.root.index for device in devices], options.max_retries)
    else:
        kind = devices[0].kind
        connected = cluster_workers(task, kind, options.ray_address, options.at_most, options.max_retries)
    with connected as actors:
        pool = WorkerPool(actors, options.max_retries, show)
        pool.wait_for_workers(PATIENCE_SECONDS)
        yield pool
