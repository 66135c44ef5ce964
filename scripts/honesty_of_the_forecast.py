"""How often the forecast's 80 % intervals hold: pilots drawn from a study that is done, against the rest of it.

    python scripts/honesty_of_the_forecast.py outputs/MODEL --pilot_steps 2000

The study should have many more steps than the pilots are given, so that what they extrapolate is known.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lightning_app.analysis.extrapolation import (
    Curve,
    Interval,
    quantile_of_rest,
    seconds_taken,
    share_of_rest,
    total_of_rest,
)
from lightning_app.store.study_log import read_study

THRESHOLDS = (1e-2, 1e-3, 1e-4)
SEED = 0

Judge = Callable[[list[int], list[int]], bool]
"""Whether an interval from the pilot's examples holds what the rest's did."""


def main() -> None:
    """Prints a line a forecast."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the study's folder")
    parser.add_argument("--pilot_steps", type=int, default=2000, help="that a pilot example is given")
    parser.add_argument("--pilot_examples", type=int, default=50)
    parser.add_argument("--pilots", type=int, default=200, help="how many are drawn")
    asked = parser.parse_args()
    whole, epsilon, known_for = read(asked.folder)
    print(f"{len(whole)} examples, up to {known_for} steps; {asked.pilots} pilots of {asked.pilot_examples} examples,"
          f" up to {asked.pilot_steps} steps. In how many the 80 % interval holds what the others did:")  # fmt: skip
    for what, judge, truth in judges(whole, epsilon, known_for, asked.pilot_steps):
        chance = np.random.default_rng(SEED)
        held = []
        for _ in range(asked.pilots):
            order = chance.permutation(len(whole)).tolist()
            held.append(judge(order[: asked.pilot_examples], order[asked.pilot_examples :]))
        print(f"  {what:<44} {np.mean(held):6.1%}   (all examples: {truth})")


def read(folder: Path) -> tuple[list[Curve], float, int]:
    """A study's whole curves, its epsilon, and the steps that its examples were given."""
    study = read_study(folder)
    assert study is not None, f"{folder} holds no study"
    curves = [
        Curve(study.losses_of(path), stored.line.outcome != "censored", stored.line.seconds or 0.0)
        for path, stored in study.examples.items()
        if stored.line.outcome != "error"
    ]
    return curves, study.epsilon, study.target.max_steps_per_example


def judges(whole: list[Curve], epsilon: float, known_for: int, given: int) -> list[tuple[str, Judge, str]]:
    """Each forecast with a name and what is true of all examples."""
    cut = [curve if len(curve.losses) <= given else _cut(curve, given) for curve in whole]
    found: list[tuple[str, Judge, str]] = []
    for threshold in THRESHOLDS:
        if threshold < epsilon:
            continue
        hits = [np.flatnonzero(curve.losses <= threshold) for curve in whole]
        truth = np.array([hit[0] + 1.0 if hit.size else math.inf for hit in hits])
        guess = [curve.steps_to(threshold) for curve in cut]
        for limit in sorted({100, given, min(2 * given, known_for), known_for}):
            if 0 < (truth <= limit).mean() < 1:  # else there is nothing to miss
                found.append((f"share at {threshold:g} in {limit} steps", _share(guess, truth, limit),
                              f"{(truth <= limit).mean():.1%}"))  # fmt: skip
        for q in (0.5, 0.9):
            if math.isinf(np.quantile(truth, q, method="inverted_cdf")):  # it is not known
                continue
            found.append((f"{q:.0%} quantile of the steps to {threshold:g}", _quantile(guess, truth, q, known_for),
                          f"{np.quantile(truth, q, method='inverted_cdf'):g}"))  # fmt: skip
    if any(curve.seconds for curve in whole):
        seconds = np.array([curve.seconds for curve in whole])
        found.append(("time", _time(cut, seconds, epsilon, known_for), f"{seconds.sum():.0f} s"))
    return found


def _cut(curve: Curve, steps: int) -> Curve:
    """As a pilot with fewer steps would have left it; it has taken its share of the seconds."""
    return Curve(curve.losses[:steps], False, curve.seconds * steps / len(curve.losses))


def _share(guess: Sequence[Interval], truth: np.ndarray, limit: int) -> Judge:
    def holds(pilot: list[int], rest: list[int]) -> bool:
        return _within(float((truth[rest] <= limit).mean()), share_of_rest([guess[i] for i in pilot], limit, len(rest)))

    return holds


def _quantile(guess: Sequence[Interval], truth: np.ndarray, q: float, known_for: int) -> Judge:
    def holds(pilot: list[int], rest: list[int]) -> bool:
        interval = quantile_of_rest([guess[i] for i in pilot], q, len(rest))
        steps = float(np.sort(truth[rest])[math.ceil(q * len(rest)) - 1])
        return interval.high > known_for if math.isinf(steps) else _within(steps, interval)

    return holds


def _time(cut: list[Curve], seconds: np.ndarray, epsilon: float, known_for: int) -> Judge:
    def holds(pilot: list[int], rest: list[int]) -> bool:
        interval = total_of_rest(seconds_taken([cut[i] for i in pilot], epsilon, known_for), len(rest))
        return _within(float(seconds[rest].sum()), interval)

    return holds


def _within(value: float, interval: Interval) -> bool:
    return interval.low - 1e-9 <= value <= interval.high + 1e-9


if __name__ == "__main__":
    main()
