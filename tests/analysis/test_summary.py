"""A study's statistics at every threshold, and the table and sentences that say them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightning_app.analysis.load import Study, frame_of, threshold_column
from lightning_app.analysis.statistics import Estimate
from lightning_app.analysis.summary import Summary, answer, format_summary, step_rankings_agree, summarize
from lightning_app.data.example import Example
from lightning_app.data.stop_rule import Outcome
from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.store.export import row_of
from lightning_app.store.study_log import example_line


def study(steps: list[int | None], limit: int = 100, epsilon: float = 0.01, diverged: tuple[int, ...] = ()) -> Study:
    """A study in which example i takes steps[i]: -1 never, None an error; harder ones come later."""
    rows = []
    for i, count in enumerate(steps):
        example = Example(i, f"NA/{i},x.jpg", Path("x"), i % 2, 10 * (i + 1))
        if count is None:
            rows.append(row_of(example_line(Failure(example, "broken"), 1), None, i, epsilon))
            continue
        losses = [0.5 + i / 100] * (limit if count < 0 else count - 1) + ([] if count < 0 else [epsilon / 2])
        outcome: Outcome = "diverged" if i in diverged else "censored" if count < 0 else "reached"
        line = example_line(Trajectory(example, outcome, losses, 0, 1, 0.1, 0.1), 1)
        rows.append(row_of(line, np.array(losses), i, epsilon))
    return Study("tiny", Path("tiny"), frame_of(rows), epsilon, limit)


def summary(steps: list[int | None], limit: int = 100) -> Summary:
    return summarize(study(steps, limit))


def test_counts_medians_and_correlation() -> None:
    result = summary([2, 4, None, 3, 8, -1])
    assert result.counts == {"reached": 4, "censored": 1, "diverged": 0, "error": 1}
    assert [line.name for line in result.lines] == ["ln2", "1e-1", "epsilon"]
    line = result.at_epsilon
    assert (line.reached, line.not_reached, line.median_steps, line.association.n) == (4, 1, 4, 5)
    assert line.correlation.value == pytest.approx(0.9)  # 2 4 3 8 101 against 10 20 40 50 60
    assert line.association.kendall.value == pytest.approx(0.8)
    assert line.association.concordance.value == pytest.approx(0.9)


def test_stable_keys_for_programs() -> None:
    result = summary([2, 4, None, 3, 8, -1]).as_dict()
    assert list(result) == ["epsilon", "limit", "n", "outcomes", "thresholds", "quintiles",
                            "smallest_visible_correlation", "examples_to_see"]  # fmt: skip
    assert (result["n"], result["limit"]) == (5, 100)
    assert result["outcomes"] == {"reached": 4, "censored": 1, "diverged": 0, "error": 1}
    assert result["examples_to_see"] == {"0.10": 783, "0.15": 347}
    thresholds = result["thresholds"]
    assert isinstance(thresholds, dict)
    assert list(thresholds) == ["ln2", "1e-1", "epsilon"]
    line = thresholds["epsilon"]
    assert list(line) == [
        "threshold", "reached", "not_reached", "median_steps", "n", "tied", "spearman", "kendall", "concordance",
        "p", "p_by", "clusters", "without_diverged", "pearson_of_reached", "spearman_given_initial_loss",
        "spearman_with_steps_to_epsilon",
    ]  # fmt: skip
    assert list(line["spearman"]) == ["n", "value", "low", "high", "why_undefined", "bootstrap_low", "bootstrap_high",
                                      "clustered_low", "clustered_high"]  # fmt: skip


def test_diverged_tie_with_censored_and_have_a_line_without_them() -> None:
    result = summarize(study([2, 4, -1, 3, 8, -1], diverged=(2,)))
    line = result.at_epsilon
    assert (line.association.n, line.association.tied, line.not_reached) == (6, 2, 2)
    assert line.without_diverged is not None
    assert line.without_diverged.n == 5
    assert line.without_diverged.spearman.value == pytest.approx(0.9)
    assert "without diverged" in format_summary(result)
    assert summarize(study([2, 4, -1, 3])).at_epsilon.without_diverged is None


def test_rows_with_different_limits_are_cut_at_the_smallest() -> None:
    mixed = study([2, 90, -1, 40, 8], limit=100)
    mixed.frame.loc[2, "steps_run"] = 50  # given up before the study was given more steps
    result = summarize(mixed)
    assert result.limit == 50
    assert (result.at_epsilon.reached, result.at_epsilon.not_reached) == (3, 2)
    assert result.counts == {"reached": 3, "censored": 2, "diverged": 0, "error": 0}
    assert result.at_epsilon.association.tied == 2


def test_one_that_diverged_after_the_smallest_limit_had_not_done_so_there() -> None:
    mixed = study([2, 90, -1, -1, 8, -1], limit=100, diverged=(3, 5))
    mixed.frame.loc[[2, 3], "steps_run"] = [50, 20]  # the last one diverged at step 100
    result = summarize(mixed)
    assert result.limit == 50
    assert result.counts == {"reached": 2, "censored": 3, "diverged": 1, "error": 0}
    assert result.at_epsilon.without_diverged is not None
    assert result.at_epsilon.without_diverged.n == 5


def test_a_further_threshold_has_its_place_on_the_ladder() -> None:
    plain = study([2, 4, 3, 8])
    frame = plain.frame.assign(**{threshold_column(0.05): [1.0, 2, 3, 4]})
    result = summarize(replace(plain, frame=frame, extra=(0.05,)))
    assert [line.name for line in result.lines] == ["ln2", "1e-1", "0.05", "epsilon"]
    assert result.lines[2].correlation.value == pytest.approx(1)
    there_already = summarize(replace(plain, extra=(0.1, 0.01)))
    assert [line.name for line in there_already.lines] == ["ln2", "1e-1", "epsilon"]


def test_quintiles_are_survival_curves() -> None:
    result = summary([1, 2, 3, 4, 5, 6, 7, 8, -1, -1])
    assert [(fifth.from_rank, fifth.to_rank) for fifth in result.quintiles[:2]] == [(10, 20), (30, 40)]
    assert [fifth.median_steps for fifth in result.quintiles] == [1.5, 3.5, 5.5, 7.5, math.inf]
    steps, share = result.quintiles[0].survival()
    assert (steps.tolist(), share.tolist()) == ([0, 1, 2], [1, 0.5, 0])
    steps, share = result.quintiles[4].survival()
    assert (steps.tolist(), share.tolist()) == ([0], [1])
    assert summary([1, 2, 3, 4]).quintiles == ()


def test_examples_of_one_rank_are_in_one_quintile_in_whatever_order_they_stand() -> None:
    """Of two ranks; the rows sorted by their steps, and shuffled."""
    sorted_by_steps = study(list(range(2, 52)))
    frame = sorted_by_steps.frame.assign(universal_difficulty_rank=[7.0] * 25 + [9.0] * 25)
    ordered = replace(sorted_by_steps, frame=frame)
    shuffled = replace(ordered, frame=frame.sample(frac=1, random_state=0).reset_index(drop=True))
    for each in (ordered, shuffled):
        assert [(fifth.from_rank, fifth.to_rank, fifth.median_steps) for fifth in summarize(each).quintiles] == [
            (7, 7, 14), (9, 9, 39)
        ]  # fmt: skip
    one_rank = replace(ordered, frame=frame.assign(universal_difficulty_rank=7.0))
    assert summarize(one_rank).quintiles == ()


def test_what_a_table_does_not_know_is_not_taken_for_not_reached() -> None:
    """A table put together of two studies: the second has not looked at 0.1."""
    plain = study(list(range(2, 42)))
    known = np.arange(40) % 2 == 0
    frame = plain.frame.assign(**{"steps_to_1e-1": np.where(known, np.arange(40.0) + 1, math.nan)})
    line = next(line for line in summarize(replace(plain, frame=frame)).lines if line.name == "1e-1")
    assert (line.association.n, line.reached, line.not_reached) == (20, 20, 0)
    assert line.correlation.value == pytest.approx(1)
    assert line.like_epsilon.n == 20


def test_pearson_over_the_reached_says_where_it_misleads() -> None:
    """Easy ones take long, the hard ones never get there: those who reached it tell the opposite."""
    fine = summary([2, 4, 6, 8, 10, 13]).at_epsilon.pearson
    assert (fine.n, fine.misleads) == (6, "")
    found = summary([9, 8, 7, 6, -1, -1, -1, -1, -1, -1]).at_epsilon
    assert found.correlation.value > 0 > found.pearson.value
    assert found.pearson.n == 4
    assert "leaves out the 6 not reached; it is of the other sign than the rank correlation" in found.pearson.misleads
    none = summary([-1] * 6).at_epsilon.pearson
    assert (none.n, none.why) == (0, "fewer than three examples")


def test_the_partial_correlation_takes_the_initial_loss_away() -> None:
    """Steps that are a function of the initial loss alone, which follows difficulty: nothing is left of +1."""
    chance = np.random.default_rng(0)
    plain = study([2] * 300)
    loss = plain.frame["universal_difficulty_rank"] + 300 * chance.normal(size=300)
    steps = np.round(loss - loss.min() + 1 + 300 * chance.random(300))
    frame = plain.frame.assign(initial_loss=loss, total_steps_to_epsilon=steps)
    line = summarize(replace(plain, frame=frame, limit=10**6)).at_epsilon
    assert line.correlation.value > 0.9
    assert line.partial.low < 0 < line.partial.high
    without = summarize(replace(plain, frame=frame.drop(columns="initial_loss"), limit=10**6)).at_epsilon
    assert without.partial.why == "the table has no initial_loss"


def test_how_far_two_studies_order_alike() -> None:
    one = study([2, 4, 3, 8, -1, None])
    other = replace(study([3, 5, 4, -1, -1, 7]), name="other")
    ((first, second, found),) = step_rankings_agree([one, other])
    assert (first, second, found.n) == ("tiny", "other", 5)
    assert found.value == pytest.approx(0.9746794, abs=1e-6)  # 1 3 2 4 5 against 1 3 2 4.5 4.5
    elsewhere = replace(one, frame=one.frame.assign(path=[f"other/{k}" for k in range(6)]), name="elsewhere")
    ((_, _, nothing),) = step_rankings_agree([one, elsewhere])
    assert nothing.n == 0
    assert math.isnan(nothing.value)


@pytest.mark.parametrize("steps", [[], [None], [None, None], [2], [-1], [-1, -1, -1, -1], [5, 5, 5, 5]])
def test_studies_that_say_nothing_are_told_without_a_number(steps: list[int | None]) -> None:
    result = summary(steps)
    assert "undefined (n = " in format_summary(result)
    found = result.at_epsilon.association
    assert math.isnan(found.spearman.value)
    assert math.isnan(found.concordance.value)
    assert math.isnan(found.p)
    same = "all have the same number of steps"
    assert found.spearman.why == (same if len(steps) > 2 else "fewer than three examples")


def test_a_median_among_the_not_reached_is_above_the_limit() -> None:
    result = summary([2, -1, -1])
    assert math.isinf(result.at_epsilon.median_steps)
    assert "> 100" in format_summary(result)


def test_when_most_are_censored_it_says_what_to_change() -> None:
    text = format_summary(summary([2, -1, -1, -1]))
    assert "Most examples (3 of 4) did not reach a loss of 0.01 in 100 steps" in text
    assert "no threshold below ln 2 was reached by half of them" in text
    for flag in ("--epsilon", "--lr", "--max_steps_per_example"):
        assert flag in text
    assert "Most examples" not in format_summary(summary([2, 3, -1, -1]))


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
    plain = summary([2, 4, 3, 8])
    line = replace(plain.at_epsilon, association=replace(plain.at_epsilon.association, spearman=found))
    assert answer(replace(plain, lines=(line,))).startswith(sentence)


def test_where_none_reached_it_the_answer_says_so() -> None:
    text = answer(summary([-1] * 50))
    said = "nothing can be said of whether harder images take more steps"
    assert text == f"{said}: none came to a loss of 0.01 in 100 steps (n = 50)"
