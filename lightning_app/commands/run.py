"""`run`: the study."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml
from lightning.pytorch.loggers import Logger

from lightning_app.commands.base import EXAMPLE_TRAINER_FLAGS, Command
from lightning_app.errors import BadInputError
from lightning_app.settings import EXECUTION_ONLY, StudySettings

if TYPE_CHECKING:
    from lightning_app.study.prepare import Lightning

NOT_IN_THE_IDENTITY = ("accelerator", "devices", "logger")


class Run(Command):
    """Train on each sampled image alone until its loss reaches epsilon, and count the SGD steps."""

    name = "run"
    settings_class = StudySettings
    trainer_flags = (*EXAMPLE_TRAINER_FLAGS, "logger")
    settings: StudySettings

    def execute(self) -> int:
        """Runs the study."""
        # Here and not above: --help and a mistyped flag don't wait for timm, pandas, scipy and matplotlib.
        from lightning_app.study.run import run_study

        return run_study(self.settings, self._lightning(), self._config_to_run_again())

    def _lightning(self) -> "Lightning":
        from lightning_app.study.prepare import Lightning

        trainers = self.trainers.for_an_example()
        return Lightning(trainers, self._flags_that_matter(), self.device_flags, self._loggers())

    def _loggers(self) -> Sequence[Logger] | None:
        """What `--trainer.logger` asks for; Lightning's True is its default, and ours is TensorBoard."""
        asked = self.config_init["trainer"]["logger"]
        if asked is None or asked is True:
            return None
        if asked is False:
            return []
        return [asked] if isinstance(asked, Logger) else list(asked)

    def _dumped(self) -> dict[str, Any]:
        try:
            dumped = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        except (TypeError, ValueError, yaml.YAMLError) as error:
            reason = textwrap.shorten(str(error), 200)
            raise BadInputError(
                f"--trainer: these callbacks or plugins can't be written into config.yaml: {reason}"
            ) from error
        assert isinstance(dumped, dict)
        dumped.pop("config", None)
        return dumped

    def _flags_that_matter(self) -> dict[str, object]:
        return {key: value for key, value in self._dumped()["trainer"].items() if key not in NOT_IN_THE_IDENTITY}

    def _config_to_run_again(self) -> str:
        # Without --overwrite and its like: a config that is run again does nothing that was meant for once.
        once = {name: StudySettings.__dataclass_fields__[name].default for name in EXECUTION_ONLY}
        return yaml.safe_dump({**self._dumped(), **once}, sort_keys=False, allow_unicode=True)


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    return Run(argv).execute()
