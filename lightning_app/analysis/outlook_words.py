"""What `plan` says on the screen: its numbers in words, and what to do."""

import math
from collections.abc import Callable

from lightning_app.analysis.forecast import TOO_FAR, Interval
from lightning_app.analysis.outlook import ENOUGH_REACH, Outlook

FASTER = 10
"""Times the learning rate, where the curves don't tell how many steps would do."""
FEWEST_CURVES = 10
"""Below, a pilot says little."""


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
    ends = [line.ninetieth.value for line in outlook.thresholds.values()]
    farthest = max((steps for steps in ends if math.isfinite(steps)), default=0)
    if farthest > TOO_FAR * outlook.pilot_steps:
        lines.append(f"More than {TOO_FAR} times as far as was seen the intervals are too narrow.")
    if outlook.without_tail:
        lines.append(
            f"{outlook.without_tail} of the {outlook.pilot_examples} curves end before their tail: nobody knows when"
            " these come, at the next step or never, and the intervals say so."
        )
    lines += [
        "",
        f"{'examples':>16}  {'sees a correlation of':<28}  time on {device}",
    ]
    lines += [
        f"{sample.examples:>16,}  {_sees(sample.smallest_visible):<28}  {_interval(sample.hours, _time)}"
        for sample in outlook.samples
    ]
    devices = ", ".join(f"{_time(hours.value)} on {n}" for n, hours in outlook.hours_on_devices.items())
    lines += [
        "To see is to tell from zero in 80 % of such samples (two-sided, p < .05). There are about"
        f" {outlook.available:,} examples to draw from.",
        "The last line is for what is left of the study as it was asked for; shared among such devices, at best:"
        f" {devices}.",
        f"A step takes {1000 * outlook.seconds_a_step:.1f} ms; log and step logs still to write:"
        f" {_interval(outlook.step_log_bytes, size_in_words)}.",
    ]
    if math.isnan(outlook.seconds_asking):
        lines.append("Not in that time, and not known: asking the model about more images.")
    elif outlook.seconds_asking:
        lines.append(f"In that time: asking the model about more images, {_time(outlook.seconds_asking / 3600)}.")
    return "\n".join([*lines, "", _advice(outlook)])


def _advice(outlook: Outlook) -> str:
    best = outlook.recommendation
    if best.max_steps_per_example is None:
        if outlook.diverged > outlook.pilot_examples * (1 - ENOUGH_REACH):
            what = f"a smaller --lr: {outlook.diverged} of {outlook.pilot_examples} examples diverged"
        elif outlook.pilot_examples < FEWEST_CURVES:
            what = f"a longer pilot (--pilot_minutes): {outlook.pilot_examples} curves are too few"
        elif outlook.pilot_steps < outlook.max_steps_per_example:
            what = f"{FASTER} times the --lr, or a longer pilot (--pilot_minutes): the curves end too early"
        else:
            what = f"{FASTER} times the --lr, or a larger --max_steps_per_example: the curves end too early"
        return f"Recommended: plan again with {what} to tell what brings most examples to a loss of {best.epsilon:g}."
    other = "" if best.epsilon == outlook.epsilon else "; another epsilon is another study: give another --output_dir"
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


def size_in_words(size: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
