import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from lightning_app.analysis.extrapolation import Curve
from lightning_app.analysis.forecast import Pilot, format_forecast, format_size, make_forecast
from lightning_app.files import json_text

SPREAD = np.exp(0.5 * stats.norm.ppf((np.arange(50) + 0.5) / 50))


def pilot(steps: int, epsilon: float, scale: float = 1.0) -> Pilot:
    """Fifty examples whose loss is spread / step, a step a hundredth of a second, cut at epsilon or at some steps."""
    curves = []
    for factor in scale * SPREAD:
        taken = min(steps, math.ceil(factor / epsilon))
        losses = factor / np.arange(1, taken + 1.0)
        curves.append(Curve(losses, bool(losses[-1] <= epsilon), 0.01 * taken))
    return Pilot(
        curves=curves, examples=50, drawn=200, candidates=10_000, known=None, seconds_a_prediction=0.1,
        others_done=(), bytes_a_step=25.0,
    )  # fmt: skip


def test_what_there_is_to_draw_from_and_to_ask() -> None:
    asked = pilot(100, 0.1)
    assert asked.available == round(10_000 * 49 / 199)  # the last image looked at was an example
    assert asked.seconds_asking(50) == 0
    assert asked.seconds_asking(150) == pytest.approx(100 * 4 * 0.1)
    by_matrix = replace(asked, known=2345)
    assert by_matrix.available == 2345
    assert by_matrix.seconds_asking(150) == pytest.approx(100 * 0.1)  # to compare with the matrix
    assert replace(asked, drawn=10_000).available == 50
    assert asked.left(100) == 50
    assert replace(asked, others_done=[10, 399, 400, 9000]).left(100) == 48  # the others are beyond 100 examples
    assert replace(asked, curves=asked.curves[:20]).left(100) == 80  # 30 of the pilot are still to be trained


def test_time_and_disk_are_those_of_the_steps() -> None:
    forecast = make_forecast(pilot(1000, 0.01), 0.01, 1000, 550)
    each = np.ceil(SPREAD / 0.01).mean()
    assert forecast.left == 500
    assert forecast.samples[-1].examples == 550
    expected = (500 * each * 0.01 + 500 * 4 * 0.1) / 3600
    assert forecast.samples[-1].hours.value == pytest.approx(expected, rel=1e-6)
    assert forecast.samples[-1].hours.low < expected < forecast.samples[-1].hours.high
    assert forecast.hours_on_devices[4].value == pytest.approx(expected / 4)
    assert forecast.step_log_bytes.value == pytest.approx(500 * each * 25, rel=1e-6)
    assert forecast.seconds_a_step == pytest.approx(0.01)


def test_a_pilot_that_was_cut_short_is_trained_again() -> None:
    short = make_forecast(pilot(200, 1e-3), 1e-3, 10_000, 50)  # the pilot alone
    assert short.left == 0
    assert short.samples[-1].hours.value == pytest.approx(0.01 * (SPREAD / 1e-3).sum() / 3600, rel=1e-2)
    assert make_forecast(pilot(10_000, 1e-3), 1e-3, 10_000, 50).samples[-1].hours.value == 0


def test_most_reach_it_so_it_is_recommended() -> None:
    forecast = make_forecast(pilot(1000, 0.01), 0.01, 1000, -1)
    assert forecast.censored == 0
    best = forecast.recommendation
    assert (best.epsilon, best.sample.examples) == (0.01, 783)
    assert best.max_steps_per_example is not None
    assert 100 * np.quantile(SPREAD, 0.9) <= best.max_steps_per_example <= 350  # not all the 1000
    assert [sample.examples for sample in forecast.samples] == [347, 783, 2462]
    assert f"Recommended: --epsilon 0.01 --max_steps_per_example {best.max_steps_per_example} --max_examples 783" in (
        format_forecast(forecast, "cpu")
    )


def test_a_larger_epsilon_is_recommended_where_the_steps_do_not_do() -> None:
    forecast = make_forecast(pilot(500, 1e-5), 1e-5, 2500, 800)
    assert forecast.censored == 1
    assert forecast.recommendation.epsilon == 1e-3
    assert forecast.recommendation.sample.hours.value == pytest.approx(
        783 * SPREAD.mean() / 1e-3 * 0.01 / 3600, rel=0.02
    )
    said = format_forecast(forecast, "cpu")
    assert "reached within 2,500 steps" in said
    assert "50 of the curves were cut short, at 500 steps at most, and are extrapolated" in said
    (line,) = [line for line in said.splitlines() if line.strip().startswith("0.0001 ")]
    assert "0 % (0 % to" in line
    assert "another epsilon is another study: give another --output_dir" in said
    assert "9,875 (" in line  # the 25th of 50: spread / 1e-4


def test_more_steps_are_recommended_where_nothing_is_in_reach() -> None:
    forecast = make_forecast(pilot(500, 1e-4, scale=10), 1e-4, 500, 800)
    best = forecast.recommendation
    assert best.epsilon == 1e-2
    assert best.max_steps_per_example is not None
    assert best.max_steps_per_example >= 1000 * math.exp(0.5 * stats.norm.ppf(0.9))


def test_another_learning_rate_is_recommended_where_no_steps_would_do() -> None:
    still = Pilot([Curve(np.full(100, 2.0), False, 1.0)] * 50, 50, 200, 10_000, None, math.nan, (), 25.0)
    forecast = make_forecast(still, 1e-4, 100, 800)
    assert forecast.without_tail == 50
    assert forecast.recommendation.max_steps_per_example is None
    said = format_forecast(forecast, "cpu")
    assert "plan again with 10 times the --lr, or a larger --max_steps_per_example" in said
    assert "50 of the 50 curves end before their tail: nobody knows when these come" in said
    assert "never or unknown" in said
    assert "nan" not in said
    assert "Not in that time, and not known: asking the model about more images." in said
    json.loads(json_text(asdict(forecast)))


def test_the_advice_is_for_what_is_wrong() -> None:
    diverged = Curve(np.array([2.0, math.inf]), True, 0.1)
    many = replace(pilot(1000, 0.01), curves=[diverged] * 20 + list(pilot(1000, 0.01).curves[:30]))
    assert "plan again with a smaller --lr: 20 of 50 examples diverged" in format_forecast(
        make_forecast(many, 0.01, 1000, -1), "cpu"
    )
    few = replace(pilot(20, 0.001), curves=pilot(20, 0.001).curves[:3])
    assert "a longer pilot (--pilot_minutes): 3 curves are too few" in format_forecast(
        make_forecast(few, 0.001, 1000, -1), "cpu"
    )


def test_what_is_too_far_is_said_and_not_recommended() -> None:
    forecast = make_forecast(pilot(500, 1e-6), 1e-6, 10**9, 800)
    assert "More than 10 times as far as was seen the intervals are too narrow." in format_forecast(forecast, "cpu")
    assert forecast.recommendation.epsilon == 1e-3


def test_what_cannot_be_bounded_says_so() -> None:
    forecast = make_forecast(replace(pilot(1000, 0.01), curves=pilot(1000, 0.01).curves[:10]), 0.01, 1000, 550)
    assert " or more)" in format_forecast(forecast, "cpu")


@pytest.mark.parametrize(("size", "said"), [(5, "5 bytes"), (12_300, "12 kB"), (4.2e9, "4 GB"), (3.21e12, "3.2 TB")])
def test_sizes_are_for_people(size: float, said: str) -> None:
    assert format_size(size) == said
