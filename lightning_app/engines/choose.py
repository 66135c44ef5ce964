"""Which engine trains a study, and why."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import lightning.pytorch as L
import torch

from lightning_app.data.worker_state import WorkerState
from lightning_app.engines.base import Engine
from lightning_app.engines.slots.engine import make_slots_engine
from lightning_app.engines.slots.how_many import SlotsUnavailableError
from lightning_app.engines.trainer import TrainerEngine
from lightning_app.engines.workers.worker import Expected, Task
from lightning_app.engines.workers.worker_pool import WorkerOptions, are_several, started_workers
from lightning_app.errors import BadInputError
from lightning_app.settings import EngineName
from lightning_app.training.classifier import Classifier
from lightning_app.training.device import Device
from lightning_app.training.pretrained import Pretrained
from lightning_app.training.snapshot import Snapshot
from lightning_app.training.trainers import TrainerMaker

log = logging.getLogger("lightning_app")

ONLY_A_TRAINER = ("callbacks", "plugins", "gradient_clip_val", "gradient_clip_algorithm")
"""Lightning's flags that need a Trainer for every example."""
PRECISIONS = ("32", "32-true", "64", "64-true", "bf16", "bf16-mixed", "bf16-true", "16-true")
"""That the slots honour. `16-mixed` waits for the device at every step, to see whether a gradient overflowed."""
A_TRAINER_EACH = "trainer, a Lightning Trainer an example"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is to be trained, and how: all that an engine is made of.

    Args:
        engine: Which one; `auto` is slots on a GPU where they work, else a Trainer an example.
        slots: How many, or None: as many as pay.
        pretrained: The model.
        lr: Learning rate of SGD.
        weight_decay: Its weight decay.
        momentum: Its momentum.
        flags: Those of Lightning's flags that numbers may depend on.
        make_trainer: Builds a Trainer from Lightning's flags.
        examples: How many are to be trained.
    """

    engine: EngineName
    slots: int | None
    pretrained: Pretrained
    lr: float
    weight_decay: float
    momentum: float
    flags: Mapping[str, object]
    make_trainer: TrainerMaker
    examples: int


def not_for_slots(flags: Mapping[str, object]) -> str | None:
    """The first of Lightning's flags that slots can't honour, as it would be typed; None if there is none."""
    for name in ONLY_A_TRAINER:
        if flags.get(name):
            return f"--trainer.{name}"
    precision = flags.get("precision")
    return None if precision is None or str(precision) in PRECISIONS else f"--trainer.precision {precision}"


def require_precision(flags: Mapping[str, object], device: torch.device) -> None:
    """Refuses a precision that Lightning would take for another one: the study would record what it didn't do.

    Raises:
        BadInputError: If it would.
    """
    precision = str(flags.get("precision"))
    if device.type == "cpu" and precision in ("16", "16-mixed"):
        raise BadInputError(f"--trainer.precision {precision} needs a GPU; on a CPU bf16-mixed is what there is")


def require_engine(name: EngineName, slots: int | None, flags: Mapping[str, object], device: torch.device) -> None:
    """Refuses an engine that can't do what other flags ask for.

    Raises:
        BadInputError: With the flag.
    """
    refused = not_for_slots(flags)
    if name == "slots" and refused:
        raise BadInputError(f"{refused} needs a Trainer for every example: --engine trainer honours it, slots can't")
    if slots is not None and (name == "trainer" or refused):
        raise BadInputError(f"--slots {slots} is of --engine slots; {refused or '--engine trainer'} has no slots")
    if slots is not None and (slots > 1 or name == "auto") and device.type != "cuda":
        raise BadInputError(f"--slots {slots}: without a CUDA GPU there is one slot, by --engine slots, and this study"
                            f" trains on {device.type}; leave --slots out")  # fmt: skip


@contextmanager
def choose_engine(
    training: Training,
    devices: Sequence[Device],
    callbacks: Sequence[L.Callback],
    workers: WorkerOptions,
    expected: Expected,
    show: Callable[[Sequence[WorkerState]], None],
) -> Iterator[Engine]:
    """Makes what trains: an engine on one device, or a worker with such an engine for each of several.

    Args:
        training: What is to be trained, and how.
        devices: That train, on this machine.
        callbacks: Of this process, for each Trainer of one device.
        workers: Whether there are several, and where.
        expected: What each worker must find as this process did.
        show: Called about once a second with how each worker is doing.

    Raises:
        BadInputError: If several can't be had, or don't fit the study.
        WorkersError: If none can start.
    """
    if not are_several(devices, workers.ray_address):
        yield one_device_engine(training, devices[0], callbacks)
        return
    make_trainer = training.make_trainer.with_overrides(accelerator=devices[0].kind, devices=1)
    make_engine = partial(one_device_engine, replace(training, make_trainer=make_trainer))
    task = Task(make_engine, make_trainer, training.pretrained, expected)
    with started_workers(task, devices, workers, show) as pool:
        yield pool


def one_device_engine(training: Training, device: Device, callbacks: Sequence[L.Callback] = ()) -> Engine:
    """Makes an engine for a device of this process, and says in one line which it is and why."""
    pretrained, refused = training.pretrained, not_for_slots(training.flags)
    classifier = Classifier(pretrained.network, training.lr, training.weight_decay, training.momentum)
    snapshot = Snapshot(classifier.network, device.root)
    if training.engine == "slots" or (training.engine == "auto" and not refused and device.kind == "cuda"):
        try:
            engine = make_slots_engine(
                classifier,
                pretrained.transform,
                snapshot,
                training.make_trainer(callbacks).precision_plugin,
                device.root,
                training.slots,
                training.examples,
            )
        except SlotsUnavailableError as error:
            snapshot.restore()
            log.warning("slots don't work here: %s", error)
            log.info("Engine: %s, since slots don't work here", A_TRAINER_EACH)
        else:
            log.info("Engine: %s", engine.describe())
            return engine
    else:
        reason = refused or ("on a GPU it would be slots" if device.kind != "cuda" else "")
        log.info("Engine: %s%s", A_TRAINER_EACH, f" ({reason})" if training.engine == "auto" else "")
    return TrainerEngine(
        classifier, pretrained.transform, lambda callback: training.make_trainer([callback, *callbacks]), snapshot
    )
