import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from lightning_app.training.loss import GatheredRivals, is_correct, precise_loss

logits_and_label = st.integers(2, 12).flatmap(
    lambda c: st.tuples(st.lists(st.floats(-60, 60, width=32), min_size=c, max_size=c), st.integers(0, c - 1))
)


def spelled_out(z: Tensor, y: int) -> Tensor:
    """The contract's own spelling for one image."""
    d = z - z[:, y : y + 1]
    d = torch.cat([d[:, :y], d[:, y + 1 :]], dim=1)
    return torch.nn.functional.softplus(torch.logsumexp(d, dim=1))


@given(logits_and_label)
def test_bits_and_gradient_are_those_of_the_spelled_out_formula(case: tuple[list[float], int]) -> None:
    values, label = case
    ours, theirs = (torch.tensor([values], requires_grad=True) for _ in range(2))
    loss, expected = precise_loss(ours, torch.tensor([label])), spelled_out(theirs, label)
    torch.autograd.backward([loss.sum(), expected.sum()])
    assert torch.equal(loss, expected)
    assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]


@given(logits_and_label, st.integers(1, 3))
def test_the_form_for_graphs_has_the_same_bits(case: tuple[list[float], int], images: int) -> None:
    """The backward pass that only gathers, which CUDA takes, against autograd's own."""
    values, label = case
    ours, theirs = (torch.tensor([values] * images, requires_grad=True) for _ in range(2))
    labels = torch.tensor([(label + i) % len(values) for i in range(images)])
    weights = torch.linspace(1, 2, images)
    expected, loss = precise_loss(theirs, labels), softplus(torch.logsumexp(GatheredRivals.apply(ours, labels), dim=1))
    torch.autograd.backward([(loss * weights).sum(), (expected * weights).sum()])
    assert torch.equal(loss, expected)
    assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]


@given(logits_and_label)
def test_it_is_the_cross_entropy_with_full_relative_precision(case: tuple[list[float], int]) -> None:
    values, label = case
    loss = precise_loss(torch.tensor([values]), torch.tensor([label])).item()
    z = np.asarray(values, dtype=np.float64)
    exact = math.log1p(math.fsum(np.exp(np.delete(z - z[label], label))))
    assert loss == pytest.approx(exact, rel=1e-5, abs=1e-44)  # logits up to 120 apart have 7 digits


def test_where_cross_entropy_has_lost_everything() -> None:
    logits, labels = torch.tensor([[18.0, 0.0]]), torch.tensor([0])
    assert cross_entropy(logits, labels).item() == 0
    assert precise_loss(logits, labels).item() == pytest.approx(math.log1p(math.exp(-18)), rel=1e-6)


@given(logits_and_label)
def test_correct_is_strictly_above_every_other(case: tuple[list[float], int]) -> None:
    values, label = case
    expected = all(values[label] > value for j, value in enumerate(values) if j != label)
    assert is_correct(torch.tensor([values]), torch.tensor([label])).item() is expected


def test_a_tie_and_nan_are_wrong() -> None:
    logits = torch.tensor([[1.0, 1.0], [math.nan, 0.0], [0.0, math.nan]])
    assert is_correct(logits, torch.tensor([0, 0, 0])).tolist() == [False, False, False]


def test_a_batch_is_its_images_one_by_one() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5) * 9, torch.tensor([0, 1, 2, 3, 4, 0])
    alone = [precise_loss(logits[i : i + 1], labels[i : i + 1]) for i in range(6)]
    torch.testing.assert_close(precise_loss(logits, labels), torch.cat(alone))
