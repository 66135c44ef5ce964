import math
from collections.abc import Callable

import pytest
import timm
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from torch import Tensor, nn

from lightning_app.bench import roofline
from lightning_app.bench.roofline import FlopCounter, Roofline, fastest, is_heavy, measure_roofline, synchronize
from lightning_app.training.classifier import Classifier

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flops", "moved", "expected"),
    [(200, 10, 5.0), (100, 50, 10.0), (100, 500, 2.0)],  # by the matrix rate, by both, by the bandwidth
)
def test_the_roof_is_the_slower_of_the_two(flops: int, moved: int, expected: float) -> None:
    assert Roofline(flops, (), moved, 1000.0, 1000.0).steps_per_second == pytest.approx(expected, rel=1e-12)
    assert Roofline(flops, ("aten.dot",), moved, 1000.0, 1000.0).steps_per_second is None


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False), nn.Linear(5, 5, bias=False)).eval()


@pytest.mark.parametrize(("momentum", "passes"), [(0.0, 6), (0.9, 8)])
def test_a_steps_work_is_counted(momentum: float, passes: int) -> None:
    classifier = Classifier(two_layers(), lr=0.1, momentum=momentum)
    found = measure_roofline(classifier, torch.ones(1, 3, 2, 2), torch.tensor([1]), Precision(), CPU)
    # Forward 2·12·5 + 2·5·5; backward: both weights' gradients cost the same, and one more product goes to the first.
    assert found.flops == 2 * (2 * 12 * 5 + 2 * 5 * 5) + 2 * 5 * 5
    assert found.bytes == passes * 4 * (60 + 25)
    assert found.uncounted == ()
    assert found.flops_per_second > 1e8
    assert found.bytes_per_second > 1e8


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
    with FlopCounter() as counter:
        convolution(images).sum().backward()
    assert (counter.flops, counter.uncounted) == (forward * (3 if of_the_image else 2), set())


def test_attention_is_counted_on_a_cpu_as_on_a_gpu() -> None:
    heads, tokens, width = 3, 7, 4
    query, key, value = torch.rand(3, 1, heads, tokens, width, requires_grad=True)
    with FlopCounter() as counter:
        torch.autograd.backward(nn.functional.scaled_dot_product_attention(query, key, value).sum())
    product = 2 * heads * tokens * tokens * width
    assert (counter.flops, counter.uncounted) == (7 * product, set())  # two forward; four backward, and the scores anew


def test_what_has_no_formula_is_named() -> None:
    with FlopCounter() as counter:
        torch.dot(torch.ones(4), torch.ones(4)).add(1)
    assert (counter.flops, counter.uncounted) == (0, {"aten.dot"})


@pytest.mark.parametrize(
    ("heavy", "operations"),
    [
        (True, "aten._int_mm aten.addbmm aten.addmm_ aten.mv aten.addmv aten.linear aten.mkldnn_rnn_layer mine.scan"),
        (True, "aten._conv_depthwise2d aten._native_multi_head_attention torchvision.deform_conv2d"),
        (False, "aten.add aten.lgamma aten.polygamma aten.upsample_bilinear2d aten.upsample_linear1d aten._to_copy"),
        (False, "aten.linalg_vector_norm aten._convert_indices_from_coo_to_csr profiler._record_function_exit"),
    ],
)
def test_heavy_operations_are_known_by_name(heavy: bool, operations: str) -> None:
    assert {is_heavy(operation) for operation in operations.split()} == {heavy}


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


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        (Precision(), torch.float32),
        (DoublePrecision(), torch.float64),
        (HalfPrecision("bf16-true"), torch.bfloat16),
        (MixedPrecision("bf16-mixed", "cpu"), torch.bfloat16),
    ],
)
def test_the_rates_are_those_of_the_precisions_type_and_of_all_that_is_moved(
    precision: Precision, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    mm = torch.mm

    def noted(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        seen.append((a.dtype, out.dtype))
        return mm(a, b, out=out)

    monkeypatch.setattr(torch, "mm", noted)
    monkeypatch.setattr(roofline, "fastest", lambda work, device: (work(), 0.5)[1])
    classifier = Classifier(two_layers())
    precision.convert_module(classifier.network)
    images = precision.convert_input(torch.ones(1, 3, 2, 2))
    found = measure_roofline(classifier, images, torch.tensor([1]), precision, CPU)
    assert seen == [(dtype, dtype)]
    assert (found.flops_per_second, found.bytes_per_second) == (2 * 1024**3 / 0.5, 2 * 2**27 / 0.5)


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
