"""`evaluate`: what a pool of models gets right."""

from collections.abc import Sequence

from lightning_app.commands.base import Command
from lightning_app.settings import EvaluationSettings


class Evaluate(Command):
    """Ask timm models about every image of a folder, and write the correctness matrix that rank and run read."""

    name = "evaluate"
    settings_class = EvaluationSettings
    trainer_flags = ("accelerator", "devices")
    settings: EvaluationSettings

    def execute(self) -> int:
        """Asks the models; what is done already is kept."""
        # Here and not above: --help and a mistyped flag don't wait for timm, pandas and scipy.
        import torch

        from lightning_app.pool.evaluate import evaluate
        from lightning_app.training.device import pin_numerics, resolve_device
        from lightning_app.training.trainers import QUIET

        device = resolve_device(self.trainers.with_overrides(**QUIET), self.device_flags)
        threads = torch.get_num_threads()
        pin_numerics(device.kind)
        torch.set_num_threads(threads)  # batches gain from all of them; OMP_NUM_THREADS has the say, as ever
        return evaluate(self.settings, device)


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    return Evaluate(argv).execute()
