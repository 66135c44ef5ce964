"""What a worker is to do, and how it gets ready for it."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_app.engines import choose_engine
from lightning_app.inputs.example import Example
from lightning_app.parallel.messages import Introduction
from lightning_app.settings import StudySettings
from lightning_app.store.fingerprint import environment
from lightning_app.training.device import pin_numerics, resolve_device
from lightning_app.training.engine import Engine
from lightning_app.training.pretrained import Pretrained, weights_sha256
from lightning_app.training.trainers import TrainerMaker, quieten_lightning


@dataclass(frozen=True)
class Task:
    """All that a worker has to know of a study. It travels to each machine once.

    Args:
        settings: Of the study.
        sample: Its examples, with images by absolute paths.
        pretrained: The model.
        flags: Those of Lightning's flags that numbers may depend on.
        trainers: Builds an example's Trainer on one device of this kind.
    """

    settings: StudySettings
    sample: Sequence[Example]
    pretrained: Pretrained
    flags: Mapping[str, object]
    trainers: TrainerMaker


def get_ready(task: Task) -> tuple[Engine, Introduction]:
    """Makes the engine of this process's one device.

    Raises:
        BadInputError: If the device isn't there.
    """
    quieten_lightning()
    device = resolve_device(task.trainers, "a worker's own device")
    numerics = pin_numerics(device.kind, task.settings.matmul_precision)
    numbers = {
        "weights_sha256": weights_sha256(task.pretrained.network),
        "device_kind": device.kind,
        "numerics": numerics,
    }
    engine = choose_engine(task.settings, task.pretrained, device, task.flags, task.trainers, len(task.sample))
    image = task.sample[0].image
    introduction = Introduction(
        host=socket.gethostname(),
        device=device.name,
        numbers=numbers,
        environment=environment(device.name, device.threads, device.instructions),
        at_once=engine.at_once,
        steps_a_second=engine.steps_a_second,
        unseen=None if image.is_file() else str(image),
    )
    return engine, introduction
