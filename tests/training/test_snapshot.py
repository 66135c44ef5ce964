import torch

from lightning_app.training.pretrained import load_pretrained, weights_sha256
from lightning_app.training.snapshot import Snapshot


def test_a_snapshot_restores_parameters_and_buffers_bit_for_bit(tiny_model: str) -> None:
    network = load_pretrained(tiny_model).network
    digest, snapshot = weights_sha256(network), Snapshot(network)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor.fill_(7)
    snapshot.restore()
    assert weights_sha256(network) == digest
    assert snapshot.distance() == 0


def test_the_distance_is_euclidean_over_parameters_alone() -> None:
    network = torch.nn.BatchNorm2d(2)
    snapshot = Snapshot(network)
    with torch.no_grad():
        network.weight.add_(torch.tensor([3.0, 0.0]))
        network.bias.add_(torch.tensor([0.0, 4.0]))
        network.running_mean.add_(100)  # type: ignore[union-attr]
    assert snapshot.distance() == 5.0
