"""`plan`: a pilot and a forecast."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from lightning_app.commands.run import Run
from lightning_app.settings import PlanSettings, StudySettings


class Plan(Run):
    """Train a few examples of a study, and say what the whole would take, reach and be able to see."""

    name = "plan"
    settings_class = PlanSettings
    settings: PlanSettings

    def execute(self) -> int:
        """Trains the pilot and forecasts."""
        from lightning_app.study.plan import plan_study

        return plan_study(self.settings, self._lightning(), self._config_to_run_again())

    def _dumped(self) -> dict[str, Any]:
        # config.yaml is the study's: run reads it.
        own = {field.name for field in fields(PlanSettings)} - {field.name for field in fields(StudySettings)}
        return {key: value for key, value in super()._dumped().items() if key not in own}


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    return Plan(argv).execute()
