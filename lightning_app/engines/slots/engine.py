"""The slots as an engine: examples in, finished trajectories out."""

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch.plugins.precision import Precision
from PIL import Image

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Result
from lightning_app.engines.base import never, unseen
from lightning_app.engines.slots.decoding import Decoded
from lightning_app.engines.slots.eager_slot import EagerSlot
from lightning_app.engines.slots.graph_slot import CudaLane, GraphSlot
from lightning_app.engines.slots.how_many import MAX_SLOTS, TRIAL, SlotMaker, SlotsUnavailableError, fill, why
from lightning_app.engines.slots.scheduler import Scheduler, Slot
from lightning_app.engines.slots.self_check import SelfCheck, noise
from lightning_app.training.classifier import Classifier
from lightning_app.training.pretrained import Transform
from lightning_app.training.snapshot import Snapshot

log = logging.getLogger("lightning_app")

MAX_DECODERS = 4
SPARE_BYTES = 2**30
"""Bytes of a GPU that are left to others."""


@dataclass(frozen=True)
class SlotsEngine:
    """Trains as many examples at once as there are slots.

    Args:
        scheduler: Has the slots.
        transform: timm's evaluation transform.
        snapshot: Puts the pretrained weights back at the end.
        decoders: Threads that decode images ahead; 0 decodes each when it is needed.
        gpu: That the slots are on; None where they are on none.
        maker: Keeps all slots that were made.
        checked: Steps on noise that were the plain loop's.
        steps_a_second: Of all slots together, where it was measured.
    """

    scheduler: Scheduler
    transform: Transform
    snapshot: Snapshot
    decoders: int
    gpu: torch.device | None
    maker: SlotMaker
    checked: int
    steps_a_second: float | None = None

    @property
    def max_in_flight(self) -> int:
        """What is in slots, and what is decoded ahead."""
        return len(self.scheduler.slots) + self._ahead if self.decoders else 1

    @property
    def devices(self) -> int:
        """One."""
        return 1

    @property
    def _ahead(self) -> int:
        return len(self.scheduler.slots) + self.decoders

    def describe(self) -> str:
        """What it is, for the log."""
        one = "one example at a time, without a Trainer"
        many = (
            f"{len(self.scheduler.slots)} examples at once, each with a CUDA graph of its step, losses read every"
            f" {self.scheduler.steps_at_once} steps (CUDA_DEVICE_MAX_CONNECTIONS is"
            f" {os.environ.get('CUDA_DEVICE_MAX_CONNECTIONS', 'not set')})"
        )
        checked = f"{self.checked} steps on noise are the plain loop's, bit for bit"
        return f"slots, {one if self.gpu is None else many}; {checked}"

    def train(
        self,
        examples: Iterable[Example | None],
        rule: StopRule,
        should_stop: Callable[[], bool] = never,
        on_steps: Callable[[int], None] = unseen,
    ) -> Iterator[Result]:
        """Trains each example from the pretrained weights; see `Engine.train`."""
        with Decoded(examples, self.transform, should_stop, self.decoders, self._ahead, self.gpu) as source:
            try:
                yield from self.scheduler.train(source, rule, on_steps)
            finally:
                self.snapshot.restore()

    def summary_line(self) -> str | None:
        """How busy the slots were."""
        usage, slots = self.scheduler.usage, len(self.scheduler.slots)
        if not usage.there:
            return None
        past = f"; in steps past an example's end {100 * usage.past_the_cut / usage.there:.1f} %" if self.gpu else ""
        return (
            f"Slots: {slots}, in steps {100 * usage.busy:.1f} % of the time{past}; the rest went to weights, images,"
            f" files{' and the end, when no example was left' if slots > 1 else ''}"
        )


def make_slots_engine(
    classifier: Classifier,
    transform: Transform,
    snapshot: Snapshot,
    precision: Precision,
    device: torch.device,
    asked_for: int | None = None,
    examples: int = MAX_SLOTS,
) -> SlotsEngine:
    """Makes the slots, and sees that their steps are the plain loop's.

    Args:
        classifier: Has the pretrained weights; its network is moved to the device.
        transform: timm's evaluation transform.
        snapshot: Of the classifier's network, as it was before any training.
        precision: Lightning's.
        device: That trains.
        asked_for: How many slots; by default as many as pay, by a short measurement. Without CUDA there is one.
        examples: That are to be trained: no more slots are made.

    Raises:
        SlotsUnavailableError: If not even one slot works.
    """
    precision.convert_module(classifier.network)
    classifier.eval().to(device)
    shape = tuple(transform(Image.new("RGB", (64, 64))).shape)
    check = SelfCheck(classifier, snapshot, precision, shape)
    if device.type != "cuda":
        maker = SlotMaker(
            lambda: EagerSlot(classifier, snapshot, precision, device),
            lambda slots: check.difference(slots, 1),
            lambda there: False,
        )
        maker.grow(1)
        snapshot.restore()
        return SlotsEngine(Scheduler(maker.slots, 1), transform, snapshot, 0, None, maker, len(check.losses))
    torch.cuda.set_device(device)
    taken: set[int] = set()
    make = functools.partial(_graph_slot, classifier, snapshot, precision, shape, device, taken)
    # With weight decay or momentum a step past the end of an example would move its weights.
    steps_at_once = 1 if classifier.weight_decay or classifier.momentum else None
    maker = SlotMaker(make, lambda slots: check.difference(slots, steps_at_once or TRIAL), FreeMemory(device))
    try:
        filled = fill(maker, noise(shape).pin_memory(), asked_for, examples, steps_at_once)
    except RuntimeError as error:
        raise SlotsUnavailableError(why(error)) from error
    decoders = min(MAX_DECODERS, max(1, (os.cpu_count() or 2) - 1))
    return SlotsEngine(
        Scheduler(filled.slots, filled.steps_at_once), transform, snapshot, decoders, device, maker, len(check.losses),
        filled.steps_a_second,
    )  # fmt: skip


class FreeMemory:
    """Whether a GPU's memory holds another slot: as much as those that are there took on average, and some to spare.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._at_first = self._free()

    def _free(self) -> int:
        torch.cuda.empty_cache()  # what torch keeps for later is free too
        return int(torch.cuda.mem_get_info(self._device)[0])

    def __call__(self, there: int) -> bool:
        """Whether there is room beside so many."""
        free = self._free()
        return free > (self._at_first - free) / there + SPARE_BYTES


def _graph_slot(
    classifier: Classifier,
    snapshot: Snapshot,
    precision: Precision,
    shape: Sequence[int],
    device: torch.device,
    taken: set[int],
) -> Slot:
    return GraphSlot(classifier, snapshot, precision, shape, CudaLane(device, taken))
