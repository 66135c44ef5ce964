"""What comes before any training: reads all that goes in, sees that it fits, and draws the sample."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from lightning.pytorch.loggers import Logger

from lightning_app.console.log import log_left_out
from lightning_app.data.correctness import read_model_row
from lightning_app.data.environment import environment
from lightning_app.data.example import Example
from lightning_app.data.images import find_images
from lightning_app.data.labels import BY_MAPPING, find_labels
from lightning_app.data.ranking import RankedPath, read_ranking
from lightning_app.data.sampling import in_training_order
from lightning_app.engines.choose import require_engine, require_precision
from lightning_app.engines.workers.worker_pool import require_workers
from lightning_app.errors import BadInputError
from lightning_app.files import file_sha256
from lightning_app.settings import StudySettings, require_folder
from lightning_app.store.files import sample_sha256
from lightning_app.store.fingerprint import require_same
from lightning_app.store.predictions import PredictionCache
from lightning_app.store.study_folder import StudyFolder
from lightning_app.store.study_log import Shard, StoredStudy
from lightning_app.study.select import SampleSelector
from lightning_app.training.device import Device, pin_numerics, resolve_devices
from lightning_app.training.pretrained import Pretrained, load_pretrained, weights_sha256
from lightning_app.training.trainers import TrainerMaker

log = logging.getLogger("lightning_app")


@dataclass(frozen=True)
class Lightning:
    """What the command line says of Lightning.

    Args:
        make_trainer: Builds an example's Trainer from its flags.
        flags: Those of its flags that numbers may depend on; part of the identity.
        device_flags: The device flags as typed, for messages.
        loggers: Those of `--trainer.logger`; None where it was not given: TensorBoard in the study's folder.
    """

    make_trainer: TrainerMaker
    flags: Mapping[str, object]
    device_flags: str
    loggers: Sequence[Logger] | None


@dataclass(frozen=True)
class Prepared:
    """A study that is ready to train.

    Args:
        settings: Of the study.
        pretrained: The model.
        devices: That train, on this machine.
        sample: In training order: easiest first. Of a shard, its own examples.
        shard: Which part of the whole sample that is; None for all of it.
        existing: The study that is there, or None.
        identity: What the numbers depend on.
        environment: Where they are made.
        counts: Of images, for the summary.
        rank_digits: Of the highest rank.
        candidates: Those of the ranking whose images are there.
        available: How many of them the matrix says are such examples; None without one.
        seconds_an_answer: That the model took for an image when it was asked whether it gets it right; NaN where it
            was not asked.
    """

    settings: StudySettings
    pretrained: Pretrained
    devices: tuple[Device, ...]
    sample: list[Example]
    shard: Shard | None
    existing: StoredStudy | None
    identity: dict[str, object]
    environment: dict[str, object]
    counts: dict[str, int]
    rank_digits: int
    candidates: tuple[RankedPath, ...]
    available: int | None
    seconds_a_prediction: float

    @property
    def device(self) -> Device:
        """The first of the devices: the model is asked on it, and every other is of its kind."""
        return self.devices[0]


def prepare(settings: StudySettings, lightning: Lightning, folder: StudyFolder) -> Prepared:
    """Reads all that goes in and draws the sample; cheap checks come before the model is loaded.

    Raises:
        BadInputError: If anything given can't be used, or the study that is there is another one.
    """
    devices = resolve_devices(lightning.make_trainer, lightning.device_flags)
    require_workers(devices, settings.ray_address, lightning.device_flags)
    device = devices[0]
    require_precision(lightning.flags, device.root)
    require_engine(settings.engine, settings.slots, lightning.flags, device.root)
    if settings.root_dir is not None:
        require_folder(settings.root_dir)
    existing = None if settings.overwrite else folder.find()
    ranking = read_ranking(settings.examples_csv)
    log.info("Ranking: %d images in %s (%s)", len(ranking.paths), ranking.file, ranking.form)
    model_row = read_model_row(settings, ranking)
    images = find_images(ranking.paths, settings.root_dir)
    log_left_out("image files are missing and left out", images.missing)
    log_left_out("images lie in hidden folders or those of file managers and are left out", images.foreign)
    numerics = pin_numerics(device.kind, settings.matmul_precision)
    pretrained = load_pretrained(settings.model_name)
    labels = find_labels(ranking.paths, images.files, settings.class_to_idx, pretrained.classes)
    log.info("Model: %s, %d classes, on %s; labels by %s",
             settings.model_name, pretrained.classes.count, device.name, labels.rule)  # fmt: skip
    labels.log_remarks()
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
    where = environment(device.name, device.threads, device.instructions)
    if existing is not None:  # before the model is asked, which may take minutes
        try:
            _require_the_same_study(existing, identity, where, settings, folder.folder)
        except BadInputError as error:
            if not settings.dry_run:
                raise
            log.warning("a run would be refused: %s", error)
            existing = None
    of_predictions: dict[str, object] = {**numbers, "root_dir": str((settings.root_dir or Path()).resolve())}
    with closing(PredictionCache(folder.folder, of_predictions)) as predictions:
        selector = SampleSelector(settings, images, labels, pretrained, device, predictions)
        sample = selector.choose(ranking, model_row)
    examples, shard = part_of(in_training_order(sample, images.files, labels.of), settings)
    counts = {
        "ranked": len(ranking.paths),
        "images_found": len(images.files),
        "images_missing": len(images.missing),
        "sampled": len(examples),
    }
    rank_digits = len(str(int(max(entry.rank for entry in ranking.paths))))
    candidates = tuple(entry for entry in ranking.paths if entry.path in images.files)
    return Prepared(
        settings, pretrained, devices, examples, shard, existing, identity, where, counts, rank_digits, candidates,
        selector.available, selector.seconds_a_prediction,
    )  # fmt: skip


def part_of(sample: list[Example], settings: StudySettings) -> tuple[list[Example], Shard | None]:
    """What `--shard` leaves of a sample: every so many-th example, so that each part has easy and hard ones.

    Args:
        sample: Easiest first.
        settings: Of the study.

    Raises:
        BadInputError: If nothing is left.
    """
    if settings.part is None:
        return sample, None
    number, of = settings.part
    if of > len(sample):
        raise BadInputError(f"--shard {settings.shard}: the sample has {len(sample)} examples, too few for {of} shards")
    digest = sample_sha256(example.path for example in sample)
    part = [replace(example, index=place) for place, example in enumerate(sample[number - 1 :: of])]
    log.info("Shard %d of %d: %d of the sample's %d examples", number, of, len(part), len(sample))
    return part, Shard(number, of, len(sample), digest)


def _require_the_same_study(
    existing: StoredStudy, identity: dict[str, object], where: dict[str, object], settings: StudySettings, folder: Path
) -> None:
    """Refuses to resume where the rows to come would not be of the study that is there."""
    try:
        require_same(existing, identity, where, settings.allow_mixed_environment)
    except BadInputError as error:
        raise BadInputError(f"--output_dir: {folder} holds a study already, and {error}") from None
    limit, asked = existing.trained_for, settings.max_steps_per_example
    if asked < limit:
        raise BadInputError(
            f"--max_steps_per_example {asked}: the study in {folder} has trained for up to {limit} steps and is"
            f" resumed with that many or more. What is done has the answer for {asked} steps too: an example needs more"
            f" where its total_steps_to_epsilon is -1 or above {asked}, and the loss of each is there."
            " --output_dir puts this study elsewhere"
        )


def log_sample(prepared: Prepared) -> None:
    """What a dry run says."""
    log.info("Dry run: nothing is trained. The sample's images with their labels, easiest first:")
    for example in prepared.sample[:5]:
        log.info("  rank %s, label %d: %s", example.rank, example.label, example.image)
    if len(prepared.sample) > 5:
        log.info("  and %d more", len(prepared.sample) - 5)
