"""The LightningModule: a network, the loss of a step, the optimiser. It knows no files and stops nothing."""

from collections.abc import Iterable, Mapping

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lightning_app.training.loss import precise_loss

Batch = tuple[Tensor, Tensor]
"""Images (N, 3, H, W) and class indices (N,)."""


class Classifier(L.LightningModule):
    """A timm classifier that trains by plain SGD, whole in eval mode.

    Eval mode with gradients on: no dropout, and BatchNorm keeps the pretrained statistics, so that a step is a pure
    function of weights, image, label and optimiser.

    Args:
        network: Images to logits (N, C).
        lr: Learning rate.
        weight_decay: Weight decay.
        momentum: Momentum.
    """

    def __init__(self, network: nn.Module, lr: float = 5e-6, weight_decay: float = 0.0, momentum: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.lr = lr
        self.weight_decay = weight_decay
        self.momentum = momentum

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        logits: Tensor = self.network(images)
        return logits

    def on_fit_start(self) -> None:
        """Puts the whole network in eval mode: since Lightning 2.2 `fit` leaves the mode as it finds it."""
        self.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Mapping[str, Tensor]:
        """One step's loss, and for the callback the same loss and the logits without their graph."""
        images, labels = batch
        logits = self(images)
        loss = precise_loss(logits, labels).mean()
        return {"loss": loss, "step_loss": loss.detach(), "logits": logits.detach()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return self.sgd(self.parameters())

    def sgd(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Plain SGD with the study's numbers for any parameters."""
        return torch.optim.SGD(parameters, lr=self.lr, weight_decay=self.weight_decay, momentum=self.momentum)


class ValidatedClassifier(Classifier):
    """A classifier whose accuracy over a folder is asked for.

    Args:
        network: Images to logits (N, C).
        num_classes: C.
    """

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__(network)
        self.top1 = MulticlassAccuracy(num_classes, average="micro")
        self.predicted: list[int] = []
        self.top5 = MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs accuracy and the mean loss, and keeps what was predicted."""
        images, labels = batch
        logits = self(images)
        self.predicted += logits.argmax(dim=1).tolist()
        self.top1(logits, labels)
        self.top5(logits, labels)
        self.log("top1", self.top1, batch_size=len(labels))
        self.log("top5", self.top5, batch_size=len(labels))
        self.log("loss", precise_loss(logits, labels).mean(), on_epoch=True, batch_size=len(labels))
