import math
from dataclasses import replace

import numpy as np
import pytest

from lightning_app.analysis.load import Metadata, Study
from lightning_app.analysis.summary import format_p, step_rankings_agree, summarize
from lightning_app.report.text import paragraphs, side_by_side
from tests.analysis.test_summary import study

FACTS = Metadata(model_name="tiny", select="wrong", lr=0.1, examples=60, in_its_ranking=False)


def follows(n: int = 60, sign: int = 1) -> Study:
    """Harder images take more steps, mostly; one in six never gets there."""
    chance = np.random.default_rng(0)
    steps = np.clip(50 + sign * np.arange(n) + chance.normal(0, 15, n), 1, None).astype(int).tolist()
    return replace(study([-1 if k % 6 == 5 else step for k, step in enumerate(steps)], limit=500), metadata=FACTS)


def test_first_what_was_measured() -> None:
    found = follows()
    measured, *_ = paragraphs(found, summarize(found))
    assert measured == (
        "tiny: each of 60 images that the model got wrong was trained on alone by SGD with a learning rate of 0.1,"
        " until its loss was at or below 0.01, for 500 steps at most. 50 came to it, 10 did not; steps in the"
        f" median: {summarize(found).at_epsilon.median_steps:g}."
    )


@pytest.mark.parametrize(("sign", "what"), [(1, "more"), (-1, "fewer")])
def test_then_what_it_says(sign: int, what: str) -> None:
    found = follows(sign=sign)
    _, says, _ = paragraphs(found, summarize(found))
    assert says.startswith(f"Harder images tend to take {what} steps to a loss of 0.01: Spearman")
    c = summarize(found).at_epsilon.association.concordance
    assert (
        f"the harder one needs more in {100 * c.value:.0f} % ({100 * c.low:.0f} % to {100 * c.high:.0f} %) of cases"
        in says
    )
    first, last = summarize(found).quintiles[0], summarize(found).quintiles[-1]
    assert (
        f"The easiest fifth takes {first.median_steps:g} steps in the median, the hardest {last.median_steps:g}" in says
    )


def test_then_what_it_cannot_say() -> None:
    found = follows()
    *_, cannot = paragraphs(found, summarize(found))
    assert "60 examples tell a correlation of 0.35 from zero in 80 % of samples; to see one of 0.10 takes 783" in cannot
    assert "Not reached counts as more than every number of steps: 17 % tie there" in cannot
    assert "All of these images were wrong to begin with" in cannot
    assert "own difficulty" not in cannot  # it is known not to be in its own ranking


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        (replace(FACTS, left=7, examples=67), "The study is not complete: 7 of its 67 examples are left."),
        (replace(FACTS, left=7, examples=67, easiest_part=True), "are left, and those that are done are the easiest"),
        (replace(FACTS, in_its_ranking=True), "The model is one of those that made the ranking"),
        (replace(FACTS, in_its_ranking=None), "it is part of its own difficulty; that is not known here"),
        (
            replace(FACTS, reliability=0.767, ceiling=0.876),
            "its reliability is about 0.77, so that about 0.88 is the largest",
        ),
        (
            replace(FACTS, environments=("torch 2.11 and 2.15",)),
            "The rows were made in different environments: torch 2.11 and 2.15.",
        ),
        (replace(FACTS, select="all"), "each of 60 images, right or wrong, was trained on"),
        (replace(FACTS, select="correct"), "each of 60 images that the model got right was trained on"),
    ],
)
def test_what_else_a_reader_has_to_know(metadata: Metadata, sentence: str) -> None:
    found = replace(follows(), metadata=metadata)
    text = " ".join(paragraphs(found, summarize(found)))
    assert sentence in text
    assert ("truncates the range" in text) == (metadata.select == "wrong")


@pytest.mark.parametrize(("classes", "told"), [(1, False), (2, True), (49, True), (50, False)])
def test_few_classes_are_told(classes: int, told: bool) -> None:
    found = study([2 + (7 * k) % 40 for k in range(120)])
    found = replace(found, frame=found.frame.assign(label=np.arange(120.0) % classes))
    text = " ".join(paragraphs(found, summarize(found)))
    assert (f"with {classes} classes the intervals can't take that into account" in text) == told


def test_a_pearson_that_misleads_is_told() -> None:
    found = study([*range(40, 20, -1), *[-1] * 40])  # those that got there tell the opposite
    text = " ".join(paragraphs(found, summarize(found)))
    assert "Pearson's correlation over the reached alone, -1.00, misleads here (leaves out the 40 not reached;" in text


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([3], "Too few images to say whether harder ones take more steps (n = 1)"),
        ([5] * 9, "whether harder images take more steps: all have the same number of steps (n = 9)"),
        ([-1] * 9, "whether harder images take more steps: none came to a loss of 0.01 in 100 steps (n = 9)"),
        ([2, 3, 4, 5, 6, 7, -1], "can't be told: Spearman +1.00"),
    ],
)
def test_studies_that_say_nothing_say_so_and_why(steps: list[int | None], sentence: str) -> None:
    found = study(steps)
    text = " ".join(paragraphs(found, summarize(found)))
    assert sentence in text
    assert "nan" not in text


def test_what_was_cut_at_the_smallest_limit_counts_as_it_stood_there() -> None:
    found = study([2, 90, -1, 40, 8], limit=100)
    found.frame.loc[2, "steps_run"] = 50  # given up before the study was given more steps
    measured, *_ = paragraphs(found, summarize(found))
    assert "for 50 steps at most. 3 came to it, 2 did not; steps in the median: 40." in measured
    assert "Some were given up after 50 steps: all are taken as they stood there." in measured


def test_interval_and_p_that_do_not_agree_are_told() -> None:
    found = study([2, 3, 4, 5, 7, 6, 8, 9, 10, 30])
    line = summarize(found).at_epsilon
    unsure = replace(line.association, p=0.03, spearman=replace(line.correlation, low=-0.1, high=0.6))
    summary = replace(summarize(found), lines=(replace(line, association=unsure),))
    assert "Interval and p do not agree here" in " ".join(paragraphs(found, summary))
    sure = replace(unsure, p=0.2)
    summary = replace(summarize(found), lines=(replace(line, association=sure),))
    assert "Interval and p" not in " ".join(paragraphs(found, summary))


def test_several_studies_say_what_differs_and_how_far_they_agree() -> None:
    one = follows()
    other = replace(follows(), name="other", epsilon=0.05)
    far = replace(one, name="far", frame=one.frame.assign(path=[f"far/{k}" for k in range(60)]))
    studies = [one, other, replace(far, epsilon=math.nan)]
    text = side_by_side(studies, [summarize(each) for each in studies], step_rankings_agree(studies))
    assert text.startswith("3 studies side by side. They differ in more than the model: epsilon 0.01, 0.05, not known.")
    assert "tiny and other order the 60 examples that both have trained with a Spearman correlation of +1.00" in text
    assert "tiny and far share 0 examples: their orders can't be compared." in text


def test_numbers_in_words() -> None:
    assert [format_p(p) for p in (0.0004, 0.04, math.nan)] == ["< 0.001", "0.040", ""]
    assert [format_p(p, "p ") for p in (0.0004, 0.04, math.nan)] == ["p < 0.001", "p = 0.040", ""]
    assert summarize(study([3])).at_epsilon.correlation.short() == "undefined"
