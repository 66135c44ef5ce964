import math
from dataclasses import replace

import pytest

from lightning_app.analysis.closing_words import answer, words
from lightning_app.analysis.statistics import Estimate
from tests.analysis.test_closing import closing


def test_a_median_among_the_not_reached_is_above_the_limit() -> None:
    result = closing([2, -1, -1])
    assert math.isinf(result.at_epsilon.median_steps)
    assert "> 100" in words(result)


def test_when_most_are_censored_it_says_what_to_change() -> None:
    text = words(closing([2, -1, -1, -1]))
    assert "Most examples (3 of 4) did not reach a loss of 0.01 in 100 steps" in text
    assert "no threshold below ln 2 was reached by half of them" in text
    for flag in ("--epsilon", "--lr", "--max_steps_per_example"):
        assert flag in text
    assert "Most examples" not in words(closing([2, 3, -1, -1]))


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Estimate(100, 0.37, 0.18, 0.53), "harder images tend to take more steps to a loss of 0.01: Spearman +0.37"),
        (
            Estimate(100, -0.37, -0.53, -0.18),
            "harder images tend to take fewer steps to a loss of 0.01: Spearman -0.37",
        ),
        (Estimate(40, 0.1, -0.2, 0.4), "40 images can't tell whether harder ones take more steps to a loss of 0.01"),
        (Estimate(3, 0.5), "too few images to say whether harder ones take more steps (n = 3)"),
        (
            Estimate(120, 1.0, why="no interval: the two orders are the same, or each other's reverse"),
            "whether harder images take more steps to a loss of 0.01 can't be told: Spearman +1.00",
        ),
        (Estimate(50, math.nan, why="all have the same difficulty"), "nothing can be said of whether harder images"),
    ],
)
def test_the_answer_in_a_sentence(found: Estimate, sentence: str) -> None:
    plain = closing([2, 4, 3, 8])
    line = replace(plain.at_epsilon, association=replace(plain.at_epsilon.association, spearman=found))
    assert answer(replace(plain, lines=(line,))).startswith(sentence)


def test_where_none_reached_it_the_answer_says_so() -> None:
    text = answer(closing([-1] * 50))
    said = "nothing can be said of whether harder images take more steps"
    assert text == f"{said}: none came to a loss of 0.01 in 100 steps (n = 50)"
