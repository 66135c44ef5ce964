"""What a study would reach, take and see, from the curves of its pilot: the numbers of `plan`, and its words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_app.analysis.forecast import (
    Curve,
    Interval,
    ThresholdForecast,
    cost_of_steps,
    forecast,
    round_up,
    seconds_taken,
    steps_taken,
    total_of_rest,
)
from lightning_app.analysis.statistics import pairs_to_see, smallest_visible
from lightning_app.training.trajectory import THRESHOLDS

ENOUGH_REACH = 0.8
"""The share of examples that should reach epsilon: of the others a study has the order of none."""
EFFECTS = (0.15, 0.10)
"""Correlations that a study may want to tell from zero; the published ones are .12 to .19."""
A_LOSS_WITHIN_REACH = 1e-2
FASTER = 10
"""Times the learning rate, where the curves don't tell how many steps would do."""
DEVICES = (2, 4, 8)


@dataclass(frozen=True)
class Pilot:
    """The first examples of the draw, trained.

    Args:
        curves: Of those that could be trained; at least two.
        examples: Of the pilot, with those that could not.
        drawn: How many images were looked at, in draw order, to find them.
        candidates: How many there are to look at.
        asks: Whether the model itself is asked what it gets right.
        seconds_an_answer: That it takes for an image; NaN if not known.
        others_done: Examples of the study that are done and not of the pilot.
        bytes_a_step: Of the step logs.
    """

    curves: Sequence[Curve]
    examples: int
    drawn: int
    candidates: int
    asks: bool
    seconds_an_answer: float
    others_done: int
    bytes_a_step: float

    @property
    def available(self) -> int:
        """About how many examples there are; exact where all images were looked at."""
        return max(self.examples, round(self.candidates * self.examples / self.drawn))

    def seconds_asking(self, examples: int) -> float:
        """For the answers that drawing a sample of some size still needs; NaN if not known."""
        more = max(examples - self.examples, 0) * (self.drawn / self.examples if self.asks else 1.0)
        return more * self.seconds_an_answer if more else 0.0

    def left(self, examples: int) -> int:
        """How many examples of a sample of some size are neither of the pilot nor done."""
        return max(examples - self.examples - self.others_done, 0)

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
class Outlook:
    """What is to be expected of a study.

    Args:
        epsilon: That was asked for.
        max_steps_per_example: Likewise.
        pilot_examples: Whose curves the forecast is from.
        pilot_steps: The most that one of them took.
        pilot_seconds: That they took.
        cut_short: Pilot examples that were given up before they came to epsilon.
        without_tail: Of them, those whose curves ended before their tail: where they have not come they never come.
        available: About how many examples there are to draw from.
        left: Examples of the study that are to be trained beside the pilot's.
        thresholds: By name, for those.
        samples: The study's own size last.
        seconds_an_example: Beside its steps.
        seconds_a_step: On this device.
        seconds_asking: For the answers of the model that drawing the sample still needs, within the hours; NaN if not
            known, and then not within the hours.
        hours_on_devices: At best, on so many such devices.
        step_log_bytes: Of the step logs that are still to be written.
        recommendation: What to do.
    """

    epsilon: float
    max_steps_per_example: int
    pilot_examples: int
    pilot_steps: int
    pilot_seconds: float
    cut_short: int
    without_tail: int
    available: int
    left: int
    thresholds: dict[str, ThresholdForecast]
    samples: tuple[Sample, ...]
    seconds_an_example: float
    seconds_a_step: float
    seconds_asking: float
    hours_on_devices: dict[int, Interval]
    step_log_bytes: Interval
    recommendation: Recommendation

    @property
    def censored(self) -> float:
        """The share that will not reach epsilon."""
        return 1 - self.thresholds["epsilon"].share.value


def look_ahead(pilot: Pilot, epsilon: float, max_steps: int, max_examples: int) -> Outlook:
    """Forecasts a study.

    Args:
        pilot: Its pilot.
        epsilon: Of the study.
        max_steps: Steps after which it gives an example up.
        max_examples: Its size, or -1 for all there are.
    """
    an_example, a_step = cost_of_steps(pilot.curves)

    def sample(examples: int, epsilon: float, max_steps: int) -> Sample:
        asking = pilot.seconds_asking(examples)
        seconds = pilot.total_left(seconds_taken(pilot.curves, epsilon, max_steps), max_steps, examples)
        seconds = seconds.plus(asking if math.isfinite(asking) else 0.0)
        return Sample(examples, smallest_visible(examples), seconds.times(1 / 3600))

    size = pilot.available if max_examples == -1 else min(max_examples, pilot.available)
    thresholds = {name: value for name, value in THRESHOLDS.items() if value > epsilon}
    lines = forecast(pilot.curves, {**thresholds, "epsilon": epsilon}, max_steps, pilot.left(size))
    others = [n for n in map(pairs_to_see, EFFECTS) if n < pilot.available and n != size]
    whole = sample(size, epsilon, max_steps)
    to_epsilon, steps = _within_reach(lines, epsilon, max_steps)
    best = min(pilot.available, pairs_to_see(EFFECTS[-1]))
    return Outlook(
        epsilon=epsilon,
        max_steps_per_example=max_steps,
        pilot_examples=len(pilot.curves),
        pilot_steps=max(len(curve.losses) for curve in pilot.curves),
        pilot_seconds=sum(curve.seconds for curve in pilot.curves),
        cut_short=sum(not curve.ended for curve in pilot.curves),
        without_tail=sum(not curve.ended and not curve.shows_its_tail for curve in pilot.curves),
        available=pilot.available,
        left=pilot.left(size),
        thresholds=lines,
        samples=(*(sample(n, epsilon, max_steps) for n in others), whole),
        seconds_an_example=an_example,
        seconds_a_step=a_step,
        seconds_asking=pilot.seconds_asking(size),
        hours_on_devices={n: whole.hours.times(1 / n) for n in DEVICES},
        step_log_bytes=pilot.total_left(steps_taken(pilot.curves, epsilon, max_steps), max_steps, size).times(
            pilot.bytes_a_step
        ),
        recommendation=Recommendation(to_epsilon, steps, sample(best, to_epsilon, steps or max_steps)),
    )


def _within_reach(lines: dict[str, ThresholdForecast], epsilon: float, max_steps: int) -> tuple[float, int | None]:
    """A loss that enough examples reach, and the steps for it.

    The smallest that they reach in the steps allowed, if it is 1e-2 or less; else 1e-2 with more steps; where the
    curves don't tell how many, a larger loss.
    """
    enough = [line for name, line in lines.items() if name != "ln2" and line.share.low >= ENOUGH_REACH]
    wanted = next(line for line in lines.values() if line.threshold <= max(epsilon, A_LOSS_WITHIN_REACH))
    if enough and enough[-1].threshold <= wanted.threshold:
        return enough[-1].threshold, max_steps
    if math.isfinite(wanted.ninetieth.high):
        return wanted.threshold, round_up(wanted.ninetieth.high)
    return (enough[-1].threshold, max_steps) if enough else (wanted.threshold, None)


def words(outlook: Outlook, device: str) -> str:
    """The forecast for a terminal."""
    width = max(len(_interval(line.share, _percent)) for line in outlook.thresholds.values())
    lines = [
        f"Forecast for {outlook.left:,} more examples from the curves of {outlook.pilot_examples}, with 80 % intervals",
        "",
        f"{'loss at or below':>16}  {f'reached within {outlook.max_steps_per_example:,} steps':<{max(width, 28)}}"
        f"  {'steps in the median':<28}  steps in the 90th percentile",
    ]
    for name, line in outlook.thresholds.items():
        label = "ln 2" if name == "ln2" else f"{line.threshold:g}"
        lines.append(
            f"{label:>16}  {_interval(line.share, _percent):<{max(width, 28)}}"
            f"  {_interval(line.median, _steps):<28}  {_interval(line.ninetieth, _steps)}"
        )
    if outlook.cut_short:
        lines.append(
            f"{outlook.cut_short} of the curves were cut short, at {outlook.pilot_steps:,} steps at most, and are"
            " extrapolated: a power of the step, fitted to the last fifth."
        )
    lines += [
        "",
        f"{'examples':>16}  {'sees a correlation of':<28}  time on {device}",
    ]
    lines += [
        f"{sample.examples:>16,}  {f'{sample.smallest_visible:.3f} or more':<28}  {_interval(sample.hours, _time)}"
        for sample in outlook.samples
    ]
    devices = ", ".join(f"{n}: {_time(hours.value)}" for n, hours in outlook.hours_on_devices.items())
    lines += [
        "To see is to tell from zero in 80 % of such samples (two-sided, p < .05). There are about"
        f" {outlook.available:,} examples to draw from.",
        f"A step takes {1000 * outlook.seconds_a_step:.1f} ms. The last line on several such devices, at best:"
        f" {devices}. Step logs: {_interval(outlook.step_log_bytes, size_in_words)}.",
    ]
    if outlook.seconds_asking > 0:
        lines.append(f"Within that time, asking the model what it gets right: {_time(outlook.seconds_asking / 3600)}.")
    if outlook.without_tail:
        lines.append(
            f"{outlook.without_tail} of the {outlook.pilot_examples} curves end before their tail and count as never:"
            " a longer pilot (--pilot_minutes) would tell."
        )
    return "\n".join([*lines, "", _advice(outlook)])


def _advice(outlook: Outlook) -> str:
    best = outlook.recommendation
    if best.max_steps_per_example is None:
        return (
            f"Recommended: plan again with {FASTER} times the --lr, or a longer pilot (--pilot_minutes); these curves"
            f" can't tell how many steps bring enough examples to a loss of {best.epsilon:g}."
        )
    return (
        f"Recommended: --epsilon {best.epsilon:g} --max_steps_per_example {best.max_steps_per_example} --max_examples"
        f" {best.sample.examples}: sees a correlation of {best.sample.smallest_visible:.2f},"
        f" {_interval(best.sample.hours, _time)}"
    )


def _interval(interval: Interval, say: Callable[[float], str]) -> str:
    value, low, high = say(interval.value), say(interval.low), say(interval.high)
    if math.isinf(interval.high) and math.isfinite(interval.value):
        return f"{value} ({low} or more)"
    return value if value == low == high else f"{value} ({low} to {high})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _steps(steps: float) -> str:
    return "never" if math.isinf(steps) else f"{steps:,.0f}" if steps < 1e7 else f"{steps:.1e}"


def _time(hours: float) -> str:
    if math.isinf(hours):
        return "unknown"
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def size_in_words(size: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
