"""Which engine trains a study, and why."""

import logging
from collections.abc import Callable, Mapping

import lightning.pytorch as L
import torch

from lightning_app.engines.base import Engine
from lightning_app.engines.slots.engine import make_slots_engine
from lightning_app.engines.slots.how_many import SlotsUnavailableError
from lightning_app.engines.trainer import TrainerEngine
from lightning_app.errors import BadInputError
from lightning_app.settings import EngineName, StudySettings
from lightning_app.training.classifier import Classifier
from lightning_app.training.device import Device
from lightning_app.training.pretrained import Pretrained, Snapshot

log = logging.getLogger("lightning_app")

ONLY_A_TRAINER = ("callbacks", "plugins", "gradient_clip_val", "gradient_clip_algorithm")
"""Lightning's flags that need a Trainer for every example."""
PRECISIONS = ("32", "32-true", "64", "64-true", "bf16", "bf16-mixed", "bf16-true", "16-true")
"""That the slots honour. `16-mixed` waits for the device at every step, to see whether a gradient overflowed."""
A_TRAINER_EACH = "trainer, a Lightning Trainer an example"


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


def choose_engine(
    settings: StudySettings,
    pretrained: Pretrained,
    device: Device,
    flags: Mapping[str, object],
    make_trainer: Callable[[list[L.Callback]], L.Trainer],
    examples: int,
) -> Engine:
    """Makes the engine, and says in one line which it is and why.

    Args:
        settings: Of the study.
        pretrained: The model.
        device: That trains.
        flags: Lightning's.
        make_trainer: Builds a Trainer from them, with these callbacks.
        examples: That are to be trained.
    """
    classifier = Classifier(pretrained.network, settings.lr, settings.weight_decay, settings.momentum)
    snapshot = Snapshot(classifier.network, device.root)
    refused = not_for_slots(flags)
    if settings.engine == "slots" or (settings.engine == "auto" and not refused and device.kind == "cuda"):
        try:
            engine = make_slots_engine(
                classifier,
                pretrained.transform,
                snapshot,
                make_trainer([]).precision_plugin,
                device.root,
                settings.slots,
                examples,
            )
        except SlotsUnavailableError as error:
            snapshot.restore()
            log.warning("slots don't work here: %s", error)
            log.info("Engine: %s, since slots don't work here", A_TRAINER_EACH)
        else:
            log.info("Engine: %s", engine.in_words())
            return engine
    else:
        reason = refused or ("on a GPU it would be slots" if device.kind != "cuda" else "")
        log.info("Engine: %s%s", A_TRAINER_EACH, f" ({reason})" if settings.engine == "auto" else "")
    return TrainerEngine(classifier, pretrained.transform, lambda callback: make_trainer([callback]), snapshot)
