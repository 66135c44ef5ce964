"""What `plan` forecasts of a study, in numbers and in words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_app.analysis.extrapolation import (
    TOO_FAR,
    Curve,
    Interval,
    ThresholdForecast,
    forecast_thresholds,
    round_up,
    seconds_taken,
    steps_taken,
    total_of_rest,
)
from lightning_app.analysis.statistics import pairs_to_see, smallest_visible
from lightning_app.console.table import aligned
from lightning_app.data.stop_rule import THRESHOLDS

MIN_REACHED = 0.8
"""The share of examples that should reach epsilon: of the others a study has the order of none."""
EFFECTS = (0.15, 0.10)
"""Correlations that a study may want to tell from zero; the published ones are .12 to .19."""
A_LOSS_WITHIN_REACH = 1e-2
DEVICES = (2, 4, 8)


@dataclass(frozen=True)
class Pilot:
    """The first examples of the draw, trained.

    Args:
        curves: Of those that have been trained; at least two.
        examples: That were drawn for it.
        drawn: How many images were looked at, in draw order, to find them.
        candidates: How many there are to look at.
        known: How many of these are examples, where a matrix says so, else None.
        seconds_an_answer: That the model takes for an image; NaN if not known.
        others_done: For each other example that is done, its place among the candidates in draw order, from 0.
        bytes_a_step: Of the study's log and the step logs.
    """

    curves: Sequence[Curve]
    examples: int
    drawn: int
    candidates: int
    known: int | None
    seconds_a_prediction: float
    others_done: Sequence[int]
    bytes_a_step: float

    @property
    def available(self) -> int:
        """About how many examples there are; exact where a matrix says so, or all images were looked at.

        The last image looked at was an example, since the drawing ended with it, and says nothing of the others.
        """
        if self.known is not None or self.drawn == self.candidates:
            return self.known or self.examples
        return max(self.examples, round(self.candidates * (self.examples - 1) / (self.drawn - 1)))

    def seconds_asking(self, examples: int) -> float:
        """For the answers that drawing a sample of some size still needs; NaN if not known."""
        more = max(examples - self.examples, 0) * (self.drawn / self.examples if self.known is None else 1.0)
        return more * self.seconds_a_prediction if more else 0.0

    def left(self, examples: int) -> int:
        """How many examples of a sample of some size are neither trained for the pilot nor done."""
        reach = examples * self.drawn / self.examples
        return max(examples - len(self.curves) - sum(place < reach for place in self.others_done), 0)

    def total_left(self, each: Sequence[float], max_steps: int, examples: int) -> Interval:
        """What a sample still takes, of steps or seconds.

        Those of the pilot that gave up earlier than is allowed now are trained again, from their beginning.

        Args:
            each: What every example of the pilot takes.
            max_steps: Allowed now.
            examples: Of the sample.
        """
        again = [
            value
            for value, curve in zip(each, self.curves, strict=True)
            if not curve.ended and len(curve.losses) < max_steps
        ]
        return total_of_rest(each, self.left(examples)).plus(sum(again))


@dataclass(frozen=True)
class Sample:
    """What a sample of some size sees and costs.

    Args:
        examples: In it.
        smallest_visible: The smallest correlation that it tells from zero in 80 % of cases.
        hours: For what is left of it, on this device.
    """

    examples: int
    smallest_visible: float
    hours: Interval


@dataclass(frozen=True)
class Recommendation:
    """Flags that make a study which can see something.

    Args:
        epsilon: A loss that most examples reach.
        max_steps_per_example: Within so many steps; None where the curves don't tell, and a larger learning rate is to
            be tried first.
        sample: So many examples.
    """

    epsilon: float
    max_steps_per_example: int | None
    sample: Sample


@dataclass(frozen=True)
class Forecast:
    """What is to be expected of a study.

    Args:
        epsilon: That was asked for.
        max_steps_per_example: Likewise.
        pilot_examples: Whose curves the forecast is from.
        pilot_steps: The most that one of them took.
        pilot_seconds: That they took.
        cut_short: Pilot examples that were given fewer steps than the study gives, and did not come to epsilon.
        without_tail: Pilot examples that did not, and whose curves ended before their tail: nobody knows when they do.
        diverged: Pilot examples whose loss ended as not finite.
        available: About how many examples there are to draw from.
        left: Examples of the study that are to be trained beside the pilot's.
        thresholds: By name, for those.
        samples: The study's own size last.
        seconds_a_step: On this device.
        seconds_asking: For the answers of the model that drawing the sample still needs, within the hours; NaN if not
            known, and then not within the hours.
        hours_on_devices: At best, on so many such devices.
        step_log_bytes: Of the study's log and the step logs that are still to be written.
        recommendation: What to do.
    """

    epsilon: float
    max_steps_per_example: int
    pilot_examples: int
    pilot_steps: int
    pilot_seconds: float
    cut_short: int
    without_tail: int
    diverged: int
    available: int
    left: int
    thresholds: dict[str, ThresholdForecast]
    samples: tuple[Sample, ...]
    seconds_a_step: float
    seconds_asking: float
    hours_on_devices: dict[int, Interval]
    step_log_bytes: Interval
    recommendation: Recommendation

    @property
    def censored(self) -> float:
        """The share that will not reach epsilon."""
        return 1 - self.thresholds["epsilon"].share.value


def make_forecast(pilot: Pilot, epsilon: float, max_steps: int, max_examples: int) -> Forecast:
    """Forecasts a study.

    Args:
        pilot: Its pilot.
        epsilon: Of the study.
        max_steps: Steps after which it gives an example up.
        max_examples: Its size, or -1 for all there are.
    """

    def sample(examples: int, to: float, max_steps: int) -> Sample:
        asking = pilot.seconds_asking(examples)
        each = seconds_taken(pilot.curves, to, max_steps)
        # Another epsilon is another study, which keeps nothing of this one.
        keeps = to == epsilon
        seconds = pilot.total_left(each, max_steps, examples) if keeps else total_of_rest(each, examples)
        seconds = seconds.plus(asking if math.isfinite(asking) else 0.0)
        return Sample(examples, smallest_visible(examples), seconds.times(1 / 3600))

    size = pilot.available if max_examples == -1 else min(max_examples, pilot.available)
    thresholds = {name: value for name, value in THRESHOLDS.items() if value > epsilon}
    lines = forecast_thresholds(pilot.curves, {**thresholds, "epsilon": epsilon}, max_steps, pilot.left(size))
    others = [n for n in map(pairs_to_see, EFFECTS) if n < pilot.available and n != size]
    whole = sample(size, epsilon, max_steps)
    longest = max(len(curve.losses) for curve in pilot.curves)
    to_epsilon, steps = _within_reach(lines, epsilon, max_steps, longest)
    best = min(pilot.available, pairs_to_see(EFFECTS[-1]))
    return Forecast(
        epsilon=epsilon,
        max_steps_per_example=max_steps,
        pilot_examples=len(pilot.curves),
        pilot_steps=longest,
        pilot_seconds=sum(curve.seconds for curve in pilot.curves),
        cut_short=sum(not curve.ended and len(curve.losses) < max_steps for curve in pilot.curves),
        without_tail=sum(not curve.ended and not curve.shows_its_tail for curve in pilot.curves),
        diverged=sum(curve.ended and not curve.losses[-1] <= epsilon for curve in pilot.curves),
        available=pilot.available,
        left=pilot.left(size),
        thresholds=lines,
        samples=(*(sample(n, epsilon, max_steps) for n in others), whole),
        seconds_a_step=sum(curve.seconds for curve in pilot.curves) / sum(len(curve.losses) for curve in pilot.curves),
        seconds_asking=pilot.seconds_asking(size),
        hours_on_devices={n: whole.hours.times(1 / n) for n in DEVICES},
        step_log_bytes=pilot.total_left(steps_taken(pilot.curves, epsilon, max_steps), max_steps, size).times(
            pilot.bytes_a_step
        ),
        recommendation=Recommendation(to_epsilon, steps, sample(best, to_epsilon, steps or max_steps)),
    )


def _within_reach(
    lines: dict[str, ThresholdForecast], epsilon: float, max_steps: int, longest: int
) -> tuple[float, int | None]:
    # The smallest that they reach in the steps allowed, if it is 1e-2 or less; else 1e-2 with more steps; where the
    # curves don't tell how many, a larger loss. No fewer steps than the pilot was given, and nothing that is too far.

    def steps(line: ThresholdForecast) -> int:
        return max(longest, round_up(line.ninetieth.high)) if math.isfinite(line.ninetieth.high) else max_steps

    near = {name: line for name, line in lines.items() if line.ninetieth.value <= TOO_FAR * longest}
    enough = [line for name, line in near.items() if name != "ln2" and line.share.low >= MIN_REACHED]
    wanted = next(line for line in lines.values() if line.threshold <= max(epsilon, A_LOSS_WITHIN_REACH))
    if enough and enough[-1].threshold <= wanted.threshold:
        return enough[-1].threshold, min(max_steps, steps(enough[-1]))
    if math.isfinite(wanted.ninetieth.high) and wanted in near.values():
        return wanted.threshold, steps(wanted)
    return (enough[-1].threshold, min(max_steps, steps(enough[-1]))) if enough else (wanted.threshold, None)


FASTER = 10
"""Times the learning rate, where the curves don't tell how many steps would do."""
MIN_CURVES = 10
"""Below, a pilot says little."""


def format_forecast(forecast: Forecast, device: str) -> str:
    """The forecast for a terminal."""
    within = f"reached within {forecast.max_steps_per_example:,} steps"
    rows = [("loss at or below", within, "steps in the median", "steps in the 90th percentile")]
    for name, line in forecast.thresholds.items():
        label = "ln 2" if name == "ln2" else f"{line.threshold:g}"
        ranges = (_interval(line.share, _percent), _interval(line.median, _steps), _interval(line.ninetieth, _steps))
        rows.append((label, *ranges))
    widths = [max(28, *(len(row[column]) for row in rows[1:])) for column in (1, 2)]
    lines = [
        f"Forecast for {forecast.left:,} more examples from the curves of {forecast.pilot_examples}, with 80 %"
        " intervals",
        "",
        *aligned(rows, "><<<", (16, *widths)),
    ]
    if forecast.cut_short:
        lines.append(
            f"{forecast.cut_short} of the curves were cut short, at {forecast.pilot_steps:,} steps at most, and are"
            " extrapolated: a power of the step, fitted to the last fifth."
        )
    ends = [line.ninetieth.value for line in forecast.thresholds.values()]
    farthest = max((steps for steps in ends if math.isfinite(steps)), default=0)
    if farthest > TOO_FAR * forecast.pilot_steps:
        lines.append(f"More than {TOO_FAR} times as far as was seen the intervals are too narrow.")
    if forecast.without_tail:
        lines.append(
            f"{forecast.without_tail} of the {forecast.pilot_examples} curves end before their tail: nobody knows when"
            " these come, at the next step or never, and the intervals say so."
        )
    sizes = [
        (f"{sample.examples:,}", _sees(sample.smallest_visible), _interval(sample.hours, _time))
        for sample in forecast.samples
    ]
    lines += ["", *aligned([("examples", "sees a correlation of", f"time on {device}"), *sizes], "><<", (16, 28))]
    devices = ", ".join(f"{_time(hours.value)} on {n}" for n, hours in forecast.hours_on_devices.items())
    lines += [
        "To see is to tell from zero in 80 % of such samples (two-sided, p < .05). There are about"
        f" {forecast.available:,} examples to draw from.",
        "The last line is for what is left of the study as it was asked for; shared among such devices, at best:"
        f" {devices}.",
        f"A step takes {1000 * forecast.seconds_a_step:.1f} ms; log and step logs still to write:"
        f" {_interval(forecast.step_log_bytes, format_size)}.",
    ]
    if math.isnan(forecast.seconds_asking):
        lines.append("Not in that time, and not known: asking the model about more images.")
    elif forecast.seconds_asking:
        lines.append(f"In that time: asking the model about more images, {_time(forecast.seconds_asking / 3600)}.")
    return "\n".join([*lines, "", _advice(forecast)])


def _advice(forecast: Forecast) -> str:
    best = forecast.recommendation
    if best.max_steps_per_example is None:
        if forecast.diverged > forecast.pilot_examples * (1 - MIN_REACHED):
            what = f"a smaller --lr: {forecast.diverged} of {forecast.pilot_examples} examples diverged"
        elif forecast.pilot_examples < MIN_CURVES:
            what = f"a longer pilot (--pilot_minutes): {forecast.pilot_examples} curves are too few"
        elif forecast.pilot_steps < forecast.max_steps_per_example:
            what = f"{FASTER} times the --lr, or a longer pilot (--pilot_minutes): the curves end too early"
        else:
            what = f"{FASTER} times the --lr, or a larger --max_steps_per_example: the curves end too early"
        return f"Recommended: plan again with {what} to tell what brings most examples to a loss of {best.epsilon:g}."
    other = "" if best.epsilon == forecast.epsilon else "; another epsilon is another study: give another --output_dir"
    return (
        f"Recommended: --epsilon {best.epsilon:g} --max_steps_per_example {best.max_steps_per_example} --max_examples"
        f" {best.sample.examples} ({_sees(best.sample.smallest_visible)} can be seen, in"
        f" {_interval(best.sample.hours, _time)}{other})"
    )


def _sees(rho: float) -> str:
    return "nothing" if math.isnan(rho) else f"{rho:.3f} or more"


def _interval(interval: Interval, say: Callable[[float], str]) -> str:
    value, low, high = say(interval.value), say(interval.low), say(interval.high)
    if math.isinf(interval.high) and math.isfinite(interval.value):
        return f"{value} ({low} or more)"
    return value if value == low == high else f"{value} ({low} to {high})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _steps(steps: float) -> str:
    return "never or unknown" if math.isinf(steps) else f"{steps:,.0f}" if steps < 1e7 else f"{steps:.1e}"


def _time(hours: float) -> str:
    if math.isinf(hours):
        return "unknown"
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def format_size(size: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
