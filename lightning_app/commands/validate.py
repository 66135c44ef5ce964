"""`validate`: a model's accuracy over a folder of images."""

import logging
from collections.abc import Sequence

from lightning_app.commands.base import Command
from lightning_app.console.log import StudyLog
from lightning_app.console.signals import exit_at_once
from lightning_app.data.image import UnreadableImageError
from lightning_app.data.images import find_images, images_below
from lightning_app.data.labels import doubts, find_labels
from lightning_app.errors import BadInputError, say
from lightning_app.settings import ValidationSettings
from lightning_app.training.classifier import ValidatedClassifier
from lightning_app.training.datamodule import ImageFolder, LabelledImages
from lightning_app.training.device import pin_numerics, resolve_device
from lightning_app.training.pretrained import load_pretrained

log = logging.getLogger("lightning_app")


class Validate(Command):
    """Measure a model's accuracy over a folder of images."""

    name = "validate"
    settings_class = ValidationSettings
    trainer_flags = (
        "accelerator",
        "devices",
        "precision",
        "plugins",
        "profiler",
        "enable_progress_bar",
        "limit_val_batches",
    )
    settings: ValidationSettings

    def execute(self) -> int:
        """Validates; Lightning prints the table."""
        with StudyLog():
            return self._validate()

    def _validate(self) -> int:
        settings = self.settings
        trainers = self.trainers.with_overrides(logger=False, enable_checkpointing=False, enable_model_summary=False)
        device = resolve_device(trainers, self.device_flags)
        below = images_below(settings.root_dir)
        below.log_left_out()
        paths = below.ranked
        files = find_images(paths, None).files
        pin_numerics(device.kind)
        pretrained = load_pretrained(settings.model_name)
        labels = find_labels(paths, files, settings.class_to_idx, pretrained.classes)
        images = LabelledImages(
            [files[entry.path] for entry in paths], [labels.of[entry.path] for entry in paths], pretrained.transform
        )
        labels.log_remarks()
        say(f"{len(paths)} images, labels by {labels.rule}")
        classifier = ValidatedClassifier(pretrained.network, pretrained.classes.count)
        trainer = trainers([])
        try:
            with exit_at_once():
                trainer.validate(classifier, datamodule=ImageFolder(images, settings.batch_size))
        except UnreadableImageError as error:
            raise BadInputError(f"--root_dir {settings.root_dir} holds an image that can't be read: {error}") from error
        asked = len(classifier.predicted)  # fewer than all with --trainer.limit_val_batches
        there, of = images.files[:asked], images.labels[:asked]
        for doubt in doubts(labels, pretrained.classes, there, of, classifier.predicted):
            log.warning("%s", doubt)
        return 0


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    return Validate(argv).execute()
