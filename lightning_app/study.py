"""The study, in the order of its steps: ranking, what is wrong, sample, training, record, analysis."""

import logging
import math
import shlex
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import lightning.pytorch as L
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.analysis.closing import close, load_results, words
from lightning_app.analysis.plots import steps_vs_difficulty
from lightning_app.choosing import Chooser, say_missing
from lightning_app.errors import BadInputError, StorageError
from lightning_app.inputs.correctness import read_model_row
from lightning_app.inputs.example import Example
from lightning_app.inputs.images import find_images
from lightning_app.inputs.labels import BY_MAPPING, find_labels
from lightning_app.inputs.ranking import read_ranking
from lightning_app.inputs.sampling import in_training_order
from lightning_app.progress import FILE_ONLY, StudyBar, StudyLog
from lightning_app.results.answers import Answers
from lightning_app.results.fingerprint import (
    Fingerprint,
    Goal,
    Stretch,
    environment,
    file_sha256,
    require_same,
    versions,
)
from lightning_app.results.records import Row, path_of, steps_of
from lightning_app.results.resuming import Stock, gave_up_earlier, take_stock
from lightning_app.results.run_folder import (
    PICTURE,
    RESULTS,
    SUMMARY,
    TENSORBOARD,
    Found,
    RunFolder,
    folder_name,
)
from lightning_app.results.tensorboard import Curves, LightningLogger, TensorBoardFolder, Viewer, shown_examples
from lightning_app.settings import HOW_NOT_WHAT, StudySettings, require_folder
from lightning_app.stopping import StopSignal, exit_at_once, stop_between_examples
from lightning_app.training.classifier import Classifier
from lightning_app.training.device import Device, pin_numerics, resolve_device
from lightning_app.training.pretrained import Pretrained, load_pretrained, weights_sha256
from lightning_app.training.trainer_engine import TrainerEngine
from lightning_app.training.trajectory import Failure, StopRule, Trajectory
from lightning_app.whole_files import json_text

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
    sample: list[Example]
    found: Found | None
    identity: dict[str, object]
    environment: dict[str, object]
    counts: dict[str, int]
    rank_digits: int


def run_study(settings: StudySettings, lightning: Lightning, config: str) -> int:
    """Runs a whole study, or goes on with one that is there.

    Args:
        settings: Checked.
        lightning: Lightning's part of the command line.
        config: The text of `config.yaml`: this study, to be run again.

    Returns:
        The exit code.

    Raises:
        BadInputError: Before any training.
        StorageError: If a result can't be written.
    """
    with StudyLog() as study_log:
        try:
            folder = RunFolder(settings.output_dir / folder_name(settings.model_name))
            with folder.locked():
                return _run(settings, lightning, config, folder, study_log)
        except BadInputError:
            raise
        except StorageError as error:
            log.error("%s", error, extra=FILE_ONLY)
            raise StorageError(
                f"{error}. What is done is whole; once it can be written, the same command goes on"
            ) from error
        except Exception as error:
            log.critical("ended by an error that is not yours: %s: %s", type(error).__name__,
                         " ".join(str(error).split()), exc_info=True, extra=FILE_ONLY)  # fmt: skip
            raise


def _run(settings: StudySettings, lightning: Lightning, config: str, folder: RunFolder, study_log: StudyLog) -> int:
    started = time.monotonic()
    deadline = math.inf if settings.max_hours is None else started + 3600 * settings.max_hours
    with exit_at_once("; the same command goes on"):
        prepared = prepare(settings, lightning, folder)
        if settings.dry_run:
            _show_sample(prepared)
            if prepared.found is not None:
                _say_stock(_stock_of(prepared), prepared.found, settings.max_steps_per_example)
            return DONE
        aside = folder.move_aside() if settings.overwrite else None
        study_log.to_file(folder.folder / f"train_single_{datetime.now():%Y%m%d-%H%M%S}.log")
        if aside is not None:
            log.info("The study that was here is now in %s", aside)
        stock = go_on(prepared, folder, config)
    with stop_between_examples(deadline) as stop:
        try:
            failures = train(prepared, stock, lightning, folder, stop)
        except MisconfigurationException as error:  # a user's callback or plugin, at the first example
            folder.withdraw()
            raise BadInputError(f"Lightning refuses its flags: {' '.join(str(error).split())}") from error
        left = conclude(prepared, stock, folder, time.monotonic() - started)
    if stop.came is not None or (stop.is_over and left):
        _say_how_to_go_on(stop, stock, folder.rows, left)
        return 128 + (stop.came or signal.SIGTERM)
    if failures:
        log.warning("%d examples are errors; the log names their reasons, the same command tries them again", failures)
        return DONE_WITH_ERRORS
    return DONE


def prepare(settings: StudySettings, lightning: Lightning, folder: RunFolder) -> Prepared:
    """Reads all that goes in and draws the sample; cheap checks come before the model is loaded.

    Raises:
        BadInputError: If anything given can't be used, or the study that is there is another one.
    """
    device = resolve_device(lambda: lightning.make_trainer([]), lightning.device_flags)
    if settings.root_dir is not None:
        require_folder(settings.root_dir)
    found = None if settings.overwrite else folder.find()
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
    where = environment(device.name, device.threads)
    if found is not None:  # before the model is asked, which may take minutes
        try:
            _require_the_same_study(found, identity, where, settings, folder.folder)
        except BadInputError as error:
            if not settings.dry_run:
                raise
            log.warning("a run would be refused: %s", error)
            found = None
    answers = Answers(folder.folder, {**numbers, "root_dir": str((settings.root_dir or Path()).resolve())})
    chooser = Chooser(settings, images, labels, pretrained, device, answers)
    sample = chooser.choose(ranking, model_row)
    counts = {
        "ranked": len(ranking.paths),
        "images_found": len(images.files),
        "images_missing": len(images.missing),
        "sampled": len(sample),
    }
    examples = in_training_order(sample, images.files, labels.of)
    rank_digits = len(str(int(max(entry.rank for entry in ranking.paths))))
    return Prepared(settings, pretrained, device, examples, found, identity, where, counts, rank_digits)


def _require_the_same_study(
    found: Found, identity: dict[str, object], where: dict[str, object], settings: StudySettings, folder: Path
) -> None:
    """Refuses to go on where the rows to come would not be of the study that is there.

    Raises:
        BadInputError: With what differs, old and new.
    """
    try:
        require_same(found.fingerprint, identity, where, settings.allow_mixed_environment)
    except BadInputError as error:
        raise BadInputError(f"--output_dir: {folder} holds a study already, and {error}") from None
    limit, asked = found.fingerprint.trained_for, settings.max_steps_per_example
    if asked < limit:
        raise BadInputError(
            f"--max_steps_per_example {asked}: the study in {folder} has trained for up to {limit} steps and goes on"
            f" with that many or more. What is done has the answer for {asked} steps too: an example needs more where"
            f" its total_steps_to_epsilon is -1 or above {asked}, and its step log has the loss of each (a command"
            " that reads them, report --epsilon, is still to come). --output_dir puts this study elsewhere"
        )


def go_on(prepared: Prepared, folder: RunFolder, config: str) -> Stock:
    """Takes stock of what is there, numbers it anew where the sample has grown, and writes what the study is."""
    found, limit = prepared.found, prepared.settings.max_steps_per_example
    stock = _stock_of(prepared)
    stretches: tuple[Stretch, ...] = (Stretch(prepared.environment),)
    trained_for = 0
    if found is not None:
        stretches = found.fingerprint.went_on(prepared.environment, [path_of(row) for row in stock.rows])
        trained_for = found.fingerprint.trained_for
        _say_stock(stock, found, limit)
    goal = Goal(len(stock.examples), limit, stock.beyond)
    fingerprint = Fingerprint(prepared.identity, stretches, goal, trained_for)
    folder.start(fingerprint, config, found.rows if found else [], stock.rows)
    return stock


def _stock_of(prepared: Prepared) -> Stock:
    rows, logged = (prepared.found.rows, prepared.found.logged) if prepared.found else ([], frozenset())
    return take_stock(prepared.sample, rows, logged, prepared.settings.max_steps_per_example)


def _say_stock(stock: Stock, found: Found, limit: int) -> None:
    if found.torn:
        log.warning("The table ended in the middle of a row; what there was of it is set aside here, and its example"
                    " is trained again: %r", found.torn.decode(errors="replace"))  # fmt: skip
    outcomes = {path_of(row): row["outcome"] for row in found.rows}
    for path in stock.dropped:
        reason = "was an error" if outcomes[path] == "error" else "has lost its step log"
        log.info("%r %s and is trained again", path, reason)
    again = f", {len(stock.again)} of them censored at fewer steps than {limit}" if stock.again else ""
    log.info("Going on: %d of %d examples done and kept, %d left%s",
             len(stock.done), len(stock.examples), len(stock.left), again)  # fmt: skip
    if stock.beyond:
        log.info("%d more rows are not in this sample; they stay in the table, the answer leaves them out",
                 len(stock.beyond))  # fmt: skip


def train(prepared: Prepared, stock: Stock, lightning: Lightning, folder: RunFolder, stop: StopSignal) -> int:
    """Trains every example that is left and puts each on disk as soon as it ends.

    Returns:
        How many could not be trained.
    """
    with curves_of(prepared, lightning, folder) as curves:
        curves.keep(list(folder.rows.values()), stock.again, folder.losses_of)
        return _train_each(prepared, stock, lightning, folder, curves, stop) if stock.left else 0


def _train_each(
    prepared: Prepared, stock: Stock, lightning: Lightning, folder: RunFolder, curves: Curves, stop: StopSignal
) -> int:
    settings = prepared.settings
    log.info("Engine: trainer, a Lightning Trainer an example; to train: %d (loss <= %g, at most %d steps, lr %g)",
             len(stock.left), settings.epsilon, settings.max_steps_per_example, settings.lr)  # fmt: skip
    kept = Counter(str(folder.rows[path]["outcome"]) for path in stock.done)
    failures = 0
    with StudyBar(len(stock.examples), kept) as bar:
        engine = TrainerEngine(
            Classifier(prepared.pretrained.network, settings.lr, settings.weight_decay, settings.momentum),
            prepared.pretrained.transform,
            StopRule(settings.epsilon, settings.max_steps_per_example),
            lambda callback: lightning.make_trainer([callback, stop]),
            bar.step,
        )
        for result in engine.train(stock.left):
            row = folder.commit(result, settings.epsilon)
            curves.add(row, result.losses if isinstance(result, Trajectory) else ())
            failures += isinstance(result, Failure)
            bar.example(result.outcome)
            _say_result(result)
            if stop.is_due():
                break
    return failures


def curves_of(prepared: Prepared, lightning: Lightning, folder: RunFolder) -> Curves:
    """Where the study can be watched: TensorBoard in its folder, or the loggers that were asked for."""
    shown = shown_examples(prepared.sample, prepared.settings.seed, prepared.settings.tensorboard_examples)
    viewers: list[Viewer]
    if lightning.loggers is None:
        place = folder.folder / TENSORBOARD
        viewers = [TensorBoardFolder(place)]
        log.info("Loss curves of %d examples: tensorboard --logdir %s", len(shown), shlex.quote(str(place)))
    else:
        viewers = [LightningLogger(logger) for logger in lightning.loggers]
        for logger in lightning.loggers:
            log.info("Loss curves of %d examples, at the end: %s, %s", len(shown), type(logger).__name__,
                     logger.log_dir or logger.save_dir or "see its own settings")  # fmt: skip
    return Curves(viewers, shown, prepared.rank_digits)


def conclude(prepared: Prepared, stock: Stock, folder: RunFolder, seconds: float) -> int:
    """Puts the folder to rest: sorted table, summary, picture. All but the table speak of the sample alone.

    Returns:
        How many examples of the sample are left.
    """
    settings = prepared.settings
    folder.rest()
    beyond = frozenset(stock.beyond)
    rows = [row for path, row in folder.rows.items() if path not in beyond]
    frame = load_results(folder.folder / RESULTS)
    frame = frame[~frame["path"].isin(beyond)]
    closing = close(frame, settings.epsilon, settings.max_steps_per_example)
    folder.replace(PICTURE, steps_vs_difficulty(frame, closing, folder.folder.name))
    done = sum(not gave_up_earlier(row, settings.max_steps_per_example) for row in rows)
    summary = {
        "settings": {name: value for name, value in asdict(settings).items() if name not in HOW_NOT_WHAT},
        "counts": {**prepared.counts, "done": done, "beyond_the_sample": len(beyond), **closing.counts},
        "statistics": closing.as_dict(),
        "versions": versions(),
        "environments": [stretch.environment for stretch in folder.fingerprint.stretches],
        "results": [{name: value for name, value in row.items() if name != "seconds"} for row in rows],
        "timing": {
            "seconds": seconds,
            "steps": sum(map(steps_of, rows)),
            "seconds_by_example": [row["seconds"] for row in rows],
        },
    }
    folder.replace(SUMMARY, json_text(summary).encode())
    log.info("%s\n\nEverything is in %s", words(closing), folder.folder)
    if closing.limit < settings.max_steps_per_example:
        log.warning("some rows were censored at %d steps and are still to be trained again: until then the table takes"
                    " every row as it stood at that step", closing.limit)  # fmt: skip
    if len(folder.fingerprint.stretches) > 1:
        log.warning("the rows were made in %d environments; the summary names them",
                    len(folder.fingerprint.stretches))  # fmt: skip
    return len(stock.examples) - done


def _say_how_to_go_on(stop: StopSignal, stock: Stock, rows: Mapping[str, Row], left: int) -> None:
    reason, examples = stop.came.name if stop.came else "--max_hours", len(stock.examples)
    if not left:
        log.warning("stopped by %s after the last of %d examples: the study is complete", reason, examples)
        return
    is_there = [example.path in rows for example in stock.examples]  # easiest first
    is_the_easiest_part = not all(is_there) and is_there == sorted(is_there, reverse=True)
    easiest = ", the easiest ones: the table above says nothing of the others" if is_the_easiest_part else ""
    log.warning("stopped by %s: %d of %d examples are done%s. The same command goes on (a smaller --max_examples first"
                " completes a random part)", reason, examples - left, examples, easiest)  # fmt: skip


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
    for example in prepared.sample[:5]:
        log.info("  rank %s, label %d: %s", example.rank, example.label, example.image)
    if len(prepared.sample) > 5:
        log.info("  and %d more", len(prepared.sample) - 5)
