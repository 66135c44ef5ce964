"""`bench`: the engines side by side."""

from collections.abc import Sequence

from lightning_app.commands.base import Command
from lightning_app.errors import BadInputError
from lightning_app.settings import BenchSettings


class Bench(Command):
    """Measure the engines side by side on this machine, on made-up images, and see that their numbers are the same."""

    name = "bench"
    settings_class = BenchSettings
    trainer_flags = ("accelerator", "devices", "precision")
    settings: BenchSettings

    def execute(self) -> int:
        """Measures, and prints a table or JSON."""
        # Here and not above: --help and a mistyped flag don't wait for timm and torchvision.
        from lightning_app.bench.bench import bench
        from lightning_app.engines.choose import not_for_slots, require_precision
        from lightning_app.training.device import pin_numerics, resolve_device

        settings = self.settings
        flags = {"precision": self.config["trainer"]["precision"]}
        trainers = self.trainers.for_an_example()
        device = resolve_device(trainers, self.device_flags)
        require_precision(flags, device.root)
        refused = not_for_slots(flags)
        if refused and settings.engine_names != ("trainer",):
            raise BadInputError(
                f"{refused} needs a Trainer for every example: --engines trainer honours it, got {settings.engines}"
            )
        if settings.slots is not None and settings.slots > 1 and device.kind != "cuda":
            raise BadInputError(
                f"--slots {settings.slots}: there is one slot without a CUDA GPU, and this is {device.kind}"
            )
        pin_numerics(device.kind, settings.matmul_precision)
        return bench(settings, trainers, device)


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    return Bench(argv).execute()
