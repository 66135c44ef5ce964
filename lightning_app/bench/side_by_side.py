"""`bench`, in the order of its steps."""

import gc
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import lightning.pytorch as L
import torch
from lightning.pytorch.plugins.precision import Precision
from tqdm import tqdm

from lightning_app.bench.examples import label_images, make_images
from lightning_app.bench.findings import Findings, line_of
from lightning_app.bench.measuring import Entrant, measure
from lightning_app.bench.memory import free_on, taken_by
from lightning_app.bench.roofline import Roofline, measure_roofline
from lightning_app.bench.runners import by_engine, by_plain_loop
from lightning_app.bench.words import words
from lightning_app.console.log import StudyLog
from lightning_app.console.progress import progress_bar
from lightning_app.console.signals import exit_at_once
from lightning_app.data.environment import environment
from lightning_app.data.example import Example
from lightning_app.data.image import read_pixels
from lightning_app.data.trajectory import StopRule
from lightning_app.engines.slots.engine import make_slots_engine
from lightning_app.engines.slots.how_many import MAX_SLOTS, SlotsUnavailableError
from lightning_app.engines.trainer import TrainerEngine
from lightning_app.errors import DONE, FAILED
from lightning_app.files import json_text
from lightning_app.settings import BenchSettings
from lightning_app.training.classifier import Classifier
from lightning_app.training.device import Device
from lightning_app.training.pretrained import Snapshot, load_pretrained

log = logging.getLogger("lightning_app")

EXAMPLES_A_SLOT = 4
"""Their lengths are uneven: with fewer, most of the time would be the end, when slots run empty."""

MakeTrainer = Callable[[list[L.Callback]], L.Trainer]


def bench(settings: BenchSettings, make_trainer: MakeTrainer, device: Device) -> int:
    """Measures the engines and prints what was found.

    Args:
        settings: Checked.
        make_trainer: Builds an example's Trainer from Lightning's flags, with these callbacks.
        device: That trains, its numerics pinned.

    Returns:
        The exit code.

    Raises:
        BadInputError: If the model can't be loaded.
    """
    with StudyLog(), exit_at_once("; a bench that is not over says nothing"), tempfile.TemporaryDirectory() as folder:
        findings = find(settings, make_trainer, device, Path(folder))
        if not findings.engines:
            log.error("none of --engines %s works here", settings.engines)
            return FAILED
    print(json_text(findings.as_dict()) if settings.json else words(findings) + "\n", end="")
    return DONE if findings.are_equal else FAILED


def find(settings: BenchSettings, make_trainer: MakeTrainer, device: Device, folder: Path) -> Findings:
    """Makes the examples and the engines, and measures.

    Args:
        settings: Checked.
        make_trainer: Builds an example's Trainer.
        device: That trains.
        folder: For the made-up images.

    Raises:
        BadInputError: If the model can't be loaded.
    """
    where = environment(device.name, device.threads, device.instructions)  # now, not after hours
    precision = make_trainer([]).precision_plugin
    examples, roofline, size = prepare(settings, precision, device.root, folder)
    entrants, unavailable = [], {}
    for name in settings.engine_names:
        try:
            entrants.append(enter(name, settings, make_trainer, precision, device.root, examples))
        except SlotsUnavailableError as error:
            log.warning("slots don't work here: %s", error)
            unavailable[name] = str(error)
    rule = StopRule(settings.epsilon, settings.max_steps_per_example)
    with _bar(settings.repeats * len(entrants)) as bar, _silent_engines():
        measure(entrants, rule, settings.repeats, device.root, bar.update)
    return Findings(
        settings=settings,
        input_size=size,
        precision=str(precision.precision),
        environment=where,
        roofline=roofline,
        engines=tuple(line_of(entrant, entrants[0], roofline) for entrant in entrants),
        unavailable=unavailable,
    )


def prepare(
    settings: BenchSettings, precision: Precision, device: torch.device, folder: Path
) -> tuple[list[Example], Roofline, tuple[int, ...]]:
    """Makes the examples, and measures what the device could do.

    Args:
        settings: Checked.
        precision: Lightning's.
        device: That trains.
        folder: For the made-up images.

    Returns:
        As many examples as the slots may need, the roofline, and the shape of an image as the model sees it.
    """
    pretrained = load_pretrained(settings.model_name)
    classifier = Classifier(pretrained.network, settings.lr, settings.weight_decay, settings.momentum)
    precision.convert_module(classifier.network)
    classifier.eval().to(device)
    has_slots = device.type == "cuda" and "slots" in settings.engine_names
    count = how_many_examples((settings.slots or MAX_SLOTS) if has_slots else 1, settings)
    size: Sequence[int] = pretrained.transform_settings["input_size"]  # type: ignore[assignment]
    files = make_images(folder, count, size[1], size[2])
    examples = label_images(files, classifier.network, pretrained.transform, precision, device)
    images = precision.convert_input(read_pixels(files[0], pretrained.transform)[None].to(device))
    labels = torch.tensor([examples[0].label], device=device)
    return examples, measure_roofline(classifier, images, labels, precision, device), tuple(images.shape[1:])


def how_many_examples(slots: int, settings: BenchSettings) -> int:
    """How many examples so many slots train."""
    return max(settings.examples, EXAMPLES_A_SLOT * slots) if slots > 1 else settings.examples


def enter(
    name: str,
    settings: BenchSettings,
    make_trainer: MakeTrainer,
    precision: Precision,
    device: torch.device,
    examples: Sequence[Example],
) -> Entrant:
    """Makes an engine, with a network of its own, and lets it train once.

    Args:
        name: Of the engine.
        settings: Checked.
        make_trainer: Builds an example's Trainer.
        precision: Lightning's.
        device: That trains.
        examples: As many as there are; it gets the first of them.

    Raises:
        SlotsUnavailableError: If slots don't work here.
    """

    def make() -> Entrant:
        pretrained = load_pretrained(settings.model_name)
        classifier = Classifier(pretrained.network, settings.lr, settings.weight_decay, settings.momentum)
        slots = 1
        if name == "plain":
            train = by_plain_loop(classifier, pretrained.transform, precision, device)
        elif name == "trainer":
            snapshot = Snapshot(classifier.network, device)
            train = by_engine(
                TrainerEngine(classifier, pretrained.transform, lambda callback: make_trainer([callback]), snapshot)
            )
        else:
            snapshot = Snapshot(classifier.network, device)
            engine = make_slots_engine(
                classifier, pretrained.transform, snapshot, precision, device, settings.slots, len(examples)
            )
            log.info("Engine: %s", engine.describe())
            slots = len(engine.scheduler.slots)
            train = by_engine(engine)
        entrant = Entrant(name, train, slots, examples[: how_many_examples(slots, settings)])
        with _silent_engines():
            train(entrant.examples, StopRule(settings.epsilon, 1))  # libraries set themselves up at their first use
        return entrant

    gc.collect()
    if device.type != "cuda":
        return make()
    torch.cuda.empty_cache()
    entrant, entrant_bytes = taken_by(make, lambda: free_on(device))
    entrant.gpu_bytes = entrant_bytes
    return entrant


def _bar(turns: int) -> "tqdm[NoReturn]":
    return progress_bar(
        total=turns, leave=True, bar_format="{n_fmt}/{total_fmt} turns |{bar}| {elapsed}, {remaining} left"
    )


@contextmanager
def _silent_engines() -> Iterator[None]:
    """What an engine says of a study would be said again at every turn."""
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)
