"""The pretrained weights in memory, restored bit for bit for every example."""

import math

import torch
from torch import Tensor, nn

CPU = torch.device("cpu")


class Snapshot:
    """The pretrained weights of a network in memory, to go back to after every example.

    Beside a copy that is written back, the parameters are kept in float64, which holds every narrower float exactly,
    as one vector to measure from. Nothing is allocated on the way: on a small network a call and a page fault a tensor
    cost a third of a bare Trainer's set-up. The price is twenty bytes a parameter of float32.

    Args:
        network: Whose parameters and buffers are copied. Its parameters keep their identity when it moves to another
            device, its buffers don't.
        device: That trains. The copy is kept there if it is a CUDA GPU, else on the CPU.
    """

    def __init__(self, network: nn.Module, device: torch.device = CPU) -> None:
        self._network = network
        self._parameters: list[Tensor] = list(network.parameters())
        sizes = [parameter.numel() for parameter in self._parameters]
        device = device if device.type == "cuda" else CPU  # others have no float64
        self._before, self._difference = torch.empty(2, sum(sizes), dtype=torch.float64, device=device)
        before_each, self._difference_each = (
            [part.view_as(like) for part, like in zip(torch.split(flat, sizes), self._parameters, strict=True)]
            for flat in (self._before, self._difference)
        )
        # In their own types: to copy a float64 into a float32 takes twice as long.
        self._parameters_before = [parameter.detach().to(device, copy=True) for parameter in self._parameters]
        self._buffers_before = [buffer.detach().to(device, copy=True) for buffer in network.buffers()]
        with torch.no_grad():
            torch._foreach_copy_(before_each, self._parameters_before)

    def restore(self) -> None:
        """Writes parameters and buffers back, bit for bit, and drops gradients."""
        self.write_to(self._parameters, list(self._network.buffers()))
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def write_to(self, parameters: list[Tensor], buffers: list[Tensor]) -> None:
        """Writes the pretrained numbers into tensors in the network's order."""
        torch._foreach_copy_(parameters, self._parameters_before)
        if buffers:
            torch._foreach_copy_(buffers, self._buffers_before)

    @torch.no_grad()
    def distance(self, parameters: list[Tensor] | None = None) -> float:
        """Euclidean distance of parameters from the snapshot, in float64: of the network's own, or of a copy's."""
        torch._foreach_copy_(self._difference_each, self._parameters if parameters is None else parameters)
        self._difference.sub_(self._before)
        return math.sqrt(self._difference.dot(self._difference).item())
