"""What the commands that go through LightningCLI share: flat options, YAML by bare name, one Trainer's flags."""

from argparse import ArgumentError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

import lightning.pytorch as L
import yaml
from jsonargparse import ActionConfigFile, Namespace, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lightning_app.commands.parser import SWITCH, flags_of, innermost, why_not
from lightning_app.errors import BadInputError
from lightning_app.files import MAX_YAML_BYTES, OutsideError, flat, read_regular, require_small_yaml, yaml_as
from lightning_app.settings import CONFIGS, Settings
from lightning_app.training.trainers import TrainerMaker, quieten_lightning

MAX_DEVICES = 1024


class NamedConfig(ActionConfigFile):
    """`--config`: a YAML file, or the bare name of one that the package carries."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: Any = None) -> None:
        """Applies the file."""
        file = named_config(str(values))
        try:
            read_regular(file, limit=MAX_YAML_BYTES)
            self.apply_config(parser, cfg, self.dest, str(file))
            # Here, where the file's name is known, and by the name that every jsonargparse before 5 has for it.
            parser.check_config(cfg, skip_required=True)
        # For YAML that has another form than the options, jsonargparse raises AttributeError, RecursionError, ...
        except (BadInputError, OutsideError, OSError) as error:
            raise BadInputError(f"--config {file}: {' '.join(str(error).split())}") from error
        except Exception as error:
            given = _in_file(file)
            raise BadInputError(f"--config {file}: {why_not(error, parser, given, parser.hints)}") from error


def named_config(name: str) -> Path:
    """Finds a config: a name without a path and ending is one that the package carries.

    Raises:
        BadInputError: If there is no such file or name.
    """
    carried = CONFIGS / f"{name}.yaml"
    if Path(name).name == name and carried.is_file():
        return carried
    if Path(name).is_file():
        return Path(name)
    names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
    raise BadInputError(f"--config: there is no file {name} ({Path(name).absolute()}); configs by bare name: {names}")


def load_small_yaml(text: str) -> object:
    """What jsonargparse makes of YAML, in a file or on the command line, once it is known not to grow."""
    require_small_yaml(text)
    return JSONARGPARSES(text)


JSONARGPARSES: Callable[[str], object] = get_loader("yaml")
set_loader("yaml", load_small_yaml, (yaml.YAMLError,))

EXAMPLE_TRAINER_FLAGS = (
    "accelerator",
    "devices",
    "precision",
    "callbacks",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "plugins",
)
"""Trainer flags that make sense for one example's Trainer; all others are decided here."""


class OptionParser(LightningArgumentParser):
    """LightningCLI's parser, which knows the type of each option."""

    hints: Mapping[str, object]


class Command(LightningCLI):
    """LightningCLI for one command, whose options stand flat beside Lightning's `--trainer.*`.

    Args:
        argv: The command's arguments.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type[Settings]]
    trainer_flags: ClassVar[Sequence[str] | None] = None
    own_trainer_defaults: ClassVar[dict[str, object]] = {}
    data_hints: ClassVar[dict[str, object]] = {}

    def __init__(self, argv: Sequence[str]) -> None:
        quieten_lightning()
        _require_small_files(argv)
        super().__init__(
            run=False,
            args=configs_first(switches_spelled_out(argv, self.settings_class)),
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
        parser = OptionParser(**kwargs)
        parser.hints = {
            **get_type_hints(self.settings_class),
            **{f"trainer.{name}": hint for name, hint in _trainer_hints().items()},
            **self.data_hints,
        }
        parser.add_argument(
            "-c", "--config", action=NamedConfig,
            help="A YAML file with any of these options, or the bare name of one that comes with the package (those are"
            " for run); may be given more than once. An option on the command line goes before every file.",
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
        skipped = set() if self.trainer_flags is None else {*_trainer_hints()} - {*self.trainer_flags}
        parser.add_class_arguments(
            L.Trainer, "trainer", instantiate=False, fail_untyped=False, sub_configs=True, skip=skipped
        )
        parser.set_defaults({f"trainer.{key}": value for key, value in self.trainer_defaults.items()})

    def add_data_arguments(self, parser: LightningArgumentParser) -> None:
        """For commands with options under `--data`."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; Lightning's own warns of arguments that don't come from `sys.argv`."""
        try:
            self.config: Namespace = parser.parse_args(args)
        except (ArgumentError, TypeError, ValueError) as error:
            if isinstance(error, BadInputError):
                raise
            assert isinstance(parser, OptionParser)
            given = [one for key, value in flags_of(args) for one in _spelled_out(key, value)]
            raise BadInputError(why_not(error, parser, given, parser.hints, "--")) from error

    def instantiate_classes(self) -> None:
        """Builds and checks the settings; Trainers are built when they are needed."""
        values = {field.name: self.config[field.name] for field in fields(self.settings_class)}
        for field in fields(self.settings_class):
            if values[field.name] is None and type(None) not in get_args(field.type):
                raise BadInputError(f"--{field.name} must have a value, got null")
        self.settings = self.settings_class(**values)
        if not isinstance(self.config["trainer"], Namespace):
            raise BadInputError(
                f"--trainer: got {self.config['trainer']}, expected flags such as trainer: {{devices: 1}}"
            )
        _require_possible(self.config["trainer"]["devices"])
        try:
            self.config_init = self.parser.instantiate_classes(self.config)
        # A user's callback, plugin or logger that refuses its arguments, or whose package isn't there.
        except (ImportError, TypeError, ValueError) as error:
            raise BadInputError(f"--trainer: {innermost(error, None)}") from error

    @property
    def trainers(self) -> TrainerMaker:
        """Builds Trainers from the flags."""
        return TrainerMaker(vars(self.config_init["trainer"]))

    @property
    def device_flags(self) -> str:
        """The device flags as they would be typed."""
        flags = self.config["trainer"]
        return f"--trainer.accelerator {flags['accelerator']} --trainer.devices {flags['devices']}"


def _require_small_files(argv: Sequence[str]) -> None:
    """Refuses what cannot be a file of the Trainer's flags: jsonargparse would read it whole, or wait for a pipe."""
    for flag, value in flags_of(argv):
        file = Path(value or "")
        if flag.startswith("trainer") and _is_there(file) and not file.is_dir():
            try:
                read_regular(file, limit=MAX_YAML_BYTES)
            except (OSError, OutsideError) as error:
                raise BadInputError(f"--{flag}: {file} can't be read as a file of flags: {error}") from None


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # too long for a name
        return False


def _require_possible(devices: object) -> None:
    """Refuses a number of devices for which Lightning would make a list that fills the memory, without a word."""
    number = str(devices).strip()
    if number.isdecimal() and (len(number) > len(str(MAX_DEVICES)) or int(number) > MAX_DEVICES):
        raise BadInputError(f"--trainer.devices must be a number of devices up to {MAX_DEVICES}, got {number[:20]}")


def switches_spelled_out(argv: Sequence[str], settings_class: type[Settings]) -> list[str]:
    """Lets a yes-or-no option stand alone: `--overwrite` is `--overwrite=true` (jsonargparse wants the word)."""
    switches = {f"--{field.name}" for field in fields(settings_class) if field.type is bool}
    following = [*argv, ""][1:]
    return [
        f"{word}=true" if word in switches and after.lower() not in SWITCH else word
        for word, after in zip(argv, following, strict=True)
    ]


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


def _spelled_out(flag: str, value: str | None) -> list[tuple[str, object]]:
    """A flag of the command line; `--trainer FILE` as what the file gives."""
    is_file = flag == "trainer" and value is not None and _is_there(Path(value))
    return _in_file(Path(value or ""), flag) if is_file else [(flag, value)]


def _in_file(file: Path, key: str = "") -> list[tuple[str, object]]:
    """What a YAML file gives, by option; nothing where it can't be read."""
    try:
        content = yaml_as(object, read_regular(file, limit=MAX_YAML_BYTES))
    except (OSError, OutsideError):
        return []
    return [pair for pair in flat(content, key) if pair[1] != {}] if isinstance(content, dict) else []


def _trainer_hints() -> dict[str, object]:
    """The type of each of the Trainer's arguments."""
    hints = get_type_hints(L.Trainer.__init__)
    del hints["return"]
    return hints
