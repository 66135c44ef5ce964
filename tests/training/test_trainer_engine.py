"""Known answers: networks whose counts can be worked out by hand, and an independent loop."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from lightning_app.inputs.example import Example
from lightning_app.training.classifier import Classifier
from lightning_app.training.pretrained import load_pretrained, weights_sha256
from lightning_app.training.trainer_engine import TrainerEngine
from lightning_app.training.trajectory import Failure, StopRule, Trajectory
from tests import oracle
from tests.conftest import MakeModel


def make_trainer(callback: L.Callback) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback],
    )  # fmt: skip


def brightness(image: Image.Image) -> Tensor:
    pixels: Tensor = pil_to_tensor(image).float() / 255
    return pixels


def engine(network: nn.Module, lr: float, epsilon: float, max_steps: int, transform: Callable[..., Tensor] = brightness
           ) -> TrainerEngine:  # fmt: skip
    return TrainerEngine(Classifier(network.eval(), lr), transform, StopRule(epsilon, max_steps), make_trainer)


def example(image: Path, label: int = 1, index: int = 0) -> Example:
    return Example(index, str(image), image, label, index + 1)


def one(engine: TrainerEngine, image: Path, label: int = 1) -> Trajectory:
    (result,) = engine.train([example(image, label)])
    assert isinstance(result, Trajectory)
    return result


@pytest.fixture
def grey(tmp_path: Path) -> Callable[[int], Path]:
    """A 1x1 image of a brightness from 0 to 255."""

    def make(value: int) -> Path:
        file = tmp_path / f"{value}.png"
        Image.fromarray(np.full((1, 1), value, dtype=np.uint8)).save(file)
        return file

    return make


class OneParameter(nn.Module):
    """Logits (0, w): the loss of label 1 is softplus(-w)."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(float(start)))

    def forward(self, images: Tensor) -> Tensor:
        w = self.w.expand(len(images))
        return torch.stack([torch.zeros_like(w), w], dim=1)


@pytest.mark.parametrize(
    ("lr", "epsilon"), [(0.5, 40.0), (0.25, 40.25), (4.0, 77.0), (8.0, 36.0), (0.5, 99.9), (1, 100)]
)
def test_a_straight_line_has_a_closed_form(grey: Callable[[int], Path], lr: float, epsilon: float) -> None:
    """Far out softplus(-w) is -w: from w = -100 each step takes lr off the loss."""
    expected = max(0, math.ceil((100 - epsilon) / lr)) + 1
    result = one(engine(OneParameter(-100), lr, epsilon, 1000), grey(0))
    assert result.outcome == "reached"
    assert result.total_steps_to_epsilon == expected
    assert list(result.losses) == [100 - lr * k for k in range(expected)]
    assert result.weight_distance == lr * expected  # the update of the last step is taken too


@pytest.mark.parametrize(("lr", "epsilon"), [(0.5, 0.1), (1, 0.01), (2, 0.003), (0.1, 0.5), (50, 1e-4), (5, 1e-3)])
def test_a_logistic_curve_by_hand(grey: Callable[[int], Path], lr: float, epsilon: float) -> None:
    w, losses = -1.0, [math.log1p(math.exp(1.0))]
    while losses[-1] > epsilon:
        w += lr / (1 + math.exp(w))
        losses.append(math.log1p(math.exp(-w)))
    result = one(engine(OneParameter(-1), lr, epsilon, 5000), grey(0))
    assert (result.outcome, result.total_steps_to_epsilon) == ("reached", len(losses))
    assert list(result.losses) == pytest.approx(losses, rel=1e-4)
    assert result.predicted_before == 0
    # Correct means w > 0, that is a loss below ln 2; never at step 1 of a wrong example.
    assert result.steps_to_correct == next((k for k, v in enumerate(losses, 1) if v < math.log(2)), -1)


def test_epsilon_is_met_exactly_or_not(grey: Callable[[int], Path]) -> None:
    at = one(engine(OneParameter(-1), 0.5, 1e-9, 6), grey(0)).losses[3]
    assert one(engine(OneParameter(-1), 0.5, at, 6), grey(0)).total_steps_to_epsilon == 4
    assert one(engine(OneParameter(-1), 0.5, np.nextafter(at, 0), 6), grey(0)).total_steps_to_epsilon == 5
    # A bound between the float32 loss and its neighbour is the same number in float32, and not the same in float64.
    just_below = at - float(np.spacing(np.float32(at))) / 4
    assert np.float32(just_below) == np.float32(at)
    assert one(engine(OneParameter(-1), 0.5, just_below, 6), grey(0)).total_steps_to_epsilon == 5


def test_met_at_step_one_and_never(grey: Callable[[int], Path]) -> None:
    first = one(engine(OneParameter(3), 0.5, 0.1, 6), grey(0))
    assert (first.total_steps_to_epsilon, len(first.losses), first.steps_to_correct) == (1, 1, 1)
    never = one(engine(OneParameter(-1), 1e-3, 0.1, 7), grey(0))
    assert (never.outcome, never.total_steps_to_epsilon, len(never.losses)) == ("censored", -1, 7)
    assert never.steps_to_correct == -1


def test_nan_at_step_one(grey: Callable[[int], Path]) -> None:
    result = one(engine(OneParameter(math.nan), 0.5, 0.1, 6), grey(0))
    assert (result.outcome, result.total_steps_to_epsilon, len(result.losses)) == ("diverged", -1, 1)
    assert math.isnan(result.losses[0])
    assert math.isnan(result.weight_distance)


class Bowl(nn.Module):
    """Logits (b w^2, 0) for brightness b: SGD on label 1 multiplies w by about 1 - 2 b lr, which grows for large b."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(6.0))
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("forgotten", torch.ones(1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        self.seen += 1  # a network that keeps something between steps
        level = images.mean(dim=(1, 2, 3)) * self.w**2
        return torch.stack([level, torch.zeros_like(level)], dim=1)


def numbers(result: Trajectory | Failure) -> object:
    assert isinstance(result, Trajectory)
    return (result.outcome, list(map(repr, result.losses)), repr(result.weight_distance), result.steps_to_correct)


def test_nan_later_and_an_example_after_it_is_the_same(grey: Callable[[int], Path]) -> None:
    bright, dim = grey(255), grey(20)
    trained = engine(Bowl(), 3.0, 0.7, 200)
    before = {name: tensor.clone() for name, tensor in trained.classifier.network.state_dict().items()}
    order = [example(image, index=i) for i, image in enumerate([dim, bright, dim, bright, dim])]
    results = []
    for result in trained.train(order):
        results.append(numbers(result))
        after = trained.classifier.network.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        assert all(parameter.grad is None for parameter in trained.classifier.network.parameters())
        assert result.outcome == ("diverged" if result.example.image == bright else "reached")
    assert results[0] == results[2] == results[4]
    assert results[1] == results[3]
    assert results[0] == numbers(one(engine(Bowl(), 3.0, 0.7, 200), dim))
    diverged = one(trained, bright)
    assert len(diverged.losses) > 1
    assert math.isfinite(diverged.losses[-2])
    assert not math.isfinite(diverged.losses[-1])


def test_a_network_in_train_mode_is_trained_in_eval_mode(grey: Callable[[int], Path]) -> None:
    network = nn.Sequential(nn.Dropout(0.9), OneParameter(-1))
    trained = engine(network, 0.5, 0.1, 50)
    trained.classifier.train()
    assert (
        one(trained, grey(0)).total_steps_to_epsilon
        == one(engine(OneParameter(-1), 0.5, 0.1, 50), grey(0)).total_steps_to_epsilon
    )
    assert not any(module.training for module in network.modules())


def test_an_unreadable_image_fails_and_the_rest_goes_on(grey: Callable[[int], Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(grey(0).read_bytes()[:40])
    results = list(engine(OneParameter(-1), 0.5, 0.1, 50).train([example(broken), example(grey(0))]))
    assert [result.outcome for result in results] == ["error", "reached"]
    assert isinstance(results[0], Failure)
    assert "broken.png" in results[0].reason


def test_training_cut_short_by_a_users_flag_is_no_outcome(grey: Callable[[int], Path]) -> None:
    class Impatient(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
            trainer.should_stop = True

    def with_impatience(callback: L.Callback) -> L.Trainer:
        trainer = make_trainer(callback)
        trainer.callbacks.append(Impatient())  # type: ignore[attr-defined]
        return trainer

    cut = TrainerEngine(Classifier(OneParameter(-1)), brightness, StopRule(0.1, 9), with_impatience)
    with pytest.raises(RuntimeError, match="without an outcome"):
        list(cut.train([example(grey(0))]))


ARCHITECTURES: Sequence[tuple[str, dict[str, object], str]] = [
    ("test_resnet", {}, "BatchNorm2d"),
    ("test_efficientnet", {}, "SqueezeExcite"),
    ("test_vit", {"img_size": 32}, "LayerNorm"),
    ("test_resnet", {"drop_rate": 0.5}, "Dropout"),
]


@pytest.mark.parametrize(("architecture", "model_args", "part"), ARCHITECTURES)
def test_every_bit_is_the_oracles(
    architecture: str, model_args: dict[str, object], part: str, make_model: MakeModel, photographs: Path
) -> None:
    name = make_model(architecture, **model_args)
    pretrained = load_pretrained(name)
    parts = {type(module).__name__ for module in pretrained.network.modules()}
    assert part in parts or (part == "Dropout" and pretrained.network.drop_rate == 0.5)
    digest = weights_sha256(pretrained.network)
    images = [photographs / "ant" / "00.jpg", photographs / "dog" / "03.jpg", photographs / "bee" / "07.jpg"]
    for lr, epsilon in ((0.05, 0.1), (1e-3, 1e-2)):
        trained = engine(pretrained.network, lr, epsilon, 25, pretrained.transform)
        for result in trained.train(example(image, label) for image, label in zip(images, (3, 0, 2), strict=True)):
            assert isinstance(result, Trajectory)
            image, label = result.example.image, result.example.label
            expected = oracle.trajectory(name, image, label, lr, epsilon, 25)
            assert (result.total_steps_to_epsilon, result.outcome) == (expected.steps, expected.outcome)
            assert list(result.losses) == expected.losses
            assert result.predicted_before == expected.predicted_before
            assert result.steps_to_correct == expected.steps_to_correct
            assert result.weight_distance == pytest.approx(expected.weight_distance, rel=1e-12)
        assert weights_sha256(pretrained.network) == digest


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_timm_networks_numbers_do_not_depend_on_what_came_before(
    tiny_model: str, photographs: Path, order: tuple[int, ...]
) -> None:
    pretrained = load_pretrained(tiny_model)
    images = [photographs / name / "00.jpg" for name in ("ant", "bee", "cat")]
    trained = engine(pretrained.network, 1e20, 1e-3, 12, pretrained.transform)
    assert one(trained, images[0]).outcome == "diverged"
    trained.classifier.lr = 0.05
    together = {r.example.path: numbers(r) for r in trained.train(example(images[i]) for i in order)}
    for image in images:
        alone = one(engine(load_pretrained(tiny_model).network, 0.05, 1e-3, 12, pretrained.transform), image)
        assert together[str(image)] == numbers(alone)


def test_caches_of_a_network_in_eval_mode_are_not_kept(make_model: MakeModel, photographs: Path) -> None:
    """LeViT keeps attention biases in eval mode: kept from before, they would be stale, or fail the second backward."""
    name = make_model("levit_128s")
    config = Path(name.removeprefix("local-dir:")) / "config.json"
    config.write_text(config.read_text().replace("[3, 32, 32]", "[3, 224, 224]"))
    pretrained = load_pretrained(name)
    with torch.no_grad():
        pretrained.network(torch.ones(1, 3, 224, 224))
    result = one(engine(pretrained.network, 1e-3, 1e-9, 3, pretrained.transform), photographs / "ant" / "00.jpg")
    assert len(set(result.losses)) == 3
    torch.autograd.backward(pretrained.network(torch.ones(1, 3, 224, 224)).sum())
    biases = [p for n, p in pretrained.network.named_parameters() if "attention_biases" in n]
    assert biases
    assert all(parameter.grad is not None for parameter in biases)


def test_dropout_would_be_seen(make_model: MakeModel, photographs: Path) -> None:
    """The test above could not tell eval from train mode if dropout did nothing in train mode."""
    head: Callable[[Tensor], Tensor] = load_pretrained(make_model(drop_rate=0.5)).network.train().forward_head  # type: ignore[assignment]
    features = torch.ones(1, 96, 2, 2)
    assert not torch.equal(head(features), head(features))
