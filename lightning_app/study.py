"""The study, in the order of its steps: ranking, what is wrong, sample, training, record, analysis."""

import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import lightning.pytorch as L
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.analysis.closing import Closing, close, load_results, words
from lightning_app.analysis.plots import steps_vs_difficulty
from lightning_app.choosing import Chooser, say_missing
from lightning_app.errors import BadInputError
from lightning_app.inputs.correctness import read_model_row
from lightning_app.inputs.example import Example
from lightning_app.inputs.images import find_images
from lightning_app.inputs.labels import BY_MAPPING, find_labels
from lightning_app.inputs.ranking import read_ranking
from lightning_app.inputs.sampling import in_training_order
from lightning_app.progress import FILE_ONLY, StudyBar, StudyLog
from lightning_app.results.answers import Answers
from lightning_app.results.fingerprint import environment, file_sha256, fingerprint_text, versions
from lightning_app.results.records import Row
from lightning_app.results.run_folder import (
    PICTURE,
    RESULTS,
    SUMMARY,
    TENSORBOARD,
    RunFolder,
    folder_name,
    json_text,
)
from lightning_app.results.tensorboard import Curves, LightningLogger, TensorBoardFolder, Viewer, shown_examples
from lightning_app.settings import StudySettings, require_folder
from lightning_app.stopping import StopSignal, stop_between_examples
from lightning_app.training.classifier import Classifier
from lightning_app.training.device import Device, pin_numerics, resolve_device
from lightning_app.training.pretrained import Pretrained, load_pretrained, weights_sha256
from lightning_app.training.trainer_engine import TrainerEngine
from lightning_app.training.trajectory import Failure, StopRule, Trajectory

log = logging.getLogger("lightning_app")

DONE, DONE_WITH_ERRORS = 0, 3


@dataclass(frozen=True)
class Lightning:
    """What the command line says of Lightning.

    Args:
        make_trainer: Builds a Trainer from its flags, with these callbacks.
        flags: Those of its flags that numbers may depend on; part of the identity.
        device_flags: The device flags as typed, for messages.
        loggers: Those of `--trainer.logger`; None where it was not given: TensorBoard in the study's folder.
    """

    make_trainer: Callable[[list[L.Callback]], L.Trainer]
    flags: Mapping[str, object]
    device_flags: str
    loggers: Sequence[Logger] | None


@dataclass(frozen=True)
class Prepared:
    """A study that is ready to train."""

    settings: StudySettings
    pretrained: Pretrained
    device: Device
    examples: list[Example]
    identity: dict[str, object]
    counts: dict[str, int]
    rank_digits: int


def run_study(settings: StudySettings, lightning: Lightning, config: str) -> int:
    """Runs a whole study.

    Args:
        settings: Checked.
        lightning: Lightning's part of the command line.
        config: The text of `config.yaml`: this study, to be run again.

    Returns:
        The exit code.

    Raises:
        BadInputError: Before any training.
    """
    with StudyLog() as study_log:
        try:
            return _run(settings, lightning, config, study_log)
        except BadInputError:
            raise
        except Exception:
            log.critical("ended by an error that is not yours", exc_info=True, extra=FILE_ONLY)
            raise


def _run(settings: StudySettings, lightning: Lightning, config: str, study_log: StudyLog) -> int:
    started = time.monotonic()
    folder = RunFolder(settings.output_dir / folder_name(settings.model_name), settings.overwrite or settings.dry_run)
    prepared = prepare(settings, lightning, folder)
    if settings.dry_run:
        _show_sample(prepared)
        return DONE
    aside = folder.create()
    study_log.to_file(folder.folder / f"train_single_{datetime.now():%Y%m%d-%H%M%S}.log")
    if aside is not None:
        log.info("The study that was here is now in %s", aside)
    where = environment(prepared.device.name, prepared.device.threads)
    folder.start(fingerprint_text(prepared.identity, where), config)
    try:
        with stop_between_examples() as stop:
            rows = train(prepared, lightning, folder, stop)
    except MisconfigurationException as error:  # a user's callback or plugin, at the first example
        folder.withdraw()
        raise BadInputError(f"Lightning refuses its flags: {' '.join(str(error).split())}") from error
    closing = conclude(prepared, folder, rows, time.monotonic() - started)
    log.info("%s\n\nEverything is in %s", words(closing), folder.folder)
    if stop.came is not None:
        left = len(prepared.examples) - len(rows)
        easiest = ", the easiest ones; the table says nothing of the others" if left else ""
        log.warning("stopped by %s after %d of %d examples%s",
                    stop.came.name, len(rows), len(prepared.examples), easiest)  # fmt: skip
        return 128 + stop.came
    if closing.counts["error"]:
        log.warning("%d examples are errors; the log names their reasons", closing.counts["error"])
        return DONE_WITH_ERRORS
    return DONE


def prepare(settings: StudySettings, lightning: Lightning, folder: RunFolder) -> Prepared:
    """Reads all that goes in and draws the sample; cheap checks come before the model is loaded.

    Raises:
        BadInputError: If anything given can't be used.
    """
    device = resolve_device(lambda: lightning.make_trainer([]), lightning.device_flags)
    if settings.root_dir is not None:
        require_folder(settings.root_dir)
    ranking = read_ranking(settings.examples_csv)
    log.info("Ranking: %d images in %s (%s)", len(ranking.paths), ranking.file, ranking.form)
    model_row = read_model_row(settings, ranking)
    images = find_images(ranking.paths, settings.root_dir)
    say_missing("image files are missing and left out", images.missing)
    numerics = pin_numerics(device.kind)
    pretrained = load_pretrained(settings.model_name)
    labels = find_labels(ranking.paths, images.files, settings.class_to_idx, pretrained.classes)
    log.info("Model: %s, %d classes, on %s; labels by %s",
             settings.model_name, pretrained.classes.count, device.name, labels.rule)  # fmt: skip
    mapping = settings.class_to_idx if labels.rule == BY_MAPPING else None
    if mapping is not settings.class_to_idx:
        log.warning("--class_to_idx %s is not used: labels are by %s", settings.class_to_idx, labels.rule)
    numbers = {
        "weights_sha256": weights_sha256(pretrained.network),
        "transform": pretrained.transform_settings,
        "device_kind": device.kind,
        "numerics": numerics,
    }
    answers = Answers(folder.folder, {**numbers, "root_dir": str((settings.root_dir or Path()).resolve())})
    chooser = Chooser(settings, images, labels, pretrained, device, answers)
    sample = chooser.choose(ranking, model_row)
    identity: dict[str, object] = {
        **numbers,
        "label_rule": labels.rule,
        "class_to_idx_sha256": file_sha256(mapping) if mapping else None,
        "optimizer": {
            "name": "SGD",
            "lr": settings.lr,
            "weight_decay": settings.weight_decay,
            "momentum": settings.momentum,
        },
        "loss": "softplus(logsumexp of the other logits less the label's), float32",
        "epsilon": settings.epsilon,
        "lightning": dict(lightning.flags),
        "seed": settings.seed,
        "select": settings.select,
        "ranking_sha256": file_sha256(settings.examples_csv),
        "correctness": f"row {model_row.name}, sha256 {model_row.sha256}" if model_row else "the model itself",
    }
    counts = {
        "ranked": len(ranking.paths),
        "images_found": len(images.files),
        "images_missing": len(images.missing),
        "sampled": len(sample),
    }
    examples = in_training_order(sample, images.files, labels.of)
    rank_digits = len(str(int(max(entry.rank for entry in ranking.paths))))
    return Prepared(settings, pretrained, device, examples, identity, counts, rank_digits)


def train(prepared: Prepared, lightning: Lightning, folder: RunFolder, stop: StopSignal) -> list[Row]:
    """Trains every example and puts each on disk as soon as it ends.

    Returns:
        The rows that are done, in the order of the examples.
    """
    settings = prepared.settings
    log.info("Engine: trainer, a Lightning Trainer for each of %d examples (loss <= %g, at most %d steps, lr %g)",
             len(prepared.examples), settings.epsilon, settings.max_steps_per_example, settings.lr)  # fmt: skip
    rows: list[Row] = []
    with curves_of(prepared, lightning, folder) as curves, StudyBar(len(prepared.examples)) as bar:
        engine = TrainerEngine(
            Classifier(prepared.pretrained.network, settings.lr, settings.weight_decay, settings.momentum),
            prepared.pretrained.transform,
            StopRule(settings.epsilon, settings.max_steps_per_example),
            lambda callback: lightning.make_trainer([callback, stop]),
            bar.step,
        )
        for result in engine.train(prepared.examples):
            rows.append(folder.commit(result, settings.epsilon))
            curves.add(result)
            bar.example(result.outcome)
            _say_result(result)
            if stop.came is not None:
                break
    return rows


def curves_of(prepared: Prepared, lightning: Lightning, folder: RunFolder) -> Curves:
    """Where the study can be watched: TensorBoard in its folder, or the loggers that were asked for."""
    shown = shown_examples(prepared.examples, prepared.settings.seed, prepared.settings.tensorboard_examples)
    viewers: list[Viewer]
    if lightning.loggers is None:
        place = folder.folder / TENSORBOARD
        viewers = [TensorBoardFolder(place)]
        log.info("Loss curves of %d of them: tensorboard --logdir %s", len(shown), shlex.quote(str(place)))
    else:
        viewers = [LightningLogger(logger) for logger in lightning.loggers]
        for logger in lightning.loggers:
            log.info("Loss curves of %d of them, at the end: %s, %s", len(shown), type(logger).__name__,
                     logger.log_dir or logger.save_dir or "see its own settings")  # fmt: skip
    return Curves(viewers, shown, prepared.rank_digits)


def conclude(prepared: Prepared, folder: RunFolder, rows: list[Row], seconds: float) -> Closing:
    """Puts the folder to rest: sorted table, summary, picture."""
    settings = prepared.settings
    folder.rest(rows)
    frame = load_results(folder.folder / RESULTS)
    closing = close(frame, settings.epsilon, settings.max_steps_per_example)
    folder.replace(PICTURE, steps_vs_difficulty(frame, closing, folder.folder.name))
    steps = sum(row["steps_run"] for row in rows if isinstance(row["steps_run"], int))
    summary = {
        "settings": asdict(settings),
        "counts": {**prepared.counts, "done": len(rows), **closing.counts},
        "statistics": closing.as_dict(),
        "versions": versions(),
        "results": [{name: value for name, value in row.items() if name != "seconds"} for row in rows],
        "timing": {
            "seconds": seconds,
            "steps": steps,
            "seconds_by_example": [row["seconds"] for row in rows],
        },
    }
    folder.replace(SUMMARY, json_text(summary).encode())
    return closing


def _say_result(result: Trajectory | Failure) -> None:
    example = result.example
    if isinstance(result, Failure):
        log.error("example %d (rank %s) %r: error: %s", example.index, example.rank, example.path, result.reason)
        return
    log.info("example %d (rank %s) %r: %s after %d steps, loss %.3g to %.3g, %.2f s", example.index, example.rank,
             example.path, result.outcome, len(result.losses), result.losses[0], result.losses[-1], result.seconds,
             extra=FILE_ONLY)  # fmt: skip


def _show_sample(prepared: Prepared) -> None:
    log.info("Dry run: nothing is trained. The sample's images with their labels, easiest first:")
    for example in prepared.examples[:5]:
        log.info("  rank %s, label %d: %s", example.rank, example.label, example.image)
    if len(prepared.examples) > 5:
        log.info("  and %d more", len(prepared.examples) - 5)
