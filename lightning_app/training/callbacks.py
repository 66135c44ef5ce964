"""The callback that stops training once the loss is at or below epsilon, and keeps every step's loss."""

from collections.abc import Callable, Mapping

import lightning.pytorch as L
from torch import Tensor

from lightning_app.data.stop_rule import NEVER, Outcome, StopRule
from lightning_app.training.classifier import Batch
from lightning_app.training.loss import is_correct


class StopAtEpsilon(L.Callback):
    """Follows one example step by step and stops its training when the rule says so.

    Lightning calls it after the update of a step, with the loss from before that update: the update of the last step is
    taken. The step is counted here, since `trainer.global_step` counts updates.

    Args:
        rule: Decides the outcome.
        on_steps: Called after every step with 1, for a progress bar.
        on_end: Called after the last update, while the network is still on the device that trained it.
    """

    def __init__(
        self,
        rule: StopRule,
        on_steps: Callable[[int], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.rule = rule
        self.on_steps = on_steps
        self.on_end = on_end
        self.losses: list[float] = []
        self.outcome: Outcome | None = None
        self.predicted_before = NEVER
        self.steps_to_correct = NEVER

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Mapping[str, Tensor],  # type: ignore[override]
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Records the step and decides."""
        loss = outputs["step_loss"].item()
        self.losses.append(loss)
        if len(self.losses) == 1:
            self.predicted_before = int(outputs["logits"].argmax().item())
        if self.steps_to_correct == NEVER and is_correct(outputs["logits"], batch[1]).item():
            self.steps_to_correct = len(self.losses)
        self.outcome = self.rule.outcome_at(len(self.losses), loss)
        if self.outcome is not None:
            trainer.should_stop = True
        if self.on_steps is not None:
            self.on_steps(1)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lets the end be measured: after it Lightning moves the network to the CPU."""
        if self.on_end is not None:
            self.on_end()


class ShowLoss(L.Callback):
    """Shows each step's loss on Lightning's progress bar and in its loggers (`fit`)."""

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Mapping[str, Tensor],  # type: ignore[override]
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Logs the loss from before the update."""
        pl_module.log("loss", outputs["step_loss"], prog_bar=True, on_step=True)
