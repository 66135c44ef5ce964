import math
from collections.abc import Callable

import pytest
import timm
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, Precision
from torch import Tensor, nn

from lightning_app.bench import roofline
from lightning_app.bench.roofline import Roofline, bytes_of_a_step, fastest, flop_counter, measure_roofline, synchronize
from lightning_app.training.classifier import Classifier

CPU = torch.device("cpu")


class Linear(nn.Module):
    """Twelve numbers to five logits, without a bias; then those to five again."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 5, bias=False)
        self.second = nn.Linear(5, 5, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.second(self.first(images.flatten(1)))
        return logits


@pytest.mark.parametrize(
    ("flops", "moved", "expected"),
    [(200, 10, 5.0), (100, 50, 10.0), (100, 500, 2.0)],  # by the matrix rate, by both, by the bandwidth
)
def test_the_roof_is_the_slower_of_the_two(flops: int, moved: int, expected: float) -> None:
    assert Roofline(flops, moved, 1000.0, 1000.0).steps_per_second == pytest.approx(expected, rel=1e-12)


def test_a_steps_work_is_counted() -> None:
    classifier = Classifier(Linear().eval(), lr=0.1)
    found = measure_roofline(classifier, torch.ones(1, 3, 2, 2), torch.tensor([1]), Precision(), CPU)
    # Forward 2·12·5 + 2·5·5; backward: both weights' gradients cost the same, and one more product goes to the first.
    assert found.flops == 2 * (2 * 12 * 5 + 2 * 5 * 5) + 2 * 5 * 5
    assert found.bytes == 6 * 4 * (60 + 25)
    assert found.flops_per_second > 1e8
    assert found.bytes_per_second > 1e8


aten = torch.ops.aten


@pytest.mark.parametrize(
    ("convolution", "forward"),
    [
        (nn.Conv2d(4, 6, 3), 2 * 2 * 6 * (8 * 7) * 4 * 9),
        (nn.Conv2d(4, 6, (3, 2), groups=2), 2 * 2 * 6 * (8 * 8) * 2 * 6),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4), 2 * 2 * 8 * (10 * 9) * 1 * 9),  # depthwise
        (nn.Conv2d(4, 4, 5, stride=2, padding=2, groups=4, bias=False), 2 * 2 * 4 * (5 * 5) * 1 * 25),
        (nn.Conv2d(4, 6, 3, dilation=2), 2 * 2 * 6 * (6 * 5) * 4 * 9),
        # Transposed: each pixel of the image meets the filter, not each of what comes out.
        (nn.ConvTranspose2d(4, 6, 3), 2 * 2 * 4 * (10 * 9) * 6 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), 2 * 2 * 4 * (10 * 9) * 3 * 4),
    ],
    ids=str,
)
@pytest.mark.parametrize("of_the_image", [True, False])
def test_a_convolutions_gradients_each_cost_what_it_costs(
    convolution: nn.Module, forward: int, of_the_image: bool
) -> None:
    images = torch.ones(2, 4, 10, 9, requires_grad=of_the_image)
    with flop_counter() as counter:
        convolution(images).sum().backward()
    backward = forward * (2 if of_the_image else 1)
    assert counter.get_flop_counts()["Global"] == {aten.convolution: forward, aten.convolution_backward: backward}


def test_a_whole_step_of_a_depthwise_network_is_counted() -> None:
    network = timm.create_model("test_efficientnet", num_classes=5).eval()
    forward: list[int] = []

    def note(of_an_output: int) -> Callable[[object, object, Tensor], None]:
        return lambda module, inputs, output: forward.append(2 * output.numel() * of_an_output)

    handles = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(note(math.prod(module.weight.shape[1:]))))
        elif isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(note(module.in_features)))
    network(torch.ones(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    found = measure_roofline(Classifier(network), torch.ones(1, 3, 64, 64), torch.tensor([1]), Precision(), CPU)
    assert found.flops == 3 * sum(forward) - forward[0]  # no gradient goes to the image


def test_momentum_moves_more_and_a_narrow_type_less() -> None:
    network = Linear()
    assert bytes_of_a_step(Classifier(network, momentum=0.9)) == 8 * 4 * 85
    assert bytes_of_a_step(Classifier(network.half())) == 6 * 2 * 85


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [(Precision(), torch.float32), (DoublePrecision(), torch.float64), (HalfPrecision("bf16-true"), torch.bfloat16)],
)
def test_the_matrix_rate_is_that_of_the_precisions_type(
    precision: Precision, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    mm = torch.mm

    def noted(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        seen.append((a.dtype, out.dtype, a.shape))
        return mm(a, b, out=out)

    monkeypatch.setattr(torch, "mm", noted)
    monkeypatch.setattr(roofline, "fastest", lambda work, device: (work(), 0.5)[1])
    assert roofline.matrix_rate(CPU, precision, 8) == 2 * 8**3 / 0.5
    assert seen == [(dtype, dtype, (8, 8))]


def test_a_copy_reads_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "fastest", lambda work, device: (work(), 0.25)[1])
    assert roofline.copy_bandwidth(CPU, 1000) == 2 * 1000 / 0.25


def test_the_fastest_call_counts_and_the_first_does_not() -> None:
    times = iter([0.0, 3.0, 10.0, 11.5, 20.0, 22.0])
    calls = []
    assert fastest(lambda: calls.append(1), CPU, times=3, clock=lambda: next(times)) == 1.5
    assert len(calls) == 4


@pytest.mark.parametrize(("kind", "waits"), [("cpu", []), ("cuda", ["cuda:1"]), ("mps", ["mps"])])
def test_a_gpu_is_waited_for(kind: str, waits: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(str(device)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    synchronize(torch.device("cuda:1" if kind == "cuda" else kind))
    assert waited == waits
