"""`validate`: a model's accuracy over a folder of images."""

from collections.abc import Sequence

from lightning_app.commands.base import Command
from lightning_app.errors import BadInputError
from lightning_app.inputs.images import find_images, images_below
from lightning_app.inputs.labels import find_labels
from lightning_app.settings import ValidationSettings
from lightning_app.stopping import exit_at_once
from lightning_app.training.classifier import ValidatedClassifier
from lightning_app.training.datamodule import ImageFolder, LabelledImages
from lightning_app.training.device import pin_numerics, resolve_device
from lightning_app.training.photograph import UnreadableImageError
from lightning_app.training.pretrained import load_pretrained


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
        settings = self.settings
        trainers = self.trainers.but(logger=False, enable_checkpointing=False, enable_model_summary=False)
        device = resolve_device(trainers, self.device_flags)
        paths = images_below(settings.root_dir)
        files = find_images(paths, None).files
        pin_numerics(device.kind)
        pretrained = load_pretrained(settings.model_name)
        labels = find_labels(paths, files, settings.class_to_idx, pretrained.classes)
        images = LabelledImages(
            [files[entry.path] for entry in paths], [labels.of[entry.path] for entry in paths], pretrained.transform
        )
        print(f"{len(paths)} images, labels by {labels.rule}")
        trainer = trainers([])
        try:
            with exit_at_once():
                trainer.validate(
                    ValidatedClassifier(pretrained.network, pretrained.classes.count),
                    datamodule=ImageFolder(images, settings.batch_size),
                )
        except UnreadableImageError as error:
            raise BadInputError(f"--root_dir {settings.root_dir} holds an image that can't be read: {error}") from error
        return 0


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    return Validate(argv).execute()
