"""Asks every model of a pool about every image, in the order of the steps, and writes down who is right."""

import hashlib
import logging
import math
import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from lightning_app.console.log import FILE_ONLY, StudyLog
from lightning_app.console.progress import progress_bar, seconds_between_bars
from lightning_app.console.signals import exit_at_once
from lightning_app.data.environment import environment
from lightning_app.data.labels import BY_GROUND_TRUTH, BY_MAPPING, Classes, Labels, doubts
from lightning_app.data.model_names import local_folder, name_in_pool, split_models
from lightning_app.errors import DONE, DONE_WITH_ERRORS, BadInputError, StorageError
from lightning_app.files import file_name, file_sha256
from lightning_app.pool.image_folder import PoolImages, find_pool_images, identity_of, label, require_labels_that_fit
from lightning_app.pool.matrix import MATRIX, Pool, write_pool
from lightning_app.pool.pool_folder import Member, PoolFolder, best_first
from lightning_app.pool.predict import ModelPredictions, predict_all
from lightning_app.settings import EvaluationSettings
from lightning_app.store.lock import WriterLock
from lightning_app.training.device import Device
from lightning_app.training.pretrained import classes_by_config, classes_of, load_pretrained, weights_sha256

log = logging.getLogger("lightning_app")

MAX_WORKERS = 8
"""Threads that decode for one GPU, unless told otherwise."""
MAX_NAMED = 5
"""Unreadable images on the screen; the log file names all."""


def evaluate(settings: EvaluationSettings, device: Device) -> int:
    """Asks the pool, or resumes one that is there.

    Args:
        settings: Checked.
        device: Where the models are asked.

    Returns:
        The exit code.

    Raises:
        BadInputError: Before any work, or if no model could be asked.
        StorageError: If a result can't be written.
    """
    with StudyLog() as study_log, exit_at_once("; models that are done are kept; rerun the command to resume"):
        models = named_models(settings.models)
        images = find_pool_images(settings)
        log.info("Images: %s below %s", f"{len(images.entries):,}", settings.root_dir)
        require_labels_that_fit(models, images, settings)
        made = not settings.output_dir.exists()
        try:
            settings.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(f"--output_dir: {settings.output_dir} can't be made: {error.strerror}") from None
        lock = WriterLock(settings.output_dir)
        try:
            folder = PoolFolder(settings.output_dir)
            folder.claim(identity_of(settings, images))
            study_log.to_file(settings.output_dir / f"evaluate_{datetime.now():%Y%m%d-%H%M%S}.log")
            members, failures = ask_each(models, images, settings, device, folder)
            finalize_pool(members, images, settings, folder)
            if failures:
                log.warning("%d of %d models could not be asked and are not in the matrix: %s; rerun the command to"
                            " try them again", len(failures), len(models), ", ".join(failures))  # fmt: skip
        except BadInputError:
            if made and not folder.done():
                shutil.rmtree(settings.output_dir, ignore_errors=True)  # ours, of this moment, and without an answer
            raise
        finally:
            lock.release()
    return DONE_WITH_ERRORS if failures else DONE


def named_models(models: str | Sequence[str]) -> dict[str, str]:
    """The models by their names in the pool.

    Raises:
        BadInputError: If two have one name, or would have one table.
    """
    named: dict[str, str] = {}
    tables: dict[str, str] = {}
    for model in split_models(models):
        name = name_in_pool(model)
        if not name or set(name) & set(',"'):
            raise BadInputError(f"--models {model}: {name!r} can't stand in a list of models: rename the folder")
        twin = tables.setdefault(file_name(name).lower(), model)
        if twin != model:
            raise BadInputError(f"--models: {twin} and {model} would both be {name!r} in the pool: rename a folder")
        named[name] = model
    return named


def ask_each(
    models: Mapping[str, str], images: PoolImages, settings: EvaluationSettings, device: Device, folder: PoolFolder
) -> tuple[list[Member], dict[str, str]]:
    """Asks the models that are not done, and puts each on disk when it is.

    Returns:
        All models of the folder that are done, and why others that were asked for aren't.

    Raises:
        BadInputError: If none is.
    """
    known = folder.done()
    done = _still_right(known, models, images, settings, device, folder)
    if done:
        log.info("Resuming: %d of %d models are done and kept", len(done), len(models))
    earlier = [member for name, member in known.items() if name not in models]
    if earlier:
        log.info("%d models that were asked earlier stay in the matrix: %s", len(earlier),
                 ", ".join(member.name for member in earlier))  # fmt: skip
    failures: dict[str, str] = {}
    n = len(images.entries)
    with progress_bar(
        total=n * len(models), initial=n * len(done), desc="All models", unit="image", position=0
    ) as whole:
        for name, model in models.items():
            if name in done:
                continue
            before = whole.n
            try:
                done[name] = _ask_one(name, model, images, settings, device, folder, whole)
            except StorageError:
                raise
            except BadInputError as error:
                failures[name] = str(error)
            # Out of memory, an input that the architecture refuses, whatever a custom model raises: the rest go on.
            except Exception as error:
                log.debug("%s", name, exc_info=True, extra=FILE_ONLY)
                failures[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            if name in failures:
                log.error("%s is left out: %s", name, failures[name])
                whole.update(before + n - whole.n)
    if not done and not earlier:
        raise BadInputError(f"--models: none of the {len(models)} could be asked, for the reasons above")
    return [*done.values(), *earlier], failures


def _still_right(
    done: dict[str, Member],
    models: Mapping[str, str],
    images: PoolImages,
    settings: EvaluationSettings,
    device: Device,
    folder: PoolFolder,
) -> dict[str, Member]:
    """Those of the models that are done whose files and labels are what they were, and whose tables are whole."""
    kept: dict[str, Member] = {}
    here = environment(device.name, device.threads, device.instructions)
    for name, model in models.items():
        member = done.get(name)
        if member is None:
            continue
        if member.model_name != model and local_folder(model) is None:
            log.warning("%s was %s and is asked again as %s", name, member.model_name, model)
        elif (by_config := classes_by_config(model)) is not None and by_config.label_names != member.label_names:
            log.warning("%s calls its classes by other names than when it was asked, and is asked again", name)
        elif member.files_sha256 != _files_sha256(model):
            log.warning("%s has other files than when it was asked, and is asked again", name)
        else:
            try:
                folder.read_table(member, images.paths, _labels_of(member, images, settings))
                kept[name] = member
            except BadInputError as error:
                log.warning("%s is asked again: %s", name, error)
    elsewhere = sorted({key for m in kept.values() for key in here if m.environment.get(key) != here[key]})
    if elsewhere:
        log.warning("some of the models that are kept were asked in another environment (%s); tables/*.json has each",
                    ", ".join(elsewhere))  # fmt: skip
    return kept


def _labels_of(member: Member, images: PoolImages, settings: EvaluationSettings) -> list[int]:
    labels = label(images, settings, classes_of(member.classes, member.label_names))
    return [labels.of[path] for path in images.paths]


def _files_sha256(model: str) -> str | None:
    folder = local_folder(model)
    if folder is None:
        return None
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.is_file():
            digest.update(f"{file.name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _ask_one(
    name: str,
    model: str,
    images: PoolImages,
    settings: EvaluationSettings,
    device: Device,
    folder: PoolFolder,
    whole: "tqdm[NoReturn]",
) -> Member:
    started = time.monotonic()
    pretrained = load_pretrained(model, "models")
    files_sha256 = _files_sha256(model)  # not before: what is no model's is refused above, however large
    labels = label(images, settings, pretrained.classes)
    of = [labels.of[path] for path in images.paths]
    with progress_bar(total=len(of), desc=name, unit="image", position=1, delay=seconds_between_bars()) as bar:

        def on_images(count: int) -> None:
            bar.update(count)
            whole.update(count)

        predictions = predict_all(
            pretrained, [images.files[path] for path in images.paths], of, device.root, settings.batch_size,
            _workers(settings, device), on_images,
        )  # fmt: skip
    if not predictions.readable.any():
        raise BadInputError(f"none of the {len(of)} images can be read, for example {predictions.unreadable[0]}")
    mean_loss = float(predictions.losses[predictions.readable].mean(dtype=np.float64))
    member = Member(
        name=name,
        model_name=model,
        files_sha256=files_sha256,
        weights_sha256=weights_sha256(pretrained.network),
        classes=pretrained.classes.count,
        label_names=pretrained.classes.label_names,
        label_rule=labels.rule,
        transform=pretrained.transform_settings,
        images=int(predictions.readable.sum()),
        right=int(predictions.correct.sum()),
        top1=round(predictions.accuracy[0], 6),  # torchmetrics divides in float32
        top5=round(predictions.accuracy[1], 6),
        mean_loss=mean_loss if math.isfinite(mean_loss) else None,
        seconds=time.monotonic() - started,
        environment=environment(device.name, device.threads, device.instructions),
    )
    folder.put(member, images.paths, of, predictions)
    for reason in predictions.unreadable.values():
        log.info("can't be read: %s", reason, extra=FILE_ONLY)
    _say(member, predictions, images, labels, pretrained.classes)
    return member


def _workers(settings: EvaluationSettings, device: Device) -> int:
    if settings.num_workers is not None:
        return settings.num_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if device.kind == "cpu" else min(MAX_WORKERS, cores)


def _say(member: Member, predictions: ModelPredictions, images: PoolImages, labels: Labels, classes: Classes) -> None:
    log.info("%s: %.2f %% right, top-5 %.2f %%, mean loss %.4g; %s images in %.1f s, %.0f images/s; labels by %s",
             member.name, 100 * member.right / member.images, 100 * member.top5, member.mean_loss or math.nan,
             f"{member.images:,}", member.seconds, member.images / member.seconds, member.label_rule)  # fmt: skip
    read = np.flatnonzero(predictions.readable).tolist()
    paths = [images.paths[i] for i in read]
    files, of = [images.files[path] for path in paths], [labels.of[path] for path in paths]
    for doubt in doubts(labels, classes, files, of, predictions.predicted[read].tolist()):
        log.warning("%s: %s", member.name, doubt)
    if member.mean_loss is None:
        bad = int((~np.isfinite(predictions.losses[predictions.readable])).sum())
        log.warning("%s: the loss of %d images is not finite; they count as wrong", member.name, bad)
    if member.top1 * member.images - member.right > 0.5:
        log.warning("%s: some images have several classes with the largest logit; torchmetrics takes the first of them,"
                    " the matrix counts a tie as wrong", member.name)  # fmt: skip


def finalize_pool(
    members: Sequence[Member],
    images: PoolImages,
    settings: EvaluationSettings,
    folder: PoolFolder,
) -> None:
    """Writes the accuracies and the matrix of all models that are done."""
    ordered = best_first(members)
    paths = images.paths
    answers = [folder.read_table(member, paths, _labels_of(member, images, settings)) for member in ordered]
    readable = np.logical_and.reduce([answer.readable for answer in answers])
    unread = np.flatnonzero(~readable).tolist()
    if unread:
        log.warning("%d of %d images can't be read and are left out of the matrix, for example %s", len(unread),
                    len(paths), ", ".join(repr(paths[i]) for i in unread[:MAX_NAMED]))  # fmt: skip
        for i in unread:
            log.info("left out: %r", paths[i], extra=FILE_ONLY)
    keep = np.flatnonzero(readable)
    pool = Pool(
        folder.folder,
        tuple(member.name for member in ordered),
        tuple(paths[i] for i in keep),
        np.stack([answer.correct[keep] for answer in answers]),
        np.stack([answer.losses[keep] for answer in answers]),
        _labels_for_run(ordered, images, settings, keep.tolist()),
    )
    folder.write_accuracy(ordered)
    write_pool(folder.folder, pool)
    log.info("%s: %d models x %s images, the best %s. Next: steps-to-epsilon rank %s", folder.folder / MATRIX,
             len(ordered), f"{len(keep):,}", ordered[0].name, shlex.quote(str(folder.folder)))  # fmt: skip


def _labels_for_run(
    members: Sequence[Member], images: PoolImages, settings: EvaluationSettings, keep: Sequence[int]
) -> tuple[int, ...] | None:
    """Labels that `run` could not find itself, where all models number their classes alike."""
    if {member.label_rule for member in members} not in ({BY_GROUND_TRUTH}, {BY_MAPPING}):
        return None
    found = [label(images, settings, classes_of(count)) for count in sorted({m.classes for m in members})]
    if any(labels.of != found[0].of for labels in found):
        log.warning("the models number their classes differently, so examples.csv has no labels")
        return None
    return tuple(found[0].of[images.entries[i].path] for i in keep)
