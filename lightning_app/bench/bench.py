"""`bench`, in the order of its steps."""

import gc
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as L
import torch
from lightning.pytorch.plugins.precision import Precision

from lightning_app.bench.findings import Findings, format_findings
from lightning_app.bench.measure import Candidate, measure
from lightning_app.bench.roofline import Roofline, measure_roofline
from lightning_app.bench.runners import Train, by_engine, by_plain_loop, make_examples
from lightning_app.console.log import StudyLog
from lightning_app.console.progress import progress_bar
from lightning_app.console.signals import exit_at_once
from lightning_app.data.environment import environment
from lightning_app.data.example import Example
from lightning_app.data.image import read_pixels
from lightning_app.data.stop_rule import StopRule
from lightning_app.engines.slots.engine import make_slots_engine
from lightning_app.engines.slots.how_many import MAX_SLOTS, SlotsUnavailableError
from lightning_app.engines.trainer import TrainerEngine
from lightning_app.errors import DONE, FAILED
from lightning_app.files import json_text
from lightning_app.settings import BenchSettings
from lightning_app.training.classifier import Classifier
from lightning_app.training.device import Device
from lightning_app.training.pretrained import Pretrained, load_pretrained
from lightning_app.training.snapshot import Snapshot

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
        findings = _find(settings, make_trainer, device, Path(folder))
        if not findings.engines:
            log.error("none of --engines %s works here", settings.engines)
            return FAILED
    print(json_text(findings.as_dict()) if settings.json else format_findings(findings) + "\n", end="")
    return DONE if findings.are_equal else FAILED


def _find(settings: BenchSettings, make_trainer: MakeTrainer, device: Device, folder: Path) -> Findings:
    """Makes the examples and the engines, and measures."""
    where = environment(device.name, device.threads, device.instructions)  # now, not after hours
    precision = make_trainer([]).precision_plugin
    examples, roofline, size = _prepare(settings, precision, device.root, folder)
    candidates, unavailable = [], {}
    for name in settings.engine_names:
        try:
            candidates.append(_enter(name, settings, make_trainer, precision, device.root, examples))
        except SlotsUnavailableError as error:
            log.warning("slots don't work here: %s", error)
            unavailable[name] = str(error)
    rule = StopRule(settings.epsilon, settings.max_steps_per_example)
    how = {"leave": True, "bar_format": "{n_fmt}/{total_fmt} turns |{bar}| {elapsed}, {remaining} left"}
    with progress_bar(total=settings.repeats * len(candidates), **how) as bar, _silent_engines():
        measure(candidates, rule, settings.repeats, device.root, bar.update)
    return Findings(settings, size, str(precision.precision), where, roofline, candidates, unavailable)


def _prepare(
    settings: BenchSettings, precision: Precision, device: torch.device, folder: Path
) -> tuple[list[Example], Roofline, tuple[int, ...]]:
    """As many examples as the slots may need, the roofline, and the shape of an image as the model sees it."""
    classifier, pretrained = _load(settings)
    precision.convert_module(classifier.network)
    classifier.eval().to(device)
    has_slots = device.type == "cuda" and "slots" in settings.engine_names
    count = how_many_examples((settings.slots or MAX_SLOTS) if has_slots else 1, settings)
    size: Sequence[int] = pretrained.transform_settings["input_size"]  # type: ignore[assignment]
    examples = make_examples(folder, count, size[1:], classifier.network, pretrained.transform, precision, device)
    images = precision.convert_input(read_pixels(examples[0].image, pretrained.transform)[None].to(device))
    labels = torch.tensor([examples[0].label], device=device)
    return examples, measure_roofline(classifier, images, labels, precision, device), tuple(images.shape[1:])


def how_many_examples(slots: int, settings: BenchSettings) -> int:
    """How many examples so many slots train."""
    return max(settings.examples, EXAMPLES_A_SLOT * slots) if slots > 1 else settings.examples


def _enter(
    name: str,
    settings: BenchSettings,
    make_trainer: MakeTrainer,
    precision: Precision,
    device: torch.device,
    examples: Sequence[Example],
) -> Candidate:
    """Makes an engine, with a network of its own, and lets it train once; it gets the first of the examples."""
    gc.collect()
    torch.cuda.empty_cache()
    free = free_bytes(device)
    classifier, pretrained = _load(settings)
    train: Train
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
    own = examples[: how_many_examples(slots, settings)]
    with _silent_engines():
        train(own, StopRule(settings.epsilon, 1))  # libraries set themselves up at their first use
    return Candidate(name, train, slots, own, None if free is None else max(free - (free_bytes(device) or 0), 0))


def free_bytes(device: torch.device) -> int | None:
    """What nobody holds of a CUDA GPU: by its own count, which has the pools of CUDA graphs too."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def _load(settings: BenchSettings) -> tuple[Classifier, Pretrained]:
    pretrained = load_pretrained(settings.model_name)
    return Classifier(pretrained.network, settings.lr, settings.weight_decay, settings.momentum), pretrained


@contextmanager
def _silent_engines() -> Iterator[None]:
    """What an engine says of a study would be said again at every turn."""
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)
