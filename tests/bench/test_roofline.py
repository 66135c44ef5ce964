import pytest
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, Precision
from torch import Tensor, nn

from lightning_app.bench import roofline
from lightning_app.bench.roofline import Roofline, bytes_of_a_step, fastest, measure_roofline, synchronize
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
