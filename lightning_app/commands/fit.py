"""`fit`: one example, with Lightning's own bar and loggers."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from lightning.pytorch.cli import LightningArgumentParser

from lightning_app.commands.base import EXAMPLE_TRAINER_FLAGS, Command
from lightning_app.console.log import StudyLog
from lightning_app.console.signals import exit_at_once
from lightning_app.data.image import UnreadableImageError
from lightning_app.data.labels import Classes, find_labels
from lightning_app.data.ranking import RankedPath
from lightning_app.data.stop_rule import StopRule
from lightning_app.errors import BadInputError, say
from lightning_app.settings import FitSettings, require
from lightning_app.training.callbacks import ShowLoss, StopAtEpsilon
from lightning_app.training.classifier import Classifier
from lightning_app.training.datamodule import SingleExample
from lightning_app.training.device import pin_numerics, resolve_device
from lightning_app.training.pretrained import load_pretrained

log = logging.getLogger("lightning_app")


class Fit(Command):
    """Train on one image (--data.path) until its loss reaches epsilon, with Lightning's own bar and loggers."""

    name = "fit"
    settings_class = FitSettings
    trainer_flags = (
        *EXAMPLE_TRAINER_FLAGS,
        "logger",
        "log_every_n_steps",
        "enable_progress_bar",
        "enable_model_summary",
    )
    own_trainer_defaults: ClassVar[dict[str, object]] = {
        "logger": False,
        "log_every_n_steps": 1,
        "enable_model_summary": False,
    }
    data_hints: ClassVar[dict[str, object]] = {"data.path": Path, "data.label": int | None}
    settings: FitSettings

    def add_data_arguments(self, parser: LightningArgumentParser) -> None:
        """The example."""
        parser.add_argument("--data.path", type=Path, required=True, help="The image.")
        parser.add_argument(
            "--data.label", type=int | None, default=None,
            help="Its class index (default: by --class_to_idx, a WordNet id in the path, or its class folder).",
        )  # fmt: skip

    def _label(self, classes: Classes) -> int:
        path, label = self.config["data"]["path"], self.config["data"]["label"]
        if label is not None:
            require("data.label", f"a class index from 0 to {classes.count - 1}", label, 0 <= label < classes.count)
            return int(label)
        try:
            labels = find_labels([RankedPath(str(path), 0, 1)], {str(path): path}, self.settings.class_to_idx, classes)
        except BadInputError as error:
            raise BadInputError(f"{error}; --data.label gives it outright") from error
        log.info("Label %d by %s", labels.of[str(path)], labels.rule)
        labels.log_remarks()
        return labels.of[str(path)]

    def execute(self) -> int:
        """Trains and tells the outcome."""
        with StudyLog():
            return self._fit()

    def _fit(self) -> int:
        settings, path = self.settings, self.config["data"]["path"]
        require("data.path", "an image file", f"{path} ({path.absolute()})", path.is_file())
        device = resolve_device(self.trainers, self.device_flags)
        pin_numerics(device.kind, settings.matmul_precision)
        pretrained = load_pretrained(settings.model_name)
        label = self._label(pretrained.classes)
        stop = StopAtEpsilon(StopRule(settings.epsilon, settings.max_steps_per_example))
        classifier = Classifier(pretrained.network, settings.lr, settings.weight_decay, settings.momentum)
        try:
            data = SingleExample(path, label, pretrained.transform, settings.max_steps_per_example)
        except UnreadableImageError as error:
            raise BadInputError(f"--data.path can't be read: {error}") from error
        trainers = self.trainers.with_overrides(max_epochs=1, limit_val_batches=0, enable_checkpointing=False)
        trainer = trainers([ShowLoss(), stop])
        with exit_at_once():
            trainer.fit(classifier, datamodule=data)
        say(
            f"{path} (label {label}, predicted before {stop.predicted_before}): {stop.outcome} after"
            f" {len(stop.losses)} steps, loss {stop.losses[0]:.6g} to {stop.losses[-1]:.6g}, epsilon"
            f" {settings.epsilon:g}"
        )
        return 0


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    return Fit(argv).execute()
