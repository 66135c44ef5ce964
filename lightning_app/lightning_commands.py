"""The commands that go through LightningCLI: `run`, `fit`, `validate`."""

import logging
import os
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as L
import yaml
from jsonargparse import ActionConfigFile, Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lightning_app.errors import BadInput
from lightning_app.inputs.images import find_images
from lightning_app.inputs.labels import Labels, find_labels
from lightning_app.inputs.ranking import RankedPath
from lightning_app.settings import ModelSettings, StudySettings, TrainingSettings, ValidationSettings, require
from lightning_app.study import Lightning, run_study

CONFIGS = Path(__file__).parent / "configs"

TRAINER_FLAGS_OF_RUN = (
    "accelerator", "devices", "precision", "callbacks", "accumulate_grad_batches", "gradient_clip_val",
    "gradient_clip_algorithm", "deterministic", "benchmark", "profiler", "detect_anomaly", "plugins", "default_root_dir",
)  # fmt: skip
"""Trainer flags that make sense for one example's Trainer; `run` decides all others itself."""

NOT_IN_THE_IDENTITY = ("accelerator", "devices", "profiler", "default_root_dir", "detect_anomaly")
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"))


class NamedConfig(ActionConfigFile):
    """`--config`: a YAML file, or the bare name of one that the package carries."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: Any = None) -> None:
        """Applies the file."""
        super().__call__(parser, cfg, str(named_config(str(values))), option_string)


def named_config(name: str) -> Path:
    """Finds a config: a name without a path and ending is one that the package carries.

    Raises:
        BadInput: If there is no such file or name.
    """
    carried = CONFIGS / f"{name}.yaml"
    if Path(name).name == name and carried.is_file():
        return carried
    if Path(name).is_file():
        return Path(name)
    names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
    raise BadInput(f"--config: there is no file {name} ({Path(name).absolute()}); configs by bare name: {names}")


class Command(LightningCLI):
    """LightningCLI for one command, whose options stand flat beside Lightning's `--trainer.*`.

    Args:
        argv: The command's arguments.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type[ModelSettings]]
    trainer_flags: ClassVar[Sequence[str] | None] = None
    own_trainer_defaults: ClassVar[dict[str, object]] = {}

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(
            run=False,
            args=configs_first(argv),
            save_config_callback=None,
            seed_everything_default=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            trainer_defaults={"devices": 1, **self.own_trainer_defaults},
            parser_kwargs={
                "prog": f"steps-to-epsilon {self.name}",
                "description": self.__doc__,
                "exit_on_error": False,
                "allow_abbrev": False,
            },
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """The parser, with `--config` by bare name too."""
        parser = self.parser_class(**kwargs)
        parser.add_argument(
            "-c", "--config", action=NamedConfig,
            help="A YAML file with any of these options, or the bare name of one that comes with the package; may be"
            " given more than once. An option on the command line goes before every file.",
        )  # fmt: skip
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """No `--seed_everything`: a step has no randomness."""

    def _set_seed(self) -> None:
        """Nothing to seed, and no key for it in the config (LightningCLI has no public switch for this)."""

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Our options first, then Lightning's."""
        parser.add_class_arguments(self.settings_class, None)
        self.add_data_arguments(parser)
        names = [name for name in _parameters(L.Trainer) if self.trainer_flags is not None and name not in self.trainer_flags]
        parser.add_class_arguments(
            L.Trainer, "trainer", instantiate=False, fail_untyped=False, sub_configs=True, skip=set(names)
        )
        parser.set_defaults({f"trainer.{key}": value for key, value in self.trainer_defaults.items()})

    def add_data_arguments(self, parser: LightningArgumentParser) -> None:
        """For commands with options under `--data`."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; Lightning's own warns of arguments that don't come from `sys.argv`."""
        try:
            self.config: Namespace = parser.parse_args(args)
        except (ArgumentError, TypeError, ValueError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(" ".join(str(error).split())) from error

    def instantiate_classes(self) -> None:
        """Builds and checks the settings; Trainers are built when they are needed."""
        values = {field.name: self.config[field.name] for field in fields(self.settings_class)}
        self.settings = self.settings_class(**values)
        self.config_init = self.parser.instantiate_classes(self.config)

    def make_trainer(self, callbacks: list[L.Callback], **overrides: Any) -> L.Trainer:
        """A new Trainer from the flags, with these callbacks beside the user's."""
        chosen = self.config_init["trainer"]["callbacks"] or []
        return self.instantiate_trainer(
            callbacks=[*(chosen if isinstance(chosen, list) else [chosen]), *callbacks], **overrides
        )

    @property
    def device_flags(self) -> str:
        """The device flags as they would be typed."""
        flags = self.config["trainer"]
        return f"--trainer.accelerator {flags['accelerator']} --trainer.devices {flags['devices']}"


class Run(Command):
    """Train on each sampled image alone until its loss reaches epsilon, and count the SGD steps."""

    name = "run"
    settings_class = StudySettings
    trainer_flags = TRAINER_FLAGS_OF_RUN
    settings: StudySettings

    def execute(self) -> int:
        """Runs the study."""
        lightning = Lightning(
            lambda callbacks: self.make_trainer(callbacks, max_epochs=1, limit_val_batches=0, **QUIET),
            self._flags_that_matter(),
            self.device_flags,
        )
        return run_study(self.settings, lightning, self._config_to_run_again())

    def _dumped(self) -> dict[str, Any]:
        dumped = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        assert isinstance(dumped, dict)
        dumped.pop("config", None)
        return dumped

    def _flags_that_matter(self) -> dict[str, object]:
        return {key: value for key, value in self._dumped()["trainer"].items() if key not in NOT_IN_THE_IDENTITY}

    def _config_to_run_again(self) -> str:
        # Without --overwrite: running a config again must never move a study aside unasked.
        return yaml.safe_dump({**self._dumped(), "overwrite": False, "dry_run": False}, sort_keys=False, allow_unicode=True)


class Fit(Command):
    """Train on one image (--data.path) until its loss reaches epsilon, with Lightning's own bar and loggers."""

    name = "fit"
    settings_class = TrainingSettings
    trainer_flags = (*TRAINER_FLAGS_OF_RUN, "logger", "log_every_n_steps", "enable_progress_bar", "enable_model_summary")
    own_trainer_defaults: ClassVar[dict[str, object]] = {"logger": False, "log_every_n_steps": 1, "enable_model_summary": False}
    settings: TrainingSettings

    def add_data_arguments(self, parser: LightningArgumentParser) -> None:
        """The example."""
        parser.add_argument("--data.path", type=Path, required=True, help="The image.")
        parser.add_argument(
            "--data.label", type=int | None, default=None,
            help="Its class index (default: by --class_to_idx, a WordNet id in the path, or its class folder).",
        )  # fmt: skip

    def execute(self) -> int:
        """Trains and tells the outcome."""
        from lightning_app.training.callbacks import ShowLoss, StopAtEpsilon
        from lightning_app.training.classifier import Classifier
        from lightning_app.training.datamodule import SingleExample
        from lightning_app.training.device import pin_numerics, resolve_device
        from lightning_app.training.photograph import UnreadableImage
        from lightning_app.training.pretrained import load_pretrained
        from lightning_app.training.trajectory import StopRule

        settings, path = self.settings, self.config["data"]["path"]
        require("data.path", "an image file", f"{path} ({path.absolute()})", path.is_file())
        resolve_device(lambda: self.make_trainer([]), self.device_flags)
        pin_numerics()
        pretrained = load_pretrained(settings.model_name)
        entry = RankedPath(str(path), 0, 1, self.config["data"]["label"])
        labels = find_labels([entry], {entry.path: path}, settings.class_to_idx, pretrained.classes)
        stop = StopAtEpsilon(StopRule(settings.epsilon, settings.max_steps_per_example))
        classifier = Classifier(pretrained.network, settings.lr, settings.weight_decay, settings.momentum)
        try:
            data = SingleExample(path, labels.of[entry.path], pretrained.transform, settings.max_steps_per_example)
        except UnreadableImage as error:
            raise BadInput(f"--data.path can't be read: {error}") from error
        trainer = self.make_trainer([ShowLoss(), stop], max_epochs=1, limit_val_batches=0, enable_checkpointing=False)
        trainer.fit(classifier, datamodule=data)
        print(
            f"{path} (label {labels.of[entry.path]}, predicted before {stop.predicted_before}): {stop.outcome} after"
            f" {len(stop.losses)} steps, loss {stop.losses[0]:.6g} to {stop.losses[-1]:.6g}; epsilon {settings.epsilon:g}"
        )
        return 0


class Validate(Command):
    """Measure a model's accuracy over a folder of images."""

    name = "validate"
    settings_class = ValidationSettings
    trainer_flags = ("accelerator", "devices", "precision", "plugins", "profiler", "enable_progress_bar", "limit_val_batches")
    settings: ValidationSettings

    def execute(self) -> int:
        """Validates; Lightning prints the table."""
        from lightning_app.training.classifier import ValidatedClassifier
        from lightning_app.training.datamodule import ImageFolder, LabelledImages
        from lightning_app.training.device import pin_numerics, resolve_device
        from lightning_app.training.photograph import UnreadableImage
        from lightning_app.training.pretrained import load_pretrained

        settings = self.settings
        resolve_device(lambda: self.make_trainer([]), self.device_flags)
        paths = images_below(settings.root_dir)
        files = find_images(paths, None).files
        pin_numerics()
        pretrained = load_pretrained(settings.model_name)
        labels: Labels = find_labels(paths, files, settings.class_to_idx, pretrained.classes)
        images = LabelledImages(
            [files[entry.path] for entry in paths], [labels.of[entry.path] for entry in paths], pretrained.transform
        )
        print(f"{len(paths)} images, labels by {labels.rule}")
        trainer = self.make_trainer([], logger=False, enable_checkpointing=False, enable_model_summary=False)
        try:
            trainer.validate(
                ValidatedClassifier(pretrained.network, pretrained.classes.count),
                datamodule=ImageFolder(images, settings.batch_size),
            )
        except UnreadableImage as error:
            raise BadInput(f"--root_dir {settings.root_dir} holds an image that can't be read: {error}") from error
        return 0


def images_below(root_dir: Path) -> list[RankedPath]:
    """Every image file below a folder, sorted by path.

    Raises:
        BadInput: If there is none.
    """
    files = sorted(str(f) for f in root_dir.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    if not files:
        raise BadInput(f"--root_dir {root_dir} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return [RankedPath(file, place, place + 1) for place, file in enumerate(files)]


def configs_first(argv: Sequence[str]) -> list[str]:
    """Moves every `--config` to the front, in their order, so that a flag beats every file wherever it stands."""
    configs: list[str] = []
    others: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word in ("--config", "-c"):
            configs += [word, *([value] if (value := next(rest, None)) is not None else [])]
        else:
            (configs if word.startswith("--config=") else others).append(word)
    return configs + others


def _parameters(of: type) -> list[str]:
    import inspect

    return [name for name in inspect.signature(of.__init__).parameters if name != "self"]  # type: ignore[misc]


def _quieten_lightning() -> None:
    # A Trainer for every example would repeat its banner and its hints for each; nothing in them is the user's to do.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # Lightning 2.6 calls a jsonargparse method that is deprecated since 4.49.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")


COMMANDS: dict[str, type[Run | Fit | Validate]] = {"run": Run, "fit": Fit, "validate": Validate}


def main(name: str, argv: Sequence[str]) -> int:
    """Runs one of the commands.

    Returns:
        The exit code.

    Raises:
        BadInput: If something given can't be used.
    """
    _quieten_lightning()
    return COMMANDS[name](argv).execute()
