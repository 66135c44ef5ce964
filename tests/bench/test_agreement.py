import math

import numpy as np

from lightning_app.bench.agreement import Difference, differences
from lightning_app.bench.runners import Ended
from lightning_app.data.trajectory import Outcome


def ended(*losses: float, outcome: Outcome = "censored") -> Ended:
    return Ended(outcome, list(losses))


def test_one_bit_of_one_loss_is_found_and_named() -> None:
    loss = 0.3
    off = float(np.nextafter(loss, 1))
    reference = {0: ended(0.9, 0.8), 1: ended(0.5, 0.4, loss), 2: ended(1.0)}
    ours = {0: ended(0.9, 0.8), 1: ended(0.5, 0.4, off), 2: ended(1.0)}
    assert differences("slots", ours, reference) == [Difference("slots", 1, 3, off, loss, "censored", "censored")]
    assert differences("slots", reference, reference) == []


def test_another_count_is_the_first_step_that_only_one_has() -> None:
    reference = {0: ended(0.5, 0.4, outcome="reached")}
    assert differences("x", {0: ended(0.5)}, reference) == [Difference("x", 0, 2, None, 0.4, "censored", "reached")]
    longer = {0: ended(0.5, 0.4, 0.3, outcome="reached")}
    assert differences("x", longer, reference) == [Difference("x", 0, 3, 0.3, None, "reached", "reached")]


def test_another_outcome_alone_is_a_difference() -> None:
    reference = {0: ended(0.5, 0.4, outcome="reached")}
    assert differences("x", {0: ended(0.5, 0.4)}, reference) == [Difference("x", 0, 2, 0.4, 0.4, "censored", "reached")]


def test_nan_is_nan_and_minus_zero_is_not_zero() -> None:
    assert differences("x", {0: ended(math.nan)}, {0: ended(-math.nan)}) == []
    assert len(differences("x", {0: ended(0.0)}, {0: ended(-0.0)})) == 1
    assert len(differences("x", {0: ended(math.nan)}, {0: ended(1.0)})) == 1


def test_only_examples_that_both_have_are_compared() -> None:
    assert differences("x", {0: ended(0.5), 7: ended(0.1)}, {0: ended(0.5), 8: ended(0.2)}) == []
