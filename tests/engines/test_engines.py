"""Known answers for every kind of engine: networks whose counts are worked out by hand, and an independent loop."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.engines.base import Engine
from lightning_app.engines.trainer import TrainerEngine
from lightning_app.training.classifier import Classifier
from lightning_app.training.pretrained import load_pretrained, weights_sha256
from lightning_app.training.snapshot import Snapshot
from tests import oracle
from tests.conftest import MakeModel
from tests.engines.networks import KINDS, Bowl, OneParameter, Steep, brightness, engine, example, make_trainer

each_kind = pytest.mark.parametrize("kind", KINDS)


def one(engine: Engine, rule: StopRule, image: Path, label: int = 1) -> Trajectory:
    (result,) = engine.train([example(image, label)], rule)
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


@each_kind
@pytest.mark.parametrize(
    ("lr", "epsilon"), [(0.5, 40.0), (0.25, 40.25), (4.0, 77.0), (8.0, 36.0), (0.5, 99.9), (1, 100)]
)
def test_a_straight_line_has_a_closed_form(kind: str, grey: Callable[[int], Path], lr: float, epsilon: float) -> None:
    """Far out softplus(-w) is -w: from w = -100 each step takes lr off the loss."""
    expected = max(0, math.ceil((100 - epsilon) / lr)) + 1
    result = one(engine(kind, OneParameter(-100), lr), StopRule(epsilon, 1000), grey(0))
    assert result.outcome == "reached"
    assert result.total_steps_to_epsilon == expected
    assert list(result.losses) == [100 - lr * k for k in range(expected)]
    assert result.weight_distance == lr * expected  # the update of the last step is taken too


@each_kind
@pytest.mark.parametrize(("lr", "epsilon"), [(0.5, 0.1), (1, 0.01), (2, 0.003), (0.1, 0.5), (50, 1e-4), (5, 1e-3)])
def test_a_logistic_curve_by_hand(kind: str, grey: Callable[[int], Path], lr: float, epsilon: float) -> None:
    w, losses = -1.0, [math.log1p(math.exp(1.0))]
    while losses[-1] > epsilon:
        w += lr / (1 + math.exp(w))
        losses.append(math.log1p(math.exp(-w)))
    result = one(engine(kind, OneParameter(-1), lr), StopRule(epsilon, 5000), grey(0))
    assert (result.outcome, result.total_steps_to_epsilon) == ("reached", len(losses))
    assert list(result.losses) == pytest.approx(losses, rel=1e-4)
    assert result.predicted_before == 0
    # Correct means w > 0, that is a loss below ln 2; never at step 1 of a wrong example.
    assert result.steps_to_correct == next((k for k, v in enumerate(losses, 1) if v < math.log(2)), -1)


@each_kind
def test_epsilon_is_met_exactly_or_not(kind: str, grey: Callable[[int], Path]) -> None:
    at = one(engine(kind, OneParameter(-1), 0.5), StopRule(1e-9, 6), grey(0)).losses[3]
    assert one(engine(kind, OneParameter(-1), 0.5), StopRule(at, 6), grey(0)).total_steps_to_epsilon == 4
    assert (
        one(engine(kind, OneParameter(-1), 0.5), StopRule(np.nextafter(at, 0), 6), grey(0)).total_steps_to_epsilon == 5
    )
    # A bound between the float32 loss and its neighbour is the same number in float32, and not the same in float64.
    just_below = at - float(np.spacing(np.float32(at))) / 4
    assert np.float32(just_below) == np.float32(at)
    assert one(engine(kind, OneParameter(-1), 0.5), StopRule(just_below, 6), grey(0)).total_steps_to_epsilon == 5


@each_kind
def test_met_at_step_one_and_never(kind: str, grey: Callable[[int], Path]) -> None:
    first = one(engine(kind, OneParameter(3), 0.5), StopRule(0.1, 6), grey(0))
    assert (first.total_steps_to_epsilon, len(first.losses), first.steps_to_correct) == (1, 1, 1)
    never = one(engine(kind, OneParameter(-1), 1e-3), StopRule(0.1, 7), grey(0))
    assert (never.outcome, never.total_steps_to_epsilon, len(never.losses)) == ("censored", -1, 7)
    assert never.steps_to_correct == -1


@each_kind
def test_nan_at_step_one(kind: str, grey: Callable[[int], Path]) -> None:
    result = one(engine(kind, OneParameter(math.nan), 0.5), StopRule(0.1, 6), grey(0))
    assert (result.outcome, result.total_steps_to_epsilon, len(result.losses)) == ("diverged", -1, 1)
    assert math.isnan(result.losses[0])
    assert math.isnan(result.weight_distance)


def numbers(result: Trajectory | Failure) -> object:
    assert isinstance(result, Trajectory)
    return (result.outcome, list(map(repr, result.losses)), repr(result.weight_distance), result.steps_to_correct)


@each_kind
def test_nan_later_and_an_example_after_it_is_the_same(kind: str, grey: Callable[[int], Path]) -> None:
    bright, dim = grey(255), grey(20)
    network, rule = Bowl(), StopRule(0.7, 200)
    trained = engine(kind, network, 3.0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    order = [example(image, index=i) for i, image in enumerate([dim, bright, dim, bright, dim])]
    results = {}
    for result in trained.train(order, rule):
        results[result.example.index] = numbers(result)
        assert result.outcome == ("diverged" if result.example.image == bright else "reached")
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert results[0] == results[2] == results[4]
    assert results[1] == results[3]
    assert results[0] == numbers(one(engine("trainer", Bowl(), 3.0), rule, dim))
    diverged = one(trained, rule, bright)
    assert len(diverged.losses) > 1
    assert math.isfinite(diverged.losses[-2])
    assert not math.isfinite(diverged.losses[-1])


@each_kind
def test_what_comes_after_the_end_does_not_reach_the_distance(kind: str, grey: Callable[[int], Path]) -> None:
    result = one(engine(kind, Steep(), 5.0), StopRule(3.0, 50), grey(9))
    assert (result.outcome, len(result.losses)) == ("reached", 1)
    slope = 2 * math.e / (1 + math.exp(-math.e))  # of softplus(exp(w^2)) at w = 1
    assert result.weight_distance == pytest.approx(5.0 * slope, rel=1e-6)


@each_kind
def test_a_network_in_train_mode_is_trained_in_eval_mode(kind: str, grey: Callable[[int], Path]) -> None:
    network = nn.Sequential(nn.Dropout(0.9), OneParameter(-1))
    trained = engine(kind, network, 0.5)
    if kind == "trainer":  # which is handed what a user's callback may have changed
        network.train()
    rule = StopRule(0.1, 50)
    expected = one(engine(kind, OneParameter(-1), 0.5), rule, grey(0)).total_steps_to_epsilon
    assert one(trained, rule, grey(0)).total_steps_to_epsilon == expected
    assert not any(module.training for module in network.modules())


@each_kind
def test_an_unreadable_image_fails_and_the_rest_goes_on(kind: str, grey: Callable[[int], Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(grey(0).read_bytes()[:40])
    trained = engine(kind, OneParameter(-1), 0.5)
    order = [example(broken), example(grey(0)), example(broken)]
    results = list(trained.train(order, StopRule(0.1, 50)))
    assert sorted(result.outcome for result in results) == ["error", "error", "reached"]
    (reason,) = {result.reason for result in results if isinstance(result, Failure)}
    assert "broken.png" in reason
    assert list(trained.train([example(broken)] * 9, StopRule(0.1, 50)))[8].outcome == "error"  # and no more than that


@each_kind
def test_there_may_be_none_for_now(kind: str, grey: Callable[[int], Path]) -> None:
    ended: list[int] = []

    def asked() -> Iterator[Example | None]:
        yield example(grey(255), index=0)
        while not ended:
            yield None
        yield example(grey(255), index=1)

    for result in engine(kind, OneParameter(2.0), 0.1).train(asked(), StopRule(1e-9, 3)):
        ended.append(result.example.index)
    assert ended == [0, 1]


@each_kind
def test_no_example_is_begun_once_it_is_time_to_stop(kind: str, grey: Callable[[int], Path]) -> None:
    """The first is, and those in hand come to their end."""
    image, taken = grey(0), list[int]()

    def asked() -> Iterable[Example]:
        for index in range(50):
            taken.append(index)
            yield example(image, index=index)

    trained = engine(kind, OneParameter(-1), 0.5)
    results = list(trained.train(asked(), StopRule(0.1, 50), lambda: True))
    assert [result.example.index for result in results] == [0]
    assert results[0].outcome == "reached"
    assert len(taken) <= 6  # the others were only decoded ahead
    ended: list[int] = []
    for result in trained.train(asked(), StopRule(0.1, 50), lambda: bool(ended)):
        assert result.outcome == "reached"
        ended.append(result.example.index)
    assert len(ended) <= 3


@each_kind
def test_every_counted_step_is_shown(kind: str, grey: Callable[[int], Path]) -> None:
    shown: list[int] = []
    order = [example(grey(0), index=i) for i in range(5)]
    results = list(engine(kind, OneParameter(-1), 0.5).train(order, StopRule(0.1, 50), on_steps=shown.append))
    assert sum(shown) == sum(len(result.losses) for result in results if isinstance(result, Trajectory)) > 50


@each_kind
def test_the_times_of_examples_add_up_to_no_more_than_the_time(kind: str, grey: Callable[[int], Path]) -> None:
    """Also where several are trained at once."""
    trained = engine(kind, OneParameter(-1), 0.01)
    start = time.perf_counter()
    results = list(trained.train([example(grey(0), index=i) for i in range(7)], StopRule(1e-9, 40)))
    there = time.perf_counter() - start
    seconds = [result.seconds for result in results if isinstance(result, Trajectory)]
    assert all(value > 0 for value in seconds)
    assert sum(seconds) <= there


def test_training_cut_short_by_a_users_flag_is_no_outcome(grey: Callable[[int], Path]) -> None:
    class Impatient(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
            trainer.should_stop = True

    def with_impatience(callback: L.Callback) -> L.Trainer:
        trainer = make_trainer(callback)
        trainer.callbacks.append(Impatient())  # type: ignore[attr-defined]
        return trainer

    network = OneParameter(-1)
    cut = TrainerEngine(Classifier(network), brightness, with_impatience, Snapshot(network))
    with pytest.raises(RuntimeError, match="without an outcome"):
        list(cut.train([example(grey(0))], StopRule(0.1, 9)))


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
    order = [example(image, label) for image, label in zip(images, (3, 0, 2), strict=True)]
    ways = [(0.05, 0.1, 0.0, 0.0), (1e-3, 1e-2, 0.0, 0.0), (0.01, 0.1, 0.9, 0.1)]
    for lr, epsilon, momentum, weight_decay in ways if part == "BatchNorm2d" else ways[:1]:
        expected = {
            e.path: oracle.trajectory(
                name, e.image, e.label, lr, epsilon, 25, momentum=momentum, weight_decay=weight_decay
            )
            for e in order
        }
        distances: dict[str, set[float]] = {e.path: set() for e in order}
        for kind in KINDS:
            trained = engine(kind, pretrained.network, lr, pretrained.transform, (3, 32, 32), momentum, weight_decay)
            for result in trained.train(order, StopRule(epsilon, 25)):
                assert isinstance(result, Trajectory)
                oracles = expected[result.example.path]
                assert (result.total_steps_to_epsilon, result.outcome) == (oracles.steps, oracles.outcome)
                assert list(result.losses) == oracles.losses
                assert result.predicted_before == oracles.predicted_before
                assert result.steps_to_correct == oracles.steps_to_correct
                assert result.weight_distance == pytest.approx(oracles.weight_distance, rel=1e-12)
                distances[result.example.path].add(result.weight_distance)
            assert weights_sha256(pretrained.network) == digest
        assert [len(distance) for distance in distances.values()] == [1, 1, 1]  # to the last bit


@each_kind
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_timm_networks_numbers_do_not_depend_on_what_came_before(
    kind: str, tiny_model: str, photographs: Path, order: tuple[int, ...]
) -> None:
    pretrained = load_pretrained(tiny_model)
    images = [photographs / name / "00.jpg" for name in ("ant", "bee", "cat")]
    transform, shape = pretrained.transform, (3, 32, 32)
    diverging = engine(kind, pretrained.network, 1e20, transform, shape)
    assert one(diverging, StopRule(1e-3, 12), images[0]).outcome == "diverged"
    trained = engine(kind, pretrained.network, 0.05, transform, shape)
    together = {
        r.example.path: numbers(r) for r in trained.train([example(images[i]) for i in order], StopRule(1e-3, 12))
    }
    for image in images:
        alone = one(engine("trainer", load_pretrained(tiny_model).network, 0.05, transform), StopRule(1e-3, 12), image)
        assert together[str(image)] == numbers(alone)


@pytest.mark.parametrize("kind", ["trainer", "replayed slots"])
def test_caches_of_a_network_in_eval_mode_are_not_kept(kind: str, make_model: MakeModel, photographs: Path) -> None:
    """LeViT keeps attention biases in eval mode: kept from before, they would be stale, or fail the second backward."""
    name = make_model("levit_128s")
    config = Path(name.removeprefix("local-dir:")) / "config.json"
    config.write_text(config.read_text().replace("[3, 32, 32]", "[3, 224, 224]"))
    pretrained = load_pretrained(name)
    with torch.no_grad():
        pretrained.network(torch.ones(1, 3, 224, 224))
    trained = engine(kind, pretrained.network, 1e-3, pretrained.transform, (3, 224, 224))
    result = one(trained, StopRule(1e-9, 3), photographs / "ant" / "00.jpg")
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
